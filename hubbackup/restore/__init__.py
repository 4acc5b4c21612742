"""From a backup back to a database: find, prove, load beside the live one, compare, swap; undo; drills."""
