"""How far a piece of work has come, as the log tells it."""

from __future__ import annotations

import itertools

import structlog
from structlog.testing import capture_logs

from hubbackup.jobs.progress import LogProgress


def test_what_is_being_done_is_told_with_the_bytes() -> None:
    """Each event has the bytes and the rate; and, where it is known, in words what is done of what."""
    seconds = itertools.count(0, 60)
    with capture_logs() as logs:
        progress = LogProgress(structlog.get_logger(), "restore.progress", 400, clock=lambda: next(seconds))
        progress(100)
        progress(200, "1 of 2 tables, 0 of 3 indexes; now public.t")
    assert [one["percent"] for one in logs] == [25, 50]
    assert "doing" not in logs[0]
    assert logs[1]["doing"] == "1 of 2 tables, 0 of 3 indexes; now public.t"
    assert "now public.t" in logs[1]["message"]
