"""One guarded run of a job: an id, a lock, a stage, a cancel event, and exactly one closing line.

Every log line of a run carries its run id; the stage says where a failure happened.
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
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from hubbackup.errors import EXIT_DEGRADED, EXIT_SUCCESS, HubbackupError, InternalError, LockHeldError
from hubbackup.jobs.current import FILE_NAME, RunFile, read, unlocked_file
from hubbackup.jobs.dead_runs import DeadRuns
from hubbackup.jobs.history import History
from hubbackup.jobs.kinds import RunKind
from hubbackup.jobs.lock import locked
from hubbackup.jobs.parts import Part, PartsFailedError, badness, own_problems
from hubbackup.jobs.progress import ProgressMaker, logged
from hubbackup.jobs.results import Result
from hubbackup.shown_text import sentence
from hubbackup.streams.cancel import Cancel

if TYPE_CHECKING:
    import structlog

PRUNE_SECONDS = 10.0
"""How long a run waits for a prune or a clean-up to end; any other run is not waited for."""
R_co = TypeVar("R_co", bound=Result, covariant=True)


@dataclass
class Run:
    """What a job needs to know of the run that it is: passed down, never global."""

    kind: RunKind
    run_id: str
    cancel: Cancel
    log: structlog.stdlib.BoundLogger
    progress: ProgressMaker
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    stage_name: str = "start"
    on_stage: Callable[[str], None] = lambda name: None
    on_begin: Callable[[], None] = lambda: None
    begun: bool = False
    """Whether the observers know of it. Before that, a run that finds another one at work was none."""
    dead_runs: DeadRuns = field(default_factory=lambda: DeadRuns(None))
    """Those that held the same lock, and may have left something behind."""
    database: str = ""
    """The one that it is for, where there are several that it could be for."""

    def begin(self) -> None:
        """It is admitted: from here on it is a run, whose end is recorded and told. A second call does nothing."""
        if not self.begun:
            self.begun = True
            self.on_begin()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Name the part of the work that follows; a failure is reported with it."""
        before, self.stage_name = self.stage_name, name
        self.cancel.check()
        self.on_stage(name)
        yield
        self.stage_name = before  # not in a `finally`: a failure keeps the name of its stage


@dataclass(frozen=True)
class Outcome(Generic[R_co]):
    """How a run ended that did not fail. `problems` are sentences; a run with problems is degraded.

    `message` is the closing line's text for people, `result` what it came to. `seconds` is how long it took: as
    the job counts, or (0) as the run does when it has ended. `parts`: each of the databases, of a run for several.
    """

    message: str
    result: R_co
    problems: tuple[str, ...] = ()
    seconds: float = 0.0
    not_needed: bool = False
    """There was nothing to do: another daemon has done it."""
    parts: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "problems", tuple(map(sentence, self.problems)))

    @property
    def exit_code(self) -> int:
        """0, or 3 where the run is degraded."""
        return EXIT_DEGRADED if self.problems else EXIT_SUCCESS

    def facts(self) -> dict[str, object]:
        """What machines read beside message, exit code and problems."""
        return {"seconds": self.seconds, **self.result.facts()}


class Job(Protocol[R_co]):
    """What a run can execute: a value, put together beforehand, that never changes."""

    @property
    def kind(self) -> RunKind:
        """`backup`, `restore`, …: the first word of its events."""
        ...

    @property
    def needs_lock(self) -> bool:
        """False where it changes nothing that another run relies on."""
        ...

    def __call__(self, run: Run) -> Outcome[R_co]:
        """Do it. Raises HubbackupError where it fails."""
        ...


class RunObserver(Protocol):
    """Called at each run's start and end. What it raises is logged, and changes nothing for the run."""

    def started(self, run: Run) -> None:
        """The run holds the lock and is about to begin."""
        ...

    def ended(self, run: Run, ending: Outcome[Result] | HubbackupError) -> None:
        """The run has released the lock, and is in the log and in the history already."""
        ...


