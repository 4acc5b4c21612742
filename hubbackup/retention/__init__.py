"""Which backups are kept and which are removed: the pure policy, its forecast, and the prune that applies it."""
