"""One guarded run: an id, a lock, a stage, a cancel event, and exactly one closing line.

A run is one execution of a job. Every log line of it carries its run id; the stage tells a failure's place.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import structlog

from hubbackup.errors import HubbackupError, LockHeldError
from hubbackup.jobs.current import FILE_NAME, RunFile, unlocked_file
from hubbackup.jobs.history import History
from hubbackup.jobs.lock import locked
from hubbackup.jobs.progress import ProgressMaker, logged
from hubbackup.streams.cancel import Cancel

EXIT_DEGRADED = 3


@dataclass
class Run:
    """What a job needs to know of the run that it is: passed down, never global."""

    kind: str
    run_id: str
    cancel: Cancel
    log: structlog.stdlib.BoundLogger
    progress: ProgressMaker
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    stage_name: str = "start"
    on_stage: Callable[[str], None] = lambda name: None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Name the part of the work that follows; a failure is reported with it."""
        before, self.stage_name = self.stage_name, name
        self.cancel.check()
        self.on_stage(name)
        yield
        self.stage_name = before  # not in a `finally`: a failure keeps the name of its stage


@dataclass(frozen=True)
class Outcome:
    """What a run came to. `problems` are sentences; a run with problems and no error is degraded.

    `message` is the closing line's text for people, `fields` its facts for machines.
    """

    message: str
    fields: dict[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0, or 3 where the run is degraded."""
        return EXIT_DEGRADED if self.problems else 0


class RunObserver(Protocol):
    """Told of each run's start and end. What it raises is logged, and changes nothing for the run."""

    def started(self, run: Run) -> None:
        """The run holds the lock and is about to begin."""
        ...

    def ended(self, run: Run, result: Outcome | Exception) -> None:
        """The run has let go of the lock, and is in the log and in the history already."""
        ...


def new_run_id(now: datetime) -> str:
    """`20260208T030000-1a2b3c`: sorts by time, is unique, and fits PostgreSQL's application_name."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def guarded(
    kind: str,
    *,
    lock: Path | None,
    cancel: Cancel,
    log: structlog.stdlib.BoundLogger,
    history: History,
    body: Callable[[Run], Outcome],
    progress: ProgressMaker | None = None,
    observers: Sequence[RunObserver] = (),
    shown_in: Path | None = None,
) -> Outcome:
    """Run `body` under the lock, and log its end in one closing line, `<kind>.finished` or `<kind>.failed`.

    Without a `lock`, the body is one that changes nothing which another run relies on. How far it has come is
    written beside the lock, or without one into the directory `shown_in`.
    Raises LockHeldError at once where another run is at work, whatever `body` raises, and nothing else.
    """
    started_at = datetime.now(UTC)
    run_id = new_run_id(started_at)
    bound = log.bind(run_id=run_id)
    path = unlocked_file(shown_in, run_id) if shown_in is not None else None
    if lock is not None:
        path = lock.with_name(FILE_NAME)
    run_file = RunFile(path, kind, run_id, started_at)
    shown = run_file.recorded(progress or logged(bound, kind))
    run = Run(kind, run_id, cancel, bound, shown, started_at, on_stage=run_file.stage)
    clock = time.monotonic()
    try:
        with contextlib.ExitStack() as stack:
            if lock is not None:
                stack.enter_context(locked(lock))
            stack.callback(run_file.remove)
            run_file.stage(run.stage_name)
            _tell(observers, run, lambda observer: observer.started(run))
            outcome = body(run)
    except LockHeldError:
        raise  # it is not a run: the one at work writes the closing line and the record
    except Exception as error:
        _record_failure(run, error, round(time.monotonic() - clock, 3), history)
        failure = error
        _tell(observers, run, lambda observer: observer.ended(run, failure))
        raise
    seconds = round(time.monotonic() - clock, 3)
    outcome = replace(outcome, fields={"seconds": seconds, **outcome.fields})
    fields = dict(outcome.fields)
    if outcome.problems:
        fields["problems"] = list(outcome.problems)
    level = bound.warning if outcome.problems else bound.info
    level(f"{kind}.finished", message=outcome.message, exit_code=outcome.exit_code, **fields)
    history.add(kind, run_id, started_at, seconds, outcome.exit_code, fields)
    _tell(observers, run, lambda observer: observer.ended(run, outcome))
    return outcome


def _record_failure(run: Run, error: Exception, seconds: float, history: History) -> None:
    """The closing line and the record of a run that failed; a foreign error is a fault of the program."""
    foreign = not isinstance(error, HubbackupError)
    cause = f"internal error: {type(error).__name__}: {error}" if foreign else str(error)
    kind, exit_code = run.kind, getattr(error, "exit_code", 1)
    run.log.error(
        f"{kind}.failed",
        message=f"{kind} failed: {cause}",
        stage=run.stage_name,
        error=type(error).__name__,
        cause=cause,
        remedy=getattr(error, "remedy", ""),
        seconds=seconds,
        exit_code=exit_code,
    )
    facts = {"stage": run.stage_name, "cause": cause}
    history.add(kind, run.run_id, run.started_at, seconds, exit_code, facts)


def _tell(observers: Sequence[RunObserver], run: Run, say: Callable[[RunObserver], None]) -> None:
    for observer in observers:
        try:
            say(observer)
        except Exception as error:  # noqa: BLE001 - whoever looks on must not change what is seen
            run.log.warning(
                "observer.failed",
                message=f"{type(observer).__name__}: {type(error).__name__}: {error}",
                observer=type(observer).__name__,
            )
