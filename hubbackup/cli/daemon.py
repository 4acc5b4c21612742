"""`hubbackup daemon`."""

from __future__ import annotations

import sys

from hubbackup.app.process import Process
from hubbackup.daemon.service import serve


def daemon() -> int:
    """Run backups and drills on schedule until a signal stops it.

    This is the container's own command. A run that fails does not end it, nor do settings that can't be used: it
    says so, and waits for better ones. Changed settings are taken up within the minute.
    """
    return serve(Process(sys.stdout, for_daemon=True))
