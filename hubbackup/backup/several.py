"""A run for several databases: a backup of each, one after the other, whatever becomes of the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import ClassVar

from hubbackup.errors import HubbackupError, InternalError, LockHeldError, StoppedError
from hubbackup.jobs.parts import Part, PartsFailedError
from hubbackup.jobs.progress import Progress
from hubbackup.jobs.results import BackupResult, BackupsResult
from hubbackup.jobs.run import Job, Outcome, Run


@dataclass(frozen=True)
class Chosen:
    """A database to back up, or why it can't be."""

    database: str
    problem: HubbackupError | None = None


@dataclass(frozen=True)
class BackupsJob:
    """Backs up each database that `choose` finds, by the job that `job_of` makes for it."""

    choose: Callable[[Run], Sequence[Chosen]]
    job_of: Callable[[str], Job[BackupResult]]
    kind: ClassVar[str] = "backup"
    needs_lock: ClassVar[bool] = True

    def __call__(self, run: Run) -> Outcome[BackupsResult]:
        """Raises PartsFailedError where one has no new backup; the others have. HubbackupError before any."""
        with run.stage("databases"):
            chosen = self.choose(run)
        parts = tuple(self._parts(run, chosen))
        if failed := [part for part in parts if part.failed]:
            if all(isinstance(part.ending, LockHeldError) for part in parts):
                raise LockHeldError("; ".join(f"{part.database}: {part.ending}" for part in parts))
            causes = "; ".join(f"{part.database}: {part.ending}" for part in failed)
            raise PartsFailedError(f"{len(failed)} of {len(chosen)} databases have no new backup: {causes}", parts)
        problems = [f"{part.database}: {problem}" for part in parts for problem in part.problems]
        result = BackupsResult(tuple(part.summary() for part in parts))
        return Outcome("Backup termine", result, tuple(problems), parts=parts)

    def _parts(self, run: Run, chosen: Sequence[Chosen]) -> Iterator[Part]:
        """What came of each; a stop ends them."""
        for one in chosen:
            part = self._part(run, one)
            _tell(run, part)
            yield part
            if isinstance(part.ending, StoppedError):
                return

    def _part(self, run: Run, chosen: Chosen) -> Part:
        """A run within the run: with its own stage, and the name of its database in each log line."""
        name = chosen.database

        def progress(what: str, total_bytes: int) -> AbstractContextManager[Progress]:
            return run.progress(f"{what} of {name}", total_bytes)

        inner = replace(
            run,
            log=run.log.bind(database=name),
            progress=progress,
            stage_name="start",
            on_stage=lambda stage: run.on_stage(f"{stage} of {name}"),
            database=name,
        )
        started_at, clock = datetime.now(UTC), time.monotonic()
        ending: Outcome[BackupResult] | HubbackupError
        try:
            run.cancel.check()
            if chosen.problem is not None:
                raise chosen.problem
            ending = self.job_of(name)(inner)
        except HubbackupError as error:
            ending = error
        except Exception as error:  # noqa: BLE001 - a fault that one database brings to light is not the others'
            ending = InternalError(error)
        return Part(name, started_at, round(time.monotonic() - clock, 3), ending, inner.stage_name)


def _tell(run: Run, part: Part) -> None:
    """One line for each, as a run of its own would end."""
    facts = part.summary()
    if isinstance(part.ending, HubbackupError):
        error = part.ending
        run.log.error("database.failed", message=f"no backup of {part.database}: {error}", error=error.kind, **facts)
        return
    level = run.log.warning if part.ending.problems else run.log.info
    level("database.backed_up", message=f"{part.database} is backed up: {facts['name']}", **facts)
