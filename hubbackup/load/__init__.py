"""A proven dump into an empty database, by one session or by several: the proof, the plan, the sessions.

Not here: the database that it goes into, what is compared afterwards, and the swap (`restore`).
"""
