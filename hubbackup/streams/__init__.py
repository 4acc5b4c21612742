"""Bytes on their way: codecs, the format of a stored file, a file that is read while it grows, reading ahead, cancellation.

Nothing in this room knows of backups or databases.
"""
