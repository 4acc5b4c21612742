"""How fast, how small, how lean: hubbackup beside the ways it replaces. `python -m bench [--quick]`."""
