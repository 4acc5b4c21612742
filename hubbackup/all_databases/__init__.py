"""Every database of a server at once: the restore of all that a store holds onto an empty server.

Not here: how one database is restored (`restore`), and which of its backups is taken (`verify`).
"""
