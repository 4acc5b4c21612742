"""What people read of the backups: one message for each thing that is news, in their own words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

from hubbackup.errors import HubbackupError, SettingsError
from hubbackup.jobs.results import BackupResult, Result
from hubbackup.jobs.run import Outcome
from hubbackup.notify.spool import Kind, Message
from hubbackup.shown_text import sentence
from hubbackup.status.overdue import Deadline
from hubbackup.units import human_age

News = Literal["failed", "unrestorable", "degraded", "suspicious", "recovered", "success"]
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


def compose_silence(
    deadline: Deadline, place: Place, last_good: LastGood | None, now: datetime, others: Sequence[str] = ()
) -> Message:
    """The message of an alarm for silence: no run failed, and yet there is no recent backup; nor one of `others`."""
    title = one_line(f"ALERTE: no good backup of {place.database} on {place.host} in time")
    due = shown_time(deadline.due, place) if deadline.due is not None else "never, by BACKUP_SCHEDULE"
    rows = [
        ("What failed", f"the backup that was due {due} is not there"),
        ("What to do", "hubbackup status, hubbackup doctor, and the log of the service"),
        ("Last good", shown_last_good(last_good, place, now)),
        *([("Others, too", ", ".join(others))] if others else []),
        ("Host", place.host),
    ]
    lead = f"There is no good backup of {place.database} as recent as the schedule promises."
    return Message("failure", title, f"{lead}\n\n{layout(rows)}\n\nThis message comes once a day while it lasts.\n")


def compose_future(name: str, remedy: str, place: Place, now: datetime) -> Message:
    """The message of a backup whose time is still to come."""
    title = one_line(f"ALERTE: a backup of {place.database} on {place.host} is from the future")
    rows = [
        ("What is wrong", name),
        ("What to do", remedy),
        ("Host", place.host),
        ("Time here", shown_time(now, place)),
    ]
    lead = "The clock was wrong when it was made, or is wrong now. It counts neither as recent nor as the newest."
    return Message("failure", title, f"{lead}\n\n{layout(rows)}\n\nThis message comes once a day while it lasts.\n")


def compose_refused_settings(error: SettingsError, place: Place, now: datetime, *, running: bool) -> Message:
    """The message of settings that can't be used; `running`: older ones stay in force."""
    title = one_line(f"ALERTE: the settings of hubbackup on {place.host} can't be used")
    rows = [
        ("What failed", str(error)),
        ("What to do", error.remedy or "hubbackup config shows every setting"),
        ("Until then", "the settings of before the edit stay in force" if running else "no backup is scheduled"),
        ("Host", place.host),
        ("Time", shown_time(now, place)),
    ]
    lead = "The settings were edited, and can't be used." if running else "The backup service can't start its work."
    return Message("failure", title, f"{lead}\n\n{layout(rows)}\n")


def compose_strangers(found: Iterable[str], place: Place, last_good: LastGood | None, now: datetime) -> Message:
    """The message of backups that are younger than the newest good one, and not ours, or from the future."""
    title = one_line(f"ALERTE: backups of {place.database} on {place.host} that are not known to be ours")
    rows = [("What is there", one) for one in found]
    rows += [
        (
            "What to do",
            "find out who can write there; if you know who made it: hubbackup adopt NAME",
        ),
        ("Last good", shown_last_good(last_good, place, now)),
        ("Host", place.host),
    ]
    lead = "They count for nothing: they are not restored by --latest, not drilled, and never removed by hubbackup."
    return Message("warning", title, f"{lead}\n\n{layout(rows)}\n\nThis message comes once for each of them.\n")


def compose_gone(names: Sequence[str], place: Place, now: datetime) -> Message:
    """The message of databases that the server had at the last run, and has no more."""
    title = one_line(f"ALERTE: the database {names[0]} on {place.host} is gone")
    if len(names) > 1:
        title = one_line(f"ALERTE: {len(names)} databases on {place.host} are gone")
    rows = [
        *(("Gone", name) for name in names),
        ("What to do", "if that was meant: nothing; if not: hubbackup restore --latest --database NAME"),
        ("Host", place.host),
        ("Time", shown_time(now, place)),
    ]
    lead = "It was there at the last backup of every database. Its backups are kept: nothing of them is pruned."
    return Message("warning", title, f"{lead}\n\n{layout(rows)}\n\nThis message comes once.\n")


def compose_test(place: Place, now: datetime) -> Message:
    """The message of `hubbackup notify-test`."""
    rows = [("Host", place.host), ("Database", place.database), ("Time", shown_time(now, place))]
    lead = "This is a test of hubbackup's notifications: failures will be reported here."
    return Message("info", one_line(f"hubbackup on {place.host}: test"), f"{lead}\n\n{layout(rows)}\n")


def rows_of(outcome: Outcome[Result]) -> list[tuple[str, str]]:
    """What is said of a run that did not fail."""
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


def shown_last_good(last_good: LastGood | None, place: Place, now: datetime) -> str:
    """Its name and age."""
    if last_good is None:
        return "there is none"
    age = now - last_good.started_at
    return f"{last_good.name}, {human_age(age.total_seconds())} old ({shown_time(last_good.started_at, place)})"


def shown_time(moment: datetime, place: Place) -> str:
    """As the operator's clock has it."""
    return moment.astimezone(place.zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def one_line(title: str) -> str:
    """A title is a mail's subject: whatever a database is called, no second header begins in it."""
    return sentence(" ".join(title.split()))


def layout(rows: Iterable[tuple[str, str]]) -> str:
    """A line for each, the labels in a column."""
    return "\n".join(f"{label + ':':<15}{sentence(value)}" for label, value in rows)
