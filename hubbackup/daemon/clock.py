"""The wall clock, by which runs are due, and that anybody may set at any time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from apscheduler.triggers.base import BaseTrigger

from hubbackup.config.schedule import Schedule

TOLERANCE_SECONDS = 10.0
"""Time servers correct a clock by less than this without anybody's notice."""


class Clock:
    """Notices that the wall clock was set, or that the machine slept: then it and the steady one disagree."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._steady = steady
        self._ahead = wall() - steady()

    def jumped_seconds(self) -> float:
        """By how much since the last call, backwards negative; 0 where it was not set."""
        ahead = self._wall() - self._steady()
        jump = ahead - self._ahead
        if abs(jump) < TOLERANCE_SECONDS:
            return 0.0
        self._ahead = ahead
        return jump


class ScheduleTrigger(BaseTrigger):  # type: ignore[misc]
    """A `Schedule` as APScheduler wants it. Slots that were missed in a stall come as one, and none comes twice.

    A clock that was set back makes the last slot one of the future. Where it is the very next one, it has been: the
    one after it is due. Where others are due before it, these are: else nothing would run for as long as the clock
    had been ahead.
    """

    def __init__(self, schedule: Schedule, since: datetime) -> None:
        """Slots up to `since` are not its own."""
        self._schedule = schedule
        self.last = since

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The next due time at or after `now`, and after the previous one."""
        if previous_fire_time is not None:
            self.last = previous_fire_time
        before_now = now - timedelta(microseconds=1)
        if self.last <= before_now:
            # The first slot may have passed already, while one daemon made room for the next.
            return self._schedule.next_after(self.last if previous_fire_time is None else before_now)
        due = self._schedule.next_after(before_now)
        return due if due is None or due != self.last else self._schedule.next_after(self.last)
