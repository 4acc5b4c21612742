"""Rows of one table brought back from a backup into the live database.

Not here: whole databases (`restore`), and what only looks (`contents`).
"""
