"""A run for several databases: a backup of each, one after the other, whatever becomes of the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import ClassVar

from hubbackup.backup.leaving_out import unmatched
from hubbackup.errors import HubbackupError, InternalError, LockHeldError, StoppedError
from hubbackup.jobs.kinds import RunKind
from hubbackup.jobs.parts import Part, PartsFailedError
from hubbackup.jobs.progress import Progress
from hubbackup.jobs.results import BackupResult, BackupsResult
from hubbackup.jobs.run import Job, Outcome, Run

LOOK_SECONDS = 15.0
"""Between two looks at a database that a run elsewhere is at work on."""
LONGEST_SECONDS = 6 * 3600.0


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
    waits: bool = False
    """Whether a database that a run elsewhere is at work on is waited for: that run may serve its slot, or die."""
    kind: ClassVar[RunKind] = "backup"
    needs_lock: ClassVar[bool] = True
    begins_itself: ClassVar[bool] = True

    def __call__(self, run: Run) -> Outcome[BackupsResult]:
        """Raises PartsFailedError where one has no new backup; the others have. HubbackupError before any."""
        with run.stage("databases"):
            chosen = self.choose(run)
        parts = tuple(self._parts(run, chosen))
        if not run.begun and any(_locked(part) for part in parts):
            raise next(part.ending for part in parts if isinstance(part.ending, LockHeldError))
        if self.waits:
            parts = tuple(self._waited_for(run, part) for part in parts)
        for part in parts:
            _tell(run, part)
        _tell_of_unmatched(run, parts)
        if failed := [part for part in parts if part.failed]:
            causes = "; ".join(f"{part.database}: {part.ending}" for part in failed)
            raise PartsFailedError(f"{len(failed)} of {len(chosen)} databases have no new backup: {causes}", parts)
        problems = [f"{part.database}: {problem}" for part in parts for problem in part.problems]
        result = BackupsResult(tuple(part.summary() for part in parts))
        idle = all(isinstance(part.ending, Outcome) and part.ending.not_needed for part in parts)
        message = "no backup is needed: another daemon has made those of this slot" if idle else "Backup termine"
        return Outcome(message, result, tuple(problems), parts=parts, not_needed=idle)

    def _parts(self, run: Run, chosen: Sequence[Chosen]) -> Iterator[Part]:
        """What came of each; a stop ends them."""
        for one in chosen:
            part = self._part(run, one)
            yield part
            if isinstance(part.ending, StoppedError):
                return

    def _waited_for(self, run: Run, part: Part) -> Part:
        """What comes of a database that a run elsewhere was at work on."""
        deadline = time.monotonic() + LONGEST_SECONDS
        if _locked(part):
            message = f"{part.database}: {part.ending}; what comes of it is awaited"
            run.log.info("backup.waiting", message=message, database=part.database)
        while _locked(part) and time.monotonic() < deadline:
            run.cancel.wait(LOOK_SECONDS)
            part = self._part(run, Chosen(part.database))
        return part

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
            on_begin=run.begin,
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


def _tell_of_unmatched(run: Run, parts: Sequence[Part]) -> None:
    """The patterns of tables that none of the databases has a table for."""
    results = [part.ending.result for part in parts if isinstance(part.ending, Outcome)]
    each = [set(one.unmatched or ()) for one in results if isinstance(one, BackupResult) and not one.not_needed]
    for pattern in sorted(set.intersection(*each)) if each else ():
        sentence, remedy = unmatched(pattern, " in any of these databases")
        run.log.warning("exclude.remark", message=sentence, remedy=remedy)


def _locked(part: Part) -> bool:
    return isinstance(part.ending, LockHeldError) and part.ending.elsewhere


def _tell(run: Run, part: Part) -> None:
    """One line for each, as a run of its own would end."""
    facts = part.summary()
    if isinstance(part.ending, HubbackupError):
        error = part.ending
        run.log.error("database.failed", message=f"no backup of {part.database}: {error}", error=error.kind, **facts)
        return
    if part.ending.not_needed:
        run.log.info("backup.not_needed", message=part.ending.message, **facts)
        return
    level = run.log.warning if part.ending.problems else run.log.info
    level("database.backed_up", message=f"{part.database} is backed up: {facts['name']}", **facts)
