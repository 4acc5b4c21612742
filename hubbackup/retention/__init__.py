"""Which backups stay and which go: the pure policy, its forecast, and the prune that applies it."""
