"""What people hear of a run: whether it is news, and the one message that says it.

News is a failure, a degraded or suspicious backup, and once the recovery from it; with NOTIFICATION_LEVEL=all each
success too. What was typed wrong, or stopped by Ctrl-C, is reported to whoever typed it and to nobody else.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime

from hubbackup.errors import EXIT_DEGRADED, EXIT_INTERRUPTED, EXIT_SUCCESS, HubbackupError, UsageError
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
from hubbackup.notify.several import is_suspicious, is_unrestorable, parts_of, rows_of_parts, some_names, subject_of
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


def trouble_before(records: Iterable[RunRecord], kind: str, run_id: str, database: str = "") -> Trouble | None:
    """The bad runs of `kind` since the last good one and before `run_id`; None where the last was good.

    With a `database` what they came to for that one: another one's success ends nothing of it.
    """
    trouble: Trouble | None = None
    for record in whole_runs(record for record in records if record.kind == kind and record.is_about(database)):
        if record.run_id == run_id:
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


def trouble_of_each(records: Sequence[RunRecord], kind: str, run_id: str, databases: Sequence[str]) -> Trouble | None:
    """As `trouble_before`, of all that is wrong with one of `databases`, each cause with its own."""
    found = {one: trouble for one in databases if (trouble := trouble_before(records, kind, run_id, one))}
    if len(databases) == 1 or not found:
        return found.get(databases[0])
    causes: dict[str, list[str]] = {}
    for database, trouble in found.items():
        causes.setdefault(trouble.cause, []).append(database)
    return Trouble(
        max(trouble.count for trouble in found.values()),
        min(trouble.since for trouble in found.values()),
        "; ".join(f"{some_names(names)}: {cause}" for cause, names in causes.items()),
    )


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
        databases: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """`on_good` is called with the database of each clean backup, and says whether an alarm for silence had been
        given. A run for the one database there is names none. `databases`: those that are backed up."""
        self._send = send
        self._level = level
        self._history = history
        self._place = place
        self._last_good = last_good
        self._next_run = next_run
        self._on_good = on_good
        self._databases = databases
        self._last: dict[tuple[str, str], RunRecord] = {}
        """The last run of each kind and database, for where the history can't be written."""

    def started(self, run: Run) -> None:
        """Nobody needs to hear of that."""

    def ended(self, run: Run, ending: Ending) -> None:
        """Tell people, where it is news."""
        ends = _records_of(run, ending)
        records = self._records(run.kind)
        about = [end.database for end in ends]
        if len(about) > 1 and set(self._databases()) <= set(about):
            about += [one for one in _of_the_run_before(records, run.run_id) if one not in about]
        trouble = trouble_of_each(records, run.kind, run.run_id, about)
        self._remember(ends)
        was_silent = run.kind == "backup" and self._was_silent(run, ending)
        if was_silent and trouble is None:
            trouble = Trouble(1, run.started_at, "there was no backup in time")
        news = news_of(run.kind, ending, trouble, self._level)
        if news is None:
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

    def _records(self, kind: str) -> list[RunRecord]:
        """The runs of `kind`, those that could not be recorded too."""
        records = [record for record in self._history.runs() if record.kind == kind]
        recorded = {record.run_id for record in records}
        return records + [end for end in self._last.values() if end.kind == kind and end.run_id not in recorded]

    def _remember(self, ends: Sequence[RunRecord]) -> None:
        for end in ends:
            if is_private(end.kind, end.exit_code, usage=end.exit_code == UsageError.exit_code):
                continue  # a Ctrl-C has mended nothing
            self._last.pop((end.kind, end.database), None)  # the latest stands last
            self._last[end.kind, end.database] = end

    def _was_silent(self, run: Run, ending: Ending) -> bool:
        """Whether an alarm for silence is over, of one of the databases at least."""
        parts = parts_of(ending)
        good = [part.database for part in parts if not part.failed]
        if not parts and isinstance(ending, Outcome):
            good = [run.database]
        were_on = [self._on_good(database) for database in good]  # each of them is told
        return any(were_on)


def _of_the_run_before(records: Sequence[RunRecord], run_id: str) -> list[str]:
    """The databases of the last run for several: a run for all of them ends the trouble of those that are left out
    since."""
    before: list[str] = []
    for one, group in itertools.groupby(records, lambda record: record.run_id):
        names = [record.database for record in group]
        if len(names) > 1 and one != run_id:
            before = names
    return before


def _records_of(run: Run, ending: Ending) -> list[RunRecord]:
    """What the run came to for each of its databases, as far as it says whether that was good."""
    parts = parts_of(ending)
    own = own_problems(ending.problems, parts) if parts and isinstance(ending, Outcome) else []
    records = []
    for database, end in [(part.database, part.ending) for part in parts] or [(run.database, ending)]:
        record = RunRecord(run.kind, run.run_id, run.started_at, 0.0, end.exit_code, database=database)
        if isinstance(end, HubbackupError):
            record = record._replace(cause=str(end))
        else:
            made = end.result if isinstance(end.result, BackupResult) else None
            code = EXIT_DEGRADED if own else end.exit_code
            warnings = made.warnings if made is not None else ()
            record = record._replace(exit_code=code, problems=(*end.problems, *own), warnings=warnings)
        records.append(record)
    return records


class Heartbeats:
    """A RunObserver that pings the dead man's switch of the backups. Degraded counts as failed.

    It is a switch for all databases: a good run of some of them is a success only where the others are well too.
    """

    def __init__(
        self, pinger: Pinger, *, wait: Callable[[], bool], others_are_well: Callable[[Collection[str]], bool]
    ) -> None:
        """`wait` says whether this process ends with the run, so that the last ping needs a moment;
        `others_are_well` whether every database but those that the run was for has a good backup in time."""
        self._pinger = pinger
        self._wait = wait
        self._others_are_well = others_are_well

    def started(self, run: Run) -> None:
        """`URL/start`."""
        if run.kind == "backup":
            self._pinger.ping("start")

    def ended(self, run: Run, ending: Ending) -> None:
        """`URL`, or `URL/fail`."""
        if run.kind != "backup":
            return
        good = isinstance(ending, Outcome) and ending.exit_code == EXIT_SUCCESS
        mine = [part.database for part in parts_of(ending)] or [run.database]
        self._pinger.ping("" if good and self._others_are_well(mine) else "fail")
        if self._wait():
            self._pinger.drain(LAST_PING_SECONDS)
