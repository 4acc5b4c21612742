"""Whether the last good backup is as young as the schedule promises: decided here, purely.

The next backup is due at the schedule's next time after the last good one began. It gets two hours, and as long
again as the last one took; after that, silence is an alarm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hubbackup.config.schedule import Schedule
from hubbackup.jobs.history import RunRecord
from hubbackup.jobs.state_file import read_json, write_json

GRACE = timedelta(hours=2)
EACH = "databases"
"""Under which the file has what is remembered of each of several."""
TELL_EVERY = timedelta(days=1)
LONGEST_RUN = timedelta(days=1)
"""The longest that a run at work holds back the alarm."""


@dataclass(frozen=True)
class Deadline:
    """`due`: when the next backup should begin; `deadline`: when its absence is an alarm (None: never)."""

    due: datetime | None
    deadline: datetime | None
    overdue: bool


def deadline_of(
    schedule: Schedule,
    *,
    since: datetime,
    took: timedelta = timedelta(0),
    now: datetime,
    busy_since: datetime | None = None,
) -> Deadline:
    """`since`: when the last good backup began, or where there is none, since when there should be one.

    A run at work since `busy_since` is waited for.
    """
    due = schedule.next_after(since)
    if due is None:
        return Deadline(None, None, False)
    deadline = due + GRACE + took
    busy = busy_since is not None and now - busy_since < LONGEST_RUN
    return Deadline(due, deadline, now > deadline and not busy)


def missed_run(
    schedule: Schedule, since: datetime | None, records: Iterable[RunRecord], now: datetime
) -> datetime | None:
    """When a scheduled backup was due and none was made since, or None. `since`: the newest good one's start.

    Where there never was a good one, the oldest recorded run counts as the time since when there should be.
    """
    if since is None:
        first = next(iter(records), None)
        since = first.started_at if first else None
    due = schedule.next_after(since) if since is not None else None
    return due if due is not None and due <= now else None


def should_tell(told_at: datetime | None, now: datetime) -> bool:
    """Once a day; a time in the future is a clock that was set back, and counts for nothing."""
    return told_at is None or now - told_at >= TELL_EVERY or told_at > now


class Watch:
    """What the watch remembers over restarts: since when it watches, and when it raised its last alarm.

    Each of several databases has its own, under its name; the only one has no name.
    """

    def __init__(self, path: Callable[[], Path], database: str = "") -> None:
        """`path` is called each time: the state directory may move."""
        self._path = path
        self._database = database
        self._unwritten: dict[str, datetime | None] = {}

    def since(self, now: datetime) -> datetime:
        """When the watch began; now, where this is the first time."""
        found = self._read().get("since")
        if found is None:
            self._write(since=now)
        return found or now

    def began(self) -> datetime | None:
        """When the watch began, if it has."""
        return self._read().get("since")

    def told_at(self) -> datetime | None:
        """When the alarm that is still on was last raised."""
        return self._read().get("told_at")

    def tell(self, now: datetime) -> None:
        """The alarm was raised."""
        self._write(told_at=now)

    def told_of_future_at(self) -> datetime | None:
        """When it was last told that a backup is from the future."""
        return self._read().get("told_of_future_at")

    def tell_of_future(self, now: datetime) -> None:
        """That is told now."""
        self._write(told_of_future_at=now)

    def forget_future(self) -> None:
        """No backup is from the future any more."""
        if self.told_of_future_at() is not None:
            self._write(told_of_future_at=None)

    def quiet(self) -> bool:
        """There is a good backup again. Returns whether an alarm was on."""
        was_on = self.told_at() is not None
        if was_on:
            self._write(told_at=None)
        return was_on

    def _read(self) -> dict[str, datetime]:
        try:
            texts = read_json(self._path())
            if self._database:
                texts = texts.get(EACH, {}).get(self._database, {})
            facts = {
                name: datetime.fromisoformat(text).astimezone(UTC)
                for name, text in texts.items()
                if text and name != EACH
            }
        except (ValueError, TypeError, AttributeError):
            facts = {}
        return {name: moment for name, moment in {**facts, **self._unwritten}.items() if moment is not None}

    def _write(self, **changes: datetime | None) -> None:
        path = self._path()
        facts = {name: moment.isoformat() if moment else None for name, moment in {**self._read(), **changes}.items()}
        kept = read_json(path)
        kept = kept if isinstance(kept, dict) else {}
        each = kept.get(EACH)
        each = each if isinstance(each, dict) else {}
        document = (
            {**kept, EACH: {**each, self._database: facts}}
            if self._database
            else {**facts, **({EACH: each} if each else {})}
        )
        try:
            write_json(path, document)
            self._unwritten = {}
        except OSError:  # remembered here at least, so that the alarm is not raised at each check
            self._unwritten |= changes
