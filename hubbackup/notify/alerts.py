"""What people hear of a run: whether it is news, and the one message that says it.

News is a failure, a degraded or suspicious backup, and once the recovery from it; with NOTIFICATION_LEVEL=all each
success too. What was typed wrong, or stopped by Ctrl-C, is reported to whoever typed it and to nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo

from hubbackup.errors import EXIT_INTERRUPTED, EXIT_SUCCESS, HubbackupError, SettingsError, UsageError
from hubbackup.jobs.history import History, RunRecord
from hubbackup.jobs.results import BackupResult, Result
from hubbackup.jobs.run import Outcome, Run
from hubbackup.notify.heartbeat import Pinger
from hubbackup.notify.spool import Kind, Message
from hubbackup.shown_text import sentence
from hubbackup.status.overdue import Deadline
from hubbackup.units import human_age

News = Literal["failed", "unrestorable", "degraded", "suspicious", "recovered", "success"]
SCHEDULED_KINDS = {"backup", "drill"}
"""Nobody typed what is wrong with these, so wrong usage is news too."""
MARKING_KINDS = {"pin", "unpin", "accept", "adopt", "lifecycle"}
"""Somebody types these, and sees at once what became of them."""
LAST_PING_SECONDS = 5.0
MESSAGE_KINDS: dict[News, Kind] = {
    "failed": "failure",
    "unrestorable": "failure",
    "degraded": "warning",
    "suspicious": "warning",
    "recovered": "success",
    "success": "success",
}
VERBS: dict[News, str] = {
    "failed": "failed",
    "unrestorable": "can't be restored",
    "degraded": "is degraded",
    "suspicious": "looks suspicious",
    "recovered": "works again",
    "success": "succeeded",
}


Ending = Outcome[Result] | HubbackupError
"""How a run ended."""


@dataclass(frozen=True)
class Place:
    """Where a message comes from, and how it writes times."""

    host: str
    database: str
    zone: ZoneInfo


@dataclass(frozen=True)
class LastGood:
    """The newest good backup there is."""

    name: str
    started_at: datetime


@dataclass(frozen=True)
class Trouble:
    """The runs in a row that ended badly, up to now."""

    count: int
    since: datetime
    cause: str


def news_of(kind: str, ending: Ending, trouble: Trouble | None, level: str) -> News | None:
    """What a run's end is to people, or None where they need not hear of it. `level` as NOTIFICATION_LEVEL has it."""
    if isinstance(ending, HubbackupError):
        return None if is_private(kind, ending.exit_code, isinstance(ending, UsageError)) else "failed"
    if isinstance(ending.result, BackupResult) and ending.result.unrestorable:
        return "unrestorable"
    if ending.problems:
        return "degraded"
    if isinstance(ending.result, BackupResult) and ending.result.warnings:
        return "suspicious"
    if trouble is not None:
        return "recovered"
    idle = isinstance(ending.result, BackupResult) and ending.result.not_needed  # who made it has told everybody
    return "success" if level == "all" and kind not in MARKING_KINDS and not idle else None


def is_private(kind: str, exit_code: int, usage: bool) -> bool:
    """Whether a failure concerns only whoever sits at the terminal."""
    if kind in MARKING_KINDS:
        return True
    return exit_code == EXIT_INTERRUPTED or (usage and kind not in SCHEDULED_KINDS)


def trouble_before(records: Iterable[RunRecord], kind: str, run_id: str) -> Trouble | None:
    """The bad runs of `kind` since the last good one and before `run_id`; None where the last was good."""
    trouble: Trouble | None = None
    for record in records:
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
    last_good: LastGood | None,
    trouble: Trouble | None,
    next_run: datetime | None,
    now: datetime,
) -> Message:
    """The one message of a run."""
    subject = f"{run.kind} of {place.database} on {place.host}"
    word = "ALERTE" if MESSAGE_KINDS[news] != "success" else "OK"
    rows: list[tuple[str, str]] = []
    if isinstance(ending, HubbackupError):
        rows += [
            ("What failed", f"{run.kind}, at the stage {run.stage_name}"),
            ("Cause", str(ending)),
            ("What to do", ending.remedy or "hubbackup doctor shows what is wrong and what to do"),
        ]
    else:
        rows += _rows_of(ending)
    if trouble is not None:
        runs = "one run" if trouble.count == 1 else f"{trouble.count} runs"
        rows.append(("Before", f"{runs} ended badly since {_time(trouble.since, place)}: {trouble.cause}"))
    if news not in ("recovered", "success"):
        rows.append(("Last good", _last_good(last_good, place, now)))
    if next_run is not None:
        rows.append(("Next backup", _time(next_run, place)))
    seconds = (now - run.started_at).total_seconds()
    rows.append(("Host", place.host))
    rows.append(("Run", f"{run.run_id}, {seconds:.0f} s"))
    sentence = f"The {subject} {VERBS[news]}."
    title = _one_line(f"{word}: {subject} {VERBS[news]}")
    return Message(MESSAGE_KINDS[news], title, f"{sentence}\n\n{_layout(rows)}\n")


def compose_silence(deadline: Deadline, place: Place, last_good: LastGood | None, now: datetime) -> Message:
    """The message of an alarm for silence: no run failed, and yet there is no recent backup."""
    title = _one_line(f"ALERTE: no good backup of {place.database} on {place.host} in time")
    due = _time(deadline.due, place) if deadline.due is not None else "never, by BACKUP_SCHEDULE"
    rows = [
        ("What failed", f"the backup that was due {due} is not there"),
        ("What to do", "hubbackup status, hubbackup doctor, and the log of the service"),
        ("Last good", _last_good(last_good, place, now)),
        ("Host", place.host),
    ]
    lead = f"There is no good backup of {place.database} as recent as the schedule promises."
    return Message("failure", title, f"{lead}\n\n{_layout(rows)}\n\nThis message comes once a day while it lasts.\n")


