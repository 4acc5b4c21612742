"""The last days, one state each: what came of the backups that were due."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from hubbackup.status.snapshot import Snapshot

SHOWN_DAYS = 30
WORDS = {
    "none": "nothing was due, or nothing is known",
    "good": "a good backup",
    "degraded": "a backup, with something that is not right",
    "stopped": "stopped before its end",
    "failed": "failed",
    "missing": "none, though one was due",
}
"""Of several databases, the last of these counts."""
OF_RESULTS = ("failed", "stopped", "degraded", "success")
"""Of several runs of a day, the last of these counts: a second try that succeeds has mended it."""


@dataclass(frozen=True)
class Day:
    """One day: `state` is one of WORDS."""

    date: str
    text: str
    state: str

    @property
    def good(self) -> bool:
        """There is a backup of it."""
        return self.state in ("good", "degraded")


def last_days(snapshot: Snapshot, now: datetime) -> list[Day]:
    """The days up to `now`, the oldest first, in the schedule's time zone; of several databases the worst counts."""
    zone = snapshot.schedule.zone
    today = now.astimezone(zone).date()
    found: dict[tuple[date, str], set[str]] = defaultdict(set)
    first: date | None = None
    for run in snapshot.runs_of("backup"):
        day = run.started_at.astimezone(zone).date()
        first = min(first or day, day)
        for database in [run.database] if run.database else snapshot.databases:
            found[day, database].add(run.result)
    for backup in snapshot.backups:
        day = backup.started_at.astimezone(zone).date()
        first = min(first or day, day)
        if backup.good and not found[day, backup.database] & {"success", "degraded"}:
            found[day, backup.database].add("success")
    days = []
    for age in range(SHOWN_DAYS - 1, -1, -1):
        day = today - timedelta(days=age)
        due = first is not None and day >= first and _was_due(snapshot, day, now)
        states = [_state(found.get((day, database), set()), due) for database in snapshot.databases]
        state = max(states, key=list(WORDS).index)
        days.append(Day(day.isoformat(), f"{day:%a} {day.day} {day:%b}: {WORDS[state]}", state))
    return days


def _state(results: set[str], due: bool) -> str:
    best = max(results, key=OF_RESULTS.index, default="")
    return {"success": "good", "": "missing" if due else "none"}.get(best, best)


def _was_due(snapshot: Snapshot, day: date, now: datetime) -> bool:
    midnight = datetime.combine(day, time(), snapshot.schedule.zone)
    due = snapshot.schedule.next_after(midnight - timedelta(seconds=1))
    return due is not None and due.astimezone(snapshot.schedule.zone).date() == day and due <= now
