"""Silence is an alarm: when it is one, and how often it is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hubbackup.config.schedule import Schedule
from hubbackup.jobs.history import History
from hubbackup.status.overdue import Watch, deadline_of, missed_run, should_tell

NIGHTLY = Schedule.parse("0 3 * * *", "UTC")
WEEKDAYS = Schedule.parse("0 3 * * 1-5", "UTC")
NEVER = Schedule.parse("0 3 30 2 *", "UTC")
SUNDAY = datetime(2026, 2, 8, 3, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("hours", "overdue"), [(0, False), (23, False), (25, False), (25.9, False), (26.1, True), (48, True)]
)
def test_the_next_one_gets_two_hours(hours: float, overdue: bool) -> None:
    """A nightly backup is overdue two hours after the time at which the next one was due."""
    assert deadline_of(NIGHTLY, since=SUNDAY, now=SUNDAY + timedelta(hours=hours)).overdue is overdue


def test_a_weekend_without_backups_is_no_silence() -> None:
    """What counts is the interval that the last good one lies in, not the shortest of the schedule."""
    friday = datetime(2026, 2, 6, 3, 0, 5, tzinfo=UTC)
    monday = datetime(2026, 2, 9, 3, 0, 0, tzinfo=UTC)
    assert not deadline_of(WEEKDAYS, since=friday, now=monday + timedelta(hours=1.9)).overdue
    assert deadline_of(WEEKDAYS, since=friday, now=monday + timedelta(hours=2.1)).overdue


def test_a_long_backup_gets_its_time() -> None:
    """Where the last one took five hours, the next may too; and one that is at work is waited for, for a day."""
    now = SUNDAY + timedelta(hours=28)
    assert not deadline_of(NIGHTLY, since=SUNDAY, took=timedelta(hours=5), now=now).overdue
    assert not deadline_of(NIGHTLY, since=SUNDAY, now=now, busy_since=now - timedelta(hours=4)).overdue
    assert deadline_of(NIGHTLY, since=SUNDAY, now=now, busy_since=now - timedelta(hours=25)).overdue


def test_a_schedule_that_never_comes_is_never_overdue() -> None:
    """30 February: the doctor tells that, not the watch."""
    assert deadline_of(NEVER, since=SUNDAY, now=SUNDAY + timedelta(days=400)).deadline is None


def test_told_once_a_day() -> None:
    """At once, then daily; a clock that was set back does not silence it."""
    assert should_tell(None, SUNDAY)
    assert not should_tell(SUNDAY, SUNDAY + timedelta(hours=23.9))
    assert should_tell(SUNDAY, SUNDAY + timedelta(hours=24))
    assert should_tell(SUNDAY, SUNDAY - timedelta(hours=1))


def test_the_watch_remembers_over_restarts(tmp_path: Path) -> None:
    """Since when it watches, and that it told; a good backup ends the alarm once."""
    path = tmp_path / "state" / "watch.json"
    assert Watch(lambda: path).since(SUNDAY) == SUNDAY
    later = Watch(lambda: path)
    assert later.since(SUNDAY + timedelta(days=3)) == SUNDAY
    later.tell(SUNDAY)
    assert Watch(lambda: path).told_at() == SUNDAY
    assert Watch(lambda: path).quiet()
    assert not Watch(lambda: path).quiet()
    assert Watch(lambda: path).since(SUNDAY + timedelta(days=3)) == SUNDAY


def test_without_a_place_to_write_it_still_remembers(tmp_path: Path) -> None:
    """A directory that can't be written must not make the alarm sound at each look."""
    (tmp_path / "file").write_text("")
    watch = Watch(lambda: tmp_path / "file" / "watch.json")
    watch.tell(SUNDAY)
    assert watch.told_at() == SUNDAY
    assert watch.quiet()
    assert watch.told_at() is None


def test_a_broken_memory_is_none(tmp_path: Path) -> None:
    """What a crash left of the file counts for nothing."""
    path = tmp_path / "watch.json"
    for text in ("", "[]", '{"told_at": 3}', '{"told_at": "soon"}'):
        path.write_text(text)
        assert Watch(lambda: path).told_at() is None


def test_a_run_that_was_due_while_nobody_watched_is_missed(tmp_path: Path) -> None:
    """Since the last good backup; where there is none, since the first recorded run; on a new host nothing is."""
    schedule = Schedule.parse("0 3 * * *", "UTC")
    history = History(tmp_path / "history.jsonl")
    morning = datetime(2026, 2, 8, 9, tzinfo=UTC)
    due = datetime(2026, 2, 8, 3, tzinfo=UTC)
    assert missed_run(schedule, due, history.runs(), morning) is None
    assert missed_run(schedule, due - timedelta(days=1), history.runs(), morning) == due
    assert missed_run(schedule, due - timedelta(days=1), history.runs(), due - timedelta(seconds=1)) is None
    assert missed_run(schedule, None, history.runs(), morning) is None
    history.add("backup", "run", due - timedelta(hours=20), 1.0, 1, {"cause": "no socket"})
    assert missed_run(schedule, None, history.runs(), morning) == due
