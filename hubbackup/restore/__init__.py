"""From a backup back to a database: fill a new one beside the live one, compare, swap; undo; drills.

Not here: finding and reading the backup (`verify`), and loading its dump (`load`).
"""
