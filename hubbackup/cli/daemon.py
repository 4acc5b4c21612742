"""`hubbackup daemon`."""

from __future__ import annotations


def daemon() -> int:
    """Run the scheduler until a signal stops it (the container's own command)."""
    import sys

    from hubbackup.cli.common import make_app
    from hubbackup.daemon.scheduler import Daemon

    app = make_app(log_stream=sys.stdout)
    return Daemon(app).run()
