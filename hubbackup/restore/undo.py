"""Undo: swap back the database that the last restore put aside."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from hubbackup.catalog.restored import Restored
from hubbackup.errors import UsageError
from hubbackup.jobs.kinds import RunKind
from hubbackup.jobs.results import UndoResult
from hubbackup.jobs.run import Outcome, Run
from hubbackup.postgres import run_lock
from hubbackup.postgres.databases import Databases
from hubbackup.postgres.run_lock import NO_LOCK
from hubbackup.postgres.server import Server
from hubbackup.postgres.session import Connection
from hubbackup.postgres.side_databases import derived_name, derived_time
from hubbackup.restore import extensions
from hubbackup.runners import Runner
from hubbackup.streams.cancel import Cancel


@dataclass(frozen=True)
class UndoJob:
    """Swaps back what the last restore of `target` put aside; what is live now is put aside in its turn."""

    target: str
    open_runner: Callable[[Cancel], Runner]
    connection: Callable[[str], Connection]
    restored: Restored | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    kind: ClassVar[RunKind] = "undo"
    needs_lock: ClassVar[bool] = True
    begins_itself: ClassVar[bool] = True

    def __call__(self, run: Run) -> Outcome[UndoResult]:
        """Raises UsageError where nothing was put aside, LockHeldError where a run elsewhere is at work on what is
        live, HubbackupError where the swap fails."""
        with contextlib.ExitStack() as stack:
            return self._undo(run, stack)

    def _undo(self, run: Run, stack: contextlib.ExitStack) -> Outcome[UndoResult]:
        target = self.target
        runner, connection = self.open_runner(run.cancel), self.connection(run.run_id)
        databases = Databases(runner, connection, target)
        with run.stage("find"):
            server = databases.look()
            kept = list(kept_aside(server, target))
            if not kept:
                raise UsageError(f"no restore of {target} can be undone: no database {target}_before_… is there")
            newest = kept[-1]
            lock = NO_LOCK
            if target in server.databases:
                lock = stack.enter_context(run_lock.locked(run, runner, connection, target, shared=True))
            run.begin()
        aside = derived_name(target, "before", self.now(), server.databases)
        live = server.databases.get(target)
        with run.stage("swap"):
            lock.expect_its_end()
            databases.swap(live=target, oid=live.oid if live else 0, aside=aside, new=newest, cancel=run.cancel)
        remarks = extensions.after_swap(databases, server, target) if live else []
        for remark in remarks:
            run.log.warning("restore.remark", message=remark)
        if self.restored is not None:
            self.restored.forget(target)
        result = UndoResult(
            database=target,
            restored=newest,
            kept_as=aside if live else "",
            kept_bytes=live.size_bytes if live else 0,
        )
        return Outcome("restore undone", result)


def kept_aside(server: Server, target: str) -> Iterator[str]:
    """The databases that restores of `target` put aside, oldest first."""
    times = {name: derived_time(name, target, "before") for name in server.databases}
    yield from sorted((name for name, time in times.items() if time), key=lambda name: times[name])
