"""Notifications: alerts, the sinks that carry them, the spool between them, and the dead man's switch.

Not here: whether backups are overdue (`status.overdue`), and the log (`logs`).
"""
