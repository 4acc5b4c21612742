"""The catch-up of missing copies: oldest first, and bounded by time."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from hubbackup.backup import catch_up
from hubbackup.backup.catch_up import CatchUp, CaughtUp
from hubbackup.catalog.backup import BackupName
from hubbackup.catalog.listing import scan
from hubbackup.catalog.target import LocalTarget, Policy, Target
from hubbackup.jobs.progress import silent
from hubbackup.jobs.run import Run
from hubbackup.logs.setup import get_logger
from hubbackup.stores.local import LocalStore
from hubbackup.stores.memory import MemoryStore
from hubbackup.streams.cancel import Cancel
from tests.support.backups import put_backup, target_of

ZONE = ZoneInfo("UTC")
START = datetime(2026, 2, 1, 3)


@pytest.fixture
def local(tmp_path: Path) -> LocalTarget:
    return LocalTarget("the local store", LocalStore(tmp_path), Policy(days=0))


def caught_up(local: LocalTarget, remote: Target, budget_seconds: float) -> CaughtUp:
    run = Run("backup", "20260208T030000-1a2b3c", Cancel(), get_logger(), lambda what, total: nullcontext(silent))
    targets = [local, remote]
    now = START.replace(tzinfo=ZONE)
    return CatchUp(local, targets, list(scan(targets)), ZONE, now, budget_seconds)(run, remote)


def made(local: LocalTarget) -> list[BackupName]:
    return [put_backup(local.store, "hub", START + timedelta(days=days)) for days in range(4)]


def test_time_is_bounded_and_the_next_run_goes_on(local: LocalTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the budget is over no upload begins any more; what waits is told, and the next run takes it."""
    names = [str(name) for name in made(local)]
    store = MemoryStore("s3")
    remote = target_of(store)
    clock = [0.0]
    monkeypatch.setattr(catch_up.time, "monotonic", lambda: clock[0])
    create = store.create

    def slow(*arguments: Any, **options: Any):  # type: ignore[no-untyped-def]
        clock[0] += 30
        return create(*arguments, **options)

    monkeypatch.setattr(store, "create", slow)  # a file and its manifest: a minute a backup
    done = caught_up(local, remote, 90)
    assert list(done.uploaded) == names[:2]
    assert done.problems == (f"2 backups wait to be uploaded to {remote.describe()}: no time left in this run",)
    done = caught_up(local, remote, 90)
    assert list(done.uploaded) == names[2:]
    assert done.problems == ()
    assert caught_up(local, remote, 90) == CaughtUp()
