"""Reading stored copies: the one reading path that proves a file, and the job that reads copies again."""