def compose_future(name: str, remedy: str, place: Place, now: datetime) -> Message:
    """The message of a backup whose time is still to come."""
    title = _one_line(f"ALERTE: a backup of {place.database} on {place.host} is from the future")
    rows = [("What is wrong", name), ("What to do", remedy), ("Host", place.host), ("Time here", _time(now, place))]
    lead = "The clock was wrong when it was made, or is wrong now. It counts neither as recent nor as the newest."
    return Message("failure", title, f"{lead}\n\n{_layout(rows)}\n\nThis message comes once a day while it lasts.\n")


def compose_refused_settings(error: SettingsError, place: Place, now: datetime, *, running: bool) -> Message:
    """The message of settings that can't be used; `running`: older ones stay in force."""
    title = _one_line(f"ALERTE: the settings of hubbackup on {place.host} can't be used")
    rows = [
        ("What failed", str(error)),
        ("What to do", error.remedy or "hubbackup config shows every setting"),
        ("Until then", "the settings of before the edit stay in force" if running else "no backup is scheduled"),
        ("Host", place.host),
        ("Time", _time(now, place)),
    ]
    lead = "The settings were edited, and can't be used." if running else "The backup service can't start its work."
    return Message("failure", title, f"{lead}\n\n{_layout(rows)}\n")


def compose_strangers(found: Iterable[str], place: Place, last_good: LastGood | None, now: datetime) -> Message:
    """The message of backups that are younger than the newest good one, and not ours, or from the future."""
    title = _one_line(f"ALERTE: backups of {place.database} on {place.host} that are not known to be ours")
    rows = [("What is there", one) for one in found]
    rows += [
        (
            "What to do",
            "find out who can write there; if you know who made it: hubbackup adopt NAME",
        ),
        ("Last good", _last_good(last_good, place, now)),
        ("Host", place.host),
    ]
    lead = "They count for nothing: they are not restored by --latest, not drilled, and never removed by hubbackup."
    return Message("warning", title, f"{lead}\n\n{_layout(rows)}\n\nThis message comes once for each of them.\n")


def compose_test(place: Place, now: datetime) -> Message:
    """The message of `hubbackup notify-test`."""
    rows = [("Host", place.host), ("Database", place.database), ("Time", _time(now, place))]
    lead = "This is a test of hubbackup's notifications: failures will be reported here."
    return Message("info", _one_line(f"hubbackup on {place.host}: test"), f"{lead}\n\n{_layout(rows)}\n")


class Alerts:
    """A RunObserver that turns ends of runs into messages."""

    def __init__(
        self,
        *,
        send: Callable[[Message], None],
        level: str,
        history: History,
        place: Callable[[], Place],
        last_good: Callable[[], LastGood | None],
        next_run: Callable[[], datetime | None],
        on_good: Callable[[], bool] = lambda: False,
    ) -> None:
        """`on_good` is called with each clean backup, and says whether an alarm for silence had been given."""
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
        was_silent = run.kind == "backup" and isinstance(ending, Outcome) and self._on_good()
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
                self._place(),
                last_good=self._last_good(),
                trouble=trouble,
                next_run=self._next_run(),
                now=datetime.now(UTC),
            )
        )


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


def _rows_of(outcome: Outcome[Result]) -> list[tuple[str, str]]:
    rows = [("What is wrong", problem) for problem in outcome.problems]
    made = outcome.result if isinstance(outcome.result, BackupResult) else None
    if made is not None and made.unrestorable:
        advice = f"{made.remedy}. This backup is kept and marked; nothing is pruned until one restores again"
        rows.append(("What to do", advice))
    if made is not None and made.warnings:
        rows += [("Suspicious", warning) for warning in made.warnings]
        advice = f"compare it with the database; if it is right: hubbackup accept {made.name}"
        rows.append(("What to do", advice))
    elif outcome.problems and not (made is not None and made.unrestorable):
        rows.append(("What to do", "hubbackup doctor checks each store; the next run uploads what is missing"))
    facts = outcome.result.facts()
    if "name" in facts:
        counts = [f"{count:,} {word}" for key, word in COUNTS if isinstance(count := facts.get(key), int)]
        rows.append(("Backup", ", ".join([str(facts["name"]), *counts])))
    if made is not None:
        rows.append(("Copies", ", ".join(made.copies)))
        if made.changes:
            rows.append(("Changes", f"{made.changes} (since {made.changes_since})"))
    return rows


COUNTS = (("stored_bytes", "bytes"), ("tables", "tables"), ("rows", "rows"))
"""Rows for a result that has them."""


def _last_good(last_good: LastGood | None, place: Place, now: datetime) -> str:
    if last_good is None:
        return "there is none"
    age = now - last_good.started_at
    return f"{last_good.name}, {human_age(age.total_seconds())} old ({_time(last_good.started_at, place)})"


def _time(moment: datetime, place: Place) -> str:
    return moment.astimezone(place.zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def _one_line(title: str) -> str:
    """A title is a mail's subject: whatever a database is called, no second header begins in it."""
    return sentence(" ".join(title.split()))


def _layout(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"{label + ':':<15}{sentence(value)}" for label, value in rows)
