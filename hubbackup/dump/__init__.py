"""The text of a dump: read as psql reads it, counted, and its statements told apart; names as SQL writes them.

Not here: how its bytes are stored (`streams`), and whatever asks a server (`postgres`).
"""
