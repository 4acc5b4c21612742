"""When runs are due: standard five-field cron in a time zone, as cron(8) means it.

APScheduler's own `from_crontab` counts Monday as 0, demands day-of-month *and* day-of-week where both are given
(cron counts Sunday as 0 and 7 and takes *either*: crontab(5), "The day of a command's execution can be specified
by two fields"), and fires again and again in the hour that is repeated when summer time ends. So the times are
computed here; the daemon hands them to APScheduler as a trigger.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hubbackup.errors import SettingsError

WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
NUMBERS_BY_NAME = {
    "month": {month: number for number, month in enumerate(MONTHS, start=1)},
    "day of week": {day: number for number, day in enumerate(WEEKDAYS)},
}
FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7))
SEARCH_DAYS = 366 * 8 + 2
"""29 February comes at least once in eight years."""
ITEM = re.compile(r"(?P<first>\*|[a-z0-9]+)(?:-(?P<last>[a-z0-9]+))?(?:/(?P<step>[0-9]+))?", re.ASCII)


@dataclass(frozen=True)
class Schedule:
    """A cron expression in a time zone; build it with `parse`."""

    expression: str
    time_zone: str
    fields: tuple[frozenset[int], ...]
    either_day: bool
    """Both day fields are restricted, so either of them makes a day match."""

    @classmethod
    def parse(cls, expression: str, time_zone: str) -> Schedule:
        """Raises SettingsError (a ValueError too, for pydantic) naming the field that is wrong."""
        words = expression.lower().split()
        if len(words) != len(FIELDS):
            raise ScheduleError(f"is not a five-field cron expression, it has {len(words)} fields")
        values = tuple(
            frozenset(_parse_field(word, name, low, high))
            for word, (name, low, high) in zip(words, FIELDS, strict=True)
        )
        weekdays = frozenset(day % 7 for day in values[4])
        either = not words[2].startswith("*") and not words[4].startswith("*")
        return cls(expression, time_zone, (*values[:4], weekdays), either)

    def next_after(self, moment: datetime) -> datetime | None:
        """The first due time strictly after `moment` (aware), in UTC; None where there is none (30 February).

        A local time that the clocks skip moves on with the clocks; one that they repeat counts once, unless
        every hour is due. So a daily schedule gives one run per local day.
        """
        day = moment.astimezone(self.zone).date() - timedelta(days=1)
        for _ in range(SEARCH_DAYS):
            if self._is_due_on(day):
                later = [due for due in self._times_on(day) if due > moment]
                if later:
                    return min(later)
            day += timedelta(days=1)
        return None

    def times_between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Every due time after `after` and not after `until` (both aware), in UTC, ascending."""
        day = after.astimezone(self.zone).date() - timedelta(days=1)
        while day <= until.astimezone(self.zone).date() + timedelta(days=1):
            if self._is_due_on(day):
                yield from sorted({due for due in self._times_on(day) if after < due <= until})
            day += timedelta(days=1)

    def last_until(self, moment: datetime) -> datetime | None:
        """The last due time at or before `moment` (aware), in UTC; None where there was none in eight years."""
        day = moment.astimezone(self.zone).date() + timedelta(days=1)
        for _ in range(SEARCH_DAYS):
            if self._is_due_on(day):
                earlier = [due for due in self._times_on(day) if due <= moment]
                if earlier:
                    return max(earlier)
            day -= timedelta(days=1)
        return None

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of the schedule."""
        return ZoneInfo(self.time_zone)

    def _is_due_on(self, day: date) -> bool:
        _, _, days, months, weekdays = self.fields
        by_day, by_weekday = day.day in days, day.isoweekday() % 7 in weekdays
        return day.month in months and (by_day or by_weekday if self.either_day else by_day and by_weekday)

    def _times_on(self, day: date) -> Iterator[datetime]:
        minutes, hours = self.fields[0], self.fields[1]
        folds = (0, 1) if len(hours) == 24 else (0,)
        for hour, minute, fold in itertools.product(hours, minutes, folds):
            local = datetime(day.year, day.month, day.day, hour, minute, fold=fold, tzinfo=self.zone)
            due = local.astimezone(UTC)
            if fold == 0 or due.astimezone(self.zone).fold == 1:  # a second time only where the clocks repeat it
                yield due


class ScheduleError(SettingsError, ValueError):
    """A cron expression that is not valid."""


def _parse_field(text: str, name: str, low: int, high: int) -> Iterator[int]:
    """The numbers that one field of a cron expression stands for. Raises ScheduleError."""
    for item in text.split(","):
        found = ITEM.fullmatch(item)
        if found is None:
            raise ScheduleError(f"has {item!r} for its {name}, which is not a number, range or list")
        first_word, last_word = found["first"], found["last"]
        step = int(found["step"] or 1)
        if first_word == "*":
            first, last = low, (6 if high == 7 else high)
        else:
            first = _number(first_word, name, low, high)
            last = _number(last_word, name, low, high) if last_word else (high if found["step"] else first)
        if step == 0 or last < first:
            raise ScheduleError(f"has {item!r} for its {name}, which is an empty range")
        yield from range(first, last + 1, step)


def _number(word: str, name: str, low: int, high: int) -> int:
    value = NUMBERS_BY_NAME.get(name, {}).get(word)
    if value is None:
        if not word.isdecimal():
            raise ScheduleError(f"has {word!r} for its {name}, which is not a number or name of one")
        value = int(word)
    if not low <= value <= high:
        raise ScheduleError(f"has {value} for its {name}, which goes from {low} to {high}")
    return value
