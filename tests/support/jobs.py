"""Jobs for tests of what is around them: whatever a function does, as a run of any kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hubbackup.jobs.results import BackupResult, Result
from hubbackup.jobs.run import Outcome, Run


@dataclass(frozen=True)
class Doing:
    """A job that does what `body` does."""

    body: Callable[[Run], Outcome[Any]]
    kind: str = "backup"
    needs_lock: bool = True

    def __call__(self, run: Run) -> Outcome[Any]:
        """What `body` raises, it raises."""
        return self.body(run)


def done(message: str = "done", *problems: str) -> Outcome[Result]:
    """The outcome of a run that has nothing to tell but its message."""
    return Outcome(message, Result(), problems)


def a_backup(*, problems: tuple[str, ...] = (), **facts: Any) -> Outcome[BackupResult]:
    """The outcome of a small backup."""
    values: dict[str, Any] = {
        "database": "hub",
        "name": "x.sql.gz",
        "plain_bytes": 50,
        "stored_bytes": 5,
        "dump_seconds": 0.5,
        "verify_seconds": 0.1,
        "plain_bytes_per_second": 100,
        "copies": ("local",),
        "rows": 3,
        "tables": 1,
    }
    return Outcome("Backup termine", BackupResult(**values | facts), problems)
