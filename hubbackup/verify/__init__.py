"""Reading stored copies: finding the one that is meant, the one reading path that proves a file, reading a part of
one, and the job that reads copies again.
"""
