"""`hubbackup daemon`."""

from __future__ import annotations

from hubbackup.cli.session import make_app
from hubbackup.daemon.scheduler import Daemon


def daemon() -> int:
    """Run backups and drills on schedule until a signal stops it.

    This is the container's own command. A run that fails does not end it.
    """
    return Daemon(make_app(for_daemon=True)).run()
