"""PostgreSQL's own side: command lines, SQL, identifiers, databases as wholes, and the text of a dump.

Not here: how a command is started (`runners`).
"""
