"""The strip of the last 30 days: each day by what came of the backup that was due."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from hubbackup.config.schedule import Schedule
from hubbackup.web.days import SHOWN_DAYS, last_days
from tests.support.hub_chantier import NOW, PARIS, S3_TIMEOUT, Site


def night(age: int) -> datetime:
    return datetime(2026, 2, 8, 3, 0, tzinfo=PARIS) - timedelta(days=age)


def states(site: Site, now: datetime = NOW) -> list[str]:
    return [day.state for day in last_days(site.snapshot(now), now)]


def test_each_night_has_its_state(tmp_path: Path) -> None:
    """Good, degraded, failed, stopped, none though one was due; and before the first, nothing is known."""
    site = Site(tmp_path)
    site.add_backup(night(5))
    site.add_backup(night(4), stores=("local",), problems=(S3_TIMEOUT,))
    site.add_failure(night(3))
    site.add_run("backup", night(2), 1, 143)
    site.add_backup(night(0))
    assert states(site)[-6:] == ["good", "degraded", "failed", "stopped", "missing", "good"]
    assert set(states(site)[:-6]) == {"none"}
    assert len(states(site)) == SHOWN_DAYS
    assert last_days(site.snapshot(), NOW)[-1].text == "Sun 8 Feb: a good backup"


def test_a_second_try_mends_the_day(tmp_path: Path) -> None:
    """A failure and later a good one is a good day; a good one and later a failure too: there is a backup of it."""
    site = Site(tmp_path)
    site.add_failure(night(1))
    site.add_backup(night(1) + timedelta(hours=6))
    site.add_backup(night(0))
    site.add_failure(night(0) + timedelta(hours=6))
    assert states(site)[-2:] == ["good", "good"]


def test_what_was_pruned_since_was_a_good_day(tmp_path: Path) -> None:
    """The record of runs outlives the backups; and a backup without a record counts as well."""
    site = Site(tmp_path)
    site.add_backup(night(20), stores=())
    site.add_backup(night(19), record=False)
    assert states(site)[-21:-19] == ["good", "good"]


def test_what_is_not_due_yet_is_not_missing(tmp_path: Path) -> None:
    """At one in the morning nothing is missing of a day whose backup comes at three; nor on days without a run."""
    site = Site(tmp_path)
    site.add_backup(night(1))
    assert states(site, night(0) - timedelta(hours=2))[-2:] == ["good", "none"]
    assert states(site, night(0) + timedelta(hours=2))[-2:] == ["good", "missing"]
    site.schedule = Schedule.parse("0 3 * * 1", "Europe/Paris")
    assert states(site)[-2:] == ["good", "none"]


def test_of_several_databases_the_worst_counts(tmp_path: Path) -> None:
    """A day is good where each has its backup."""
    one, other = Site(tmp_path, "one"), Site(tmp_path, "other")
    one.add_backup(night(0), stores=("local",))
    other.add_backup(night(1), stores=("local",))
    one.add_backup(night(1), stores=("local",))
    snapshot = one.collector("one", "other").take(NOW)
    assert [day.state for day in last_days(snapshot, NOW)][-2:] == ["good", "missing"]


@pytest.mark.parametrize(
    "changes", [datetime(2026, 3, 29, 12, tzinfo=PARIS), datetime(2026, 10, 25, 12, tzinfo=PARIS)]
)
def test_days_are_those_of_the_clock_on_the_wall(tmp_path: Path, changes: datetime) -> None:
    """Thirty different days, also where the clocks change; nothing known, nothing claimed."""
    days = last_days(Site(tmp_path).snapshot(changes), changes)
    assert len({day.date for day in days}) == SHOWN_DAYS
    assert {day.state for day in days} == {"none"}
    assert days[-1].date == changes.date().isoformat()
