"""What people hear of a run: whether it is news, and the one message that says it.

News is a failure, a degraded or suspicious backup, and once the recovery from it; with NOTIFICATION_LEVEL=all each
success too. What was typed wrong, or stopped by Ctrl-C, is reported to whoever typed it and to nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from hubbackup.errors import EXIT_INTERRUPTED, EXIT_SUCCESS, HubbackupError, UsageError
from hubbackup.jobs.history import History, RunRecord, whole_runs
from hubbackup.jobs.parts import own_problems
from hubbackup.jobs.results import BackupResult
from hubbackup.jobs.run import Outcome, Run
from hubbackup.notify.heartbeat import Pinger
from hubbackup.notify.messages import (
    MESSAGE_KINDS,
    VERBS,
    Ending,
    LastGood,
    News,
    Place,
    Trouble,
    layout,
    one_line,
    rows_of,
    shown_last_good,
    shown_time,
)
from hubbackup.notify.several import is_suspicious, is_unrestorable, parts_of, rows_of_parts, subject_of
from hubbackup.notify.spool import Message

SCHEDULED_KINDS = {"backup", "drill"}
"""Nobody typed what is wrong with these, so wrong usage is news too."""
MARKING_KINDS = {"pin", "unpin", "accept", "adopt", "lifecycle"}
"""Somebody types these, and sees at once what became of them."""
LAST_PING_SECONDS = 5.0


def news_of(kind: str, ending: Ending, trouble: Trouble | None, level: str) -> News | None:
    """What a run's end is to people, or None where they need not hear of it. `level` as NOTIFICATION_LEVEL has it."""
    if isinstance(ending, HubbackupError):
        return None if is_private(kind, ending.exit_code, isinstance(ending, UsageError)) else "failed"
    made = ending.result if isinstance(ending.result, BackupResult) else None
    if (made is not None and made.unrestorable) or is_unrestorable(ending.parts):
        return "unrestorable"
    if ending.problems:
        return "degraded"
    if (made is not None and made.warnings) or is_suspicious(ending.parts):
        return "suspicious"
    if trouble is not None:
        return "recovered"
    idle = ending.not_needed or (made is not None and made.not_needed)  # who made it has told everybody
    return "success" if level == "all" and kind not in MARKING_KINDS and not idle else None


def is_private(kind: str, exit_code: int, usage: bool) -> bool:
    """Whether a failure concerns only whoever sits at the terminal."""
    if kind in MARKING_KINDS:
        return True
    return exit_code == EXIT_INTERRUPTED or (usage and kind not in SCHEDULED_KINDS)


def trouble_before(records: Iterable[RunRecord], kind: str, run_id: str) -> Trouble | None:
    """The bad runs of `kind` since the last good one and before `run_id`; None where the last was good."""
    trouble: Trouble | None = None
    for record in whole_runs(records):
        if record.kind != kind or record.run_id == run_id:
            continue
        if is_private(kind, record.exit_code, usage=record.exit_code == UsageError.exit_code):
            continue
        causes = record.cause or "; ".join([*record.problems, *record.warnings])
        if record.exit_code == EXIT_SUCCESS and not record.warnings:
            trouble = None
        elif trouble is None:
            trouble = Trouble(1, record.started_at, causes)
        else:
            trouble = Trouble(trouble.count + 1, trouble.since, causes)
    return trouble


