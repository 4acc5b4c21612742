"""PostgreSQL's own side: command lines, SQL, sessions, databases as wholes.

Not here: how a command is started (`runners`), and the text of a dump (`dump`).
"""
