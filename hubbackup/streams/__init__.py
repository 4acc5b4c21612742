"""Bytes on their way: codecs, what a stored file is, a file that is read while it grows, reading ahead, cancellation.

Nothing in this room knows of backups or databases.
"""