def new_run_id(now: datetime) -> str:
    """`20260208T030000-1a2b3c`: sorts by time, is unique, and fits PostgreSQL's application_name."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def guarded(
    job: Job[R_co],
    *,
    lock: Path,
    cancel: Cancel,
    log: structlog.stdlib.BoundLogger,
    history: History,
    progress: ProgressMaker | None = None,
    observers: Sequence[RunObserver] = (),
    database: str = "",
) -> Outcome[R_co]:
    """Run the job, under the lock where it needs it, and log its end in one closing line, `<kind>.finished` or
    `<kind>.failed`. How far it has come is written beside the lock. A job that `begins_itself` calls `run.begin`
    once nothing is in its way any more. `database`: the one of several that it is for.

    Raises LockHeldError at once where another run is at work (a prune is waited for), whatever the job raises, and
    nothing else.
    """
    started_at = datetime.now(UTC)
    run_id = new_run_id(started_at)
    bound = log.bind(run_id=run_id)
    path = lock.with_name(FILE_NAME) if job.needs_lock else unlocked_file(lock.parent, run_id)
    run_file = RunFile(path, job.kind, run_id, started_at)
    shown = run_file.recorded(progress or logged(bound, job.kind))
    dead_runs = DeadRuns(lock.parent)
    run = Run(job.kind, run_id, cancel, bound, shown, started_at, on_stage=run_file.stage, dead_runs=dead_runs)
    run.on_begin = lambda: _tell(observers, run, lambda observer: observer.started(run))
    run.database = database
    clock = time.monotonic()
    try:
        with contextlib.ExitStack() as stack:
            if job.needs_lock:
                stack.enter_context(_locked(lock, cancel))
                dead_runs.note_killed(lock.with_name(FILE_NAME))
            stack.callback(run_file.remove)
            run_file.stage(run.stage_name)
            if not getattr(job, "begins_itself", False):
                run.begin()
            outcome = job(run)
    except Exception as error:
        if isinstance(error, LockHeldError) and not run.begun:
            raise  # it is not a run: the one at work writes the closing line and the record
        run.begin()
        failure = error if isinstance(error, HubbackupError) else InternalError(error)
        _record_failure(run, failure, round(time.monotonic() - clock, 3), history)
        _tell(observers, run, lambda observer: observer.ended(run, failure))
        raise
    if not outcome.seconds:
        outcome = replace(outcome, seconds=round(time.monotonic() - clock, 3))
    _record_end(run, outcome, history)
    _tell(observers, run, lambda observer: observer.ended(run, outcome))
    return outcome


@contextmanager
def _locked(lock: Path, cancel: Cancel) -> Iterator[None]:
    """Hold the run lock. A prune is waited for, since the daemon starts one at an edit, while somebody types.

    So is what is no run and has no run file: the removal of leftovers at the daemon's start.
    """
    deadline = time.monotonic() + PRUNE_SECONDS
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(lock))
                break
            except LockHeldError:
                holder = read(lock.with_name(FILE_NAME))
                if (holder is not None and holder.kind != "prune") or time.monotonic() > deadline:
                    raise
            cancel.wait(0.1)
        yield


def _record_end(run: Run, outcome: Outcome[Result], history: History) -> None:
    """The closing line and the record of a run that did not fail."""
    kind, facts = run.kind, outcome.facts()
    if outcome.problems:
        facts["problems"] = list(outcome.problems)
    level = run.log.warning if outcome.problems else run.log.info
    if outcome.not_needed:
        run.log.info("backup.not_needed", message=outcome.message, exit_code=outcome.exit_code, **facts)
    else:
        level(f"{kind}.finished", message=outcome.message, exit_code=outcome.exit_code, **facts)
    if not outcome.parts:
        history.add(kind, run.run_id, run.started_at, outcome.seconds, outcome.exit_code, facts)
    _record_parts(run, outcome.parts, history, own_problems(outcome.problems, outcome.parts))


def _record_failure(run: Run, failure: HubbackupError, seconds: float, history: History) -> None:
    """The closing line and the record of a run that failed."""
    kind = run.kind
    parts = failure.parts if isinstance(failure, PartsFailedError) else ()
    stage = failure.stage if isinstance(failure, PartsFailedError) else run.stage_name
    about: dict[str, object] = {"databases": [part.summary() for part in parts]} if parts else {}
    run.log.error(
        f"{kind}.failed",
        message=f"{kind} failed: {failure}",
        stage=stage,
        error=failure.kind,
        cause=str(failure),
        remedy=failure.remedy,
        seconds=seconds,
        exit_code=failure.exit_code,
        **about,
    )
    if not parts:
        facts: dict[str, object] = {"stage": stage, "cause": str(failure)}
        if failure.remedy:
            facts["remedy"] = failure.remedy
        if run.database:
            facts["database"] = run.database
        history.add(kind, run.run_id, run.started_at, seconds, failure.exit_code, facts)
    _record_parts(run, parts, history)


def _record_parts(run: Run, parts: Sequence[Part], history: History, problems: Sequence[str] = ()) -> None:
    """A record for each database: what is known of one is asked by its name. `problems` of the run are each one's."""
    for part in parts:
        facts, code = part.facts(), part.exit_code
        if problems:
            facts["problems"] = [*part.problems, *problems]
            code = max(code, EXIT_DEGRADED, key=badness)
        history.add(run.kind, run.run_id, part.started_at, part.seconds, code, facts)


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