def compose(
    news: News,
    run: Run,
    ending: Ending,
    place: Place,
    *,
    last_good: Callable[[str], LastGood | None],
    trouble: Trouble | None,
    next_run: datetime | None,
    now: datetime,
) -> Message:
    """The one message of a run; `last_good` tells the newest good backup of a database."""
    parts = parts_of(ending)
    subject = f"{run.kind} of {subject_of(parts) if parts else place.database} on {place.host}"
    word = "ALERTE" if MESSAGE_KINDS[news] != "success" else "OK"
    rows: list[tuple[str, str]] = []
    if parts:
        problems = ending.problems if isinstance(ending, Outcome) else ()
        rows += [("What is wrong", one) for one in own_problems(problems, parts)]
        rows += rows_of_parts(parts, place, last_good, now)
    elif isinstance(ending, HubbackupError):
        rows += [
            ("What failed", f"{run.kind}, at the stage {run.stage_name}"),
            ("Cause", str(ending)),
            ("What to do", ending.remedy or "hubbackup doctor shows what is wrong and what to do"),
        ]
    else:
        rows += rows_of(ending)
    if trouble is not None:
        runs = "one run" if trouble.count == 1 else f"{trouble.count} runs"
        rows.append(("Before", f"{runs} ended badly since {shown_time(trouble.since, place)}: {trouble.cause}"))
    if news not in ("recovered", "success") and not parts:
        rows.append(("Last good", shown_last_good(last_good(run.database), place, now)))
    if next_run is not None:
        rows.append(("Next backup", shown_time(next_run, place)))
    seconds = (now - run.started_at).total_seconds()
    rows.append(("Host", place.host))
    rows.append(("Run", f"{run.run_id}, {seconds:.0f} s"))
    sentence = f"The {subject} {VERBS[news]}."
    title = one_line(f"{word}: {subject} {VERBS[news]}")
    return Message(MESSAGE_KINDS[news], title, f"{sentence}\n\n{layout(rows)}\n")


class Alerts:
    """A RunObserver that turns ends of runs into messages."""

    def __init__(
        self,
        *,
        send: Callable[[Message], None],
        level: str,
        history: History,
        place: Callable[[str], Place],
        last_good: Callable[[str], LastGood | None],
        next_run: Callable[[], datetime | None],
        on_good: Callable[[str], bool] = lambda database: False,
    ) -> None:
        """`on_good` is called with the database of each clean backup, and says whether an alarm for silence had been
        given. A run for the one database there is names none."""
        self._send = send
        self._level = level
        self._history = history
        self._place = place
        self._last_good = last_good
        self._next_run = next_run
        self._on_good = on_good
        self._trouble: dict[str, Trouble] = {}
        """By kind, for where the history can't be written."""

    def started(self, run: Run) -> None:
        """Nobody needs to hear of that."""

    def ended(self, run: Run, ending: Ending) -> None:
        """Tell people, where it is news."""
        remembered = self._trouble.pop(run.kind, None)
        trouble = trouble_before(self._history.runs(), run.kind, run.run_id) or remembered
        was_silent = run.kind == "backup" and self._was_silent(run, ending)
        if was_silent and trouble is None:
            trouble = Trouble(1, run.started_at, "there was no backup in time")
        news = news_of(run.kind, ending, trouble, self._level)
        if MESSAGE_KINDS.get(news or "success") != "success":
            cause = str(ending) if isinstance(ending, HubbackupError) else ""
            self._trouble[run.kind] = Trouble(1, run.started_at, cause)
        if news is None:
            if isinstance(ending, HubbackupError) and remembered is not None:
                self._trouble[run.kind] = remembered  # a Ctrl-C has mended nothing
            return
        self._send(
            compose(
                news,
                run,
                ending,
                self._place(run.database),
                last_good=self._last_good,
                trouble=trouble,
                next_run=self._next_run(),
                now=datetime.now(UTC),
            )
        )

    def _was_silent(self, run: Run, ending: Ending) -> bool:
        """Whether an alarm for silence is over, of one of the databases at least."""
        parts = parts_of(ending)
        good = [part.database for part in parts if not part.failed]
        if not parts and isinstance(ending, Outcome):
            good = [run.database]
        were_on = [self._on_good(database) for database in good]  # each of them is told
        return any(were_on)


class Heartbeats:
    """A RunObserver that pings the dead man's switch of the backups. Degraded counts as failed."""

    def __init__(self, pinger: Pinger, *, wait: Callable[[], bool]) -> None:
        """`wait` says whether this process ends with the run, so that the last ping needs a moment."""
        self._pinger = pinger
        self._wait = wait

    def started(self, run: Run) -> None:
        """`URL/start`."""
        if run.kind == "backup":
            self._pinger.ping("start")

    def ended(self, run: Run, ending: Ending) -> None:
        """`URL`, or `URL/fail`."""
        if run.kind != "backup":
            return
        good = isinstance(ending, Outcome) and ending.exit_code == EXIT_SUCCESS
        self._pinger.ping("" if good else "fail")
        if self._wait():
            self._pinger.drain(LAST_PING_SECONDS)
