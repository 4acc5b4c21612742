"""Due times go by the wall clock, wherever it is set: nothing skipped, doubled, or frozen beyond one slot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbackup.config.schedule import Schedule
from hubbackup.daemon.clock import TOLERANCE_SECONDS, Clock, ScheduleTrigger

NIGHTLY = Schedule.parse("0 3 * * *", "UTC")
MORNING = datetime(2026, 2, 10, 10, tzinfo=UTC)
SLOT = datetime(2026, 2, 10, 3, tzinfo=UTC)
DAY = timedelta(days=1)


class Hands:
    """Two clocks in a test's hands."""

    def __init__(self) -> None:
        self.wall, self.steady = 1_000_000.0, 50.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


def test_a_jump_is_noticed_once() -> None:
    """Either way, and a machine that slept; small corrections and the passing of time are none."""
    hands = Hands()
    clock = Clock(lambda: hands.wall, lambda: hands.steady)
    hands.pass_by(3600)
    assert clock.jumped_seconds() == 0
    hands.wall += 3600
    hands.pass_by(15)
    assert clock.jumped_seconds() == pytest.approx(3600)
    assert clock.jumped_seconds() == 0
    hands.wall -= 365 * 86400
    assert clock.jumped_seconds() == pytest.approx(-365 * 86400)
    hands.wall += TOLERANCE_SECONDS / 2
    assert clock.jumped_seconds() == 0


def test_small_corrections_add_up() -> None:
    """A clock that is led slowly to another time is noticed in the end, too."""
    hands = Hands()
    clock = Clock(lambda: hands.wall, lambda: hands.steady)
    for _ in range(3):
        hands.wall -= TOLERANCE_SECONDS / 2 - 1
        seen = clock.jumped_seconds()
    assert seen == pytest.approx(-3 * (TOLERANCE_SECONDS / 2 - 1))


def test_slots_come_one_after_the_other() -> None:
    """As on any clock that is right; those missed in a stall come as one."""
    trigger = ScheduleTrigger(NIGHTLY, MORNING)
    assert trigger.get_next_fire_time(None, MORNING) == SLOT + DAY
    assert trigger.get_next_fire_time(SLOT + DAY, SLOT + DAY) == SLOT + 2 * DAY
    assert trigger.get_next_fire_time(SLOT + DAY, SLOT + 5.5 * DAY) == SLOT + 6 * DAY


def test_a_clock_set_back_over_a_slot_does_not_bring_it_again() -> None:
    """03:00 was served, and at 03:10 it becomes 02:30."""
    trigger = ScheduleTrigger(NIGHTLY, MORNING - DAY)
    trigger.get_next_fire_time(SLOT, SLOT)
    assert trigger.get_next_fire_time(None, SLOT - timedelta(minutes=30)) == SLOT + DAY


@pytest.mark.parametrize("ahead", [timedelta(hours=30), timedelta(days=40), timedelta(days=3650)])
def test_a_clock_that_was_far_ahead_freezes_nothing(ahead: timedelta) -> None:
    """Whether the daemon started then, or served slots then: the next slot of the right time is due."""
    started = ScheduleTrigger(NIGHTLY, MORNING + ahead)
    assert started.get_next_fire_time(None, MORNING) == SLOT + DAY
    served = ScheduleTrigger(NIGHTLY, MORNING)
    slot = NIGHTLY.next_after(MORNING + ahead)
    assert slot is not None
    served.get_next_fire_time(slot, slot)
    assert served.get_next_fire_time(None, MORNING) == SLOT + DAY


def test_the_slot_between_two_daemons_is_served() -> None:
    """What was due after the one had ended is the other's, at once."""
    trigger = ScheduleTrigger(NIGHTLY, SLOT - timedelta(seconds=1))
    assert trigger.get_next_fire_time(None, SLOT + timedelta(seconds=1)) == SLOT
    assert trigger.get_next_fire_time(SLOT, SLOT + timedelta(seconds=1)) == SLOT + DAY


@given(st.integers(-400 * 24, 400 * 24), st.integers(0, 23), st.booleans())
def test_after_any_jump_the_next_slot_is_at_most_one_away(hours: int, hour: int, served: bool) -> None:
    """Counted on the new time: never later than the second slot to come, and never the one that was just served."""
    then = SLOT + timedelta(hours=hours)
    trigger = ScheduleTrigger(NIGHTLY, then)
    last = NIGHTLY.next_after(then)
    assert last is not None
    if served:
        trigger.get_next_fire_time(last, last)
    now = SLOT + timedelta(hours=hour)
    due = trigger.get_next_fire_time(None, now)
    first = NIGHTLY.next_after(now)
    assert due is not None
    assert first is not None
    assert due <= first + DAY
    assert not served or due != last
