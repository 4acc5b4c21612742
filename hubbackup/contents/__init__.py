"""What is in a backup, without restoring it: show, diff, extract.

Not here: the index that says where each table stands (`catalog/index`), reading a file (`verify`), finding one
(`verify/source`), and whatever writes to a database (`restore`).
"""
