"""Runs: one guarded run with its id, lock and closing line, the record of past runs, and progress.

A job is anything that a run can execute; what the jobs do stands in their own rooms.
"""
