"""The schedule: cron as cron(8) means it, one run per local day, summer time included."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubbackup.config.schedule import Schedule, ScheduleError
from hubbackup.errors import SettingsError

PARIS = ZoneInfo("Europe/Paris")
ZONES = ("UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Sao_Paulo")


def due_times(expression: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    schedule = Schedule.parse(expression, zone)
    found = []
    moment = start
    while (due := schedule.next_after(moment)) is not None and due < end:
        found.append(due)
        moment = due
    return found


def numbers(field: str, low: int, high: int) -> set[int]:
    """The oracle's own reading of one field of a cron expression, in the plainest way."""
    found = set()
    for item in field.split(","):
        span, _, step = item.partition("/")
        first, _, last = span.partition("-")
        end = int(last or (high if step else first)) if first != "*" else high
        values = range(low if first == "*" else int(first), end + 1)
        found |= set(itertools.islice(values, 0, None, int(step or 1)))
    return found


def oracle(expression: str, zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    """Every due minute, found by looking at every minute there is."""
    minute, hour, day, month, weekday = expression.split()
    minutes, hours = numbers(minute, 0, 59), numbers(hour, 0, 23)
    days, months = numbers(day, 1, 31), numbers(month, 1, 12)
    weekdays = {number % 7 for number in numbers(weekday, 0, 7 if "7" in weekday else 6)}

    def wanted(local: datetime) -> bool:
        by_day, by_weekday = local.day in days, local.isoweekday() % 7 in weekdays
        either = not day.startswith("*") and not weekday.startswith("*")
        on_day = (by_day or by_weekday) if either else (by_day and by_weekday)
        return local.minute in minutes and local.hour in hours and local.month in months and on_day

    found = set()
    moment = start
    while moment < end:
        local = moment.astimezone(zone)
        if wanted(local.replace(tzinfo=None)) and (local.fold == 0 or len(hours) == 24):
            found.add(moment)
        # What the clocks skip between this minute and the next moves on with them.
        after = (moment + timedelta(minutes=1)).astimezone(zone)
        skipped = local.replace(tzinfo=None) + timedelta(minutes=1)
        jump = (after.utcoffset() or timedelta()) - (local.utcoffset() or timedelta())
        while skipped < after.replace(tzinfo=None) and jump > timedelta():
            if wanted(skipped):
                found.add(skipped.replace(tzinfo=UTC) - (local.utcoffset() or timedelta()))
            skipped += timedelta(minutes=1)
        moment += timedelta(minutes=1)
    return sorted(due for due in found if start < due < end)


@st.composite
def fields(draw: st.DrawFn, low: int, high: int) -> str:
    def item() -> str:
        first = draw(st.integers(low, high))
        last = draw(st.integers(first, high))
        step = draw(st.integers(1, high))
        return draw(st.sampled_from([f"{first}", f"{first}-{last}", f"*/{step}", f"{first}-{last}/{step}"]))

    if draw(st.booleans()):
        return "*"
    return ",".join(item() for _ in range(draw(st.integers(1, 2))))


SWITCHES = [  # a day around a change of the clocks in one of the zones, and some plain ones
    datetime(2026, 3, 28, 12, tzinfo=UTC),
    datetime(2026, 10, 24, 12, tzinfo=UTC),
    datetime(2026, 3, 7, 12, tzinfo=UTC),
    datetime(2026, 11, 1, 0, tzinfo=UTC),
    datetime(2026, 4, 4, 3, tzinfo=UTC),
    datetime(2026, 10, 3, 3, tzinfo=UTC),
    datetime(2018, 11, 3, 12, tzinfo=UTC),  # São Paulo's clocks went on at midnight
    datetime(2028, 2, 28, 12, tzinfo=UTC),
    datetime(2026, 12, 31, 0, tzinfo=UTC),
]


@settings(max_examples=30, deadline=None)
@given(
    minute=fields(0, 59),
    hour=fields(0, 23),
    day=fields(1, 31),
    month=fields(1, 12),
    weekday=fields(0, 7),
    zone=st.sampled_from(ZONES),
    start=st.sampled_from(SWITCHES),
    offsets=st.lists(st.integers(0, 26 * 60 - 1), min_size=4, max_size=4),
)
def test_due_times_are_those_of_brute_force(
    minute: str, hour: str, day: str, month: str, weekday: str, zone: str, start: datetime, offsets: list[int]
) -> None:
    """Within 26 hours around a change of the clocks, the next run is the one that a look at every minute finds."""
    expression = f"{minute} {hour} {day} {month} {weekday}"
    end = start + timedelta(hours=26)
    due = oracle(expression, ZoneInfo(zone), start, end)
    schedule = Schedule.parse(expression, zone)
    for moment in (start, *(start + timedelta(minutes=offset) for offset in offsets)):
        found = schedule.next_after(moment)
        expected = next((one for one in due if one > moment), None)
        assert (found if found and found < end else None) == expected
        last = end - timedelta(minutes=1)
        assert list(schedule.times_between(moment, last)) == [one for one in due if moment < one <= last]


@pytest.mark.parametrize("expression", ["30 2 * * *", "0 3 * * *", "59 23 * * *", "0 0 * * *"])
def test_one_run_per_local_day_over_a_year_of_paris(expression: str) -> None:
    """366 days with both changes of the clocks: each local day has exactly one run."""
    start = datetime(2027, 12, 31, 23, tzinfo=UTC)  # 2028 is a leap year
    found = due_times(expression, "Europe/Paris", start - timedelta(minutes=1), start + timedelta(days=366))
    days = [due.astimezone(PARIS).date() for due in found]
    assert len(days) == 366
    assert len(set(days)) == 366


def test_a_skipped_hour_moves_on_with_the_clocks() -> None:
    """02:30 does not exist on the day that summer time begins: the run comes when 02:30 would have been."""
    due = Schedule.parse("30 2 * * *", "Europe/Paris").next_after(datetime(2026, 3, 28, 12, tzinfo=UTC))
    assert due is not None
    assert due.astimezone(PARIS).isoformat() == "2026-03-29T03:30:00+02:00"


def test_a_repeated_hour_counts_once_unless_every_hour_is_due() -> None:
    """02:30 comes twice when summer time ends: a daily run once, an hourly one twice."""
    start, end = datetime(2026, 10, 24, 22, tzinfo=UTC), datetime(2026, 10, 25, 22, 59, tzinfo=UTC)
    assert len(due_times("30 2 * * *", "Europe/Paris", start, end)) == 1
    assert len(due_times("30 * * * *", "Europe/Paris", start, end)) == 25


@pytest.mark.parametrize("sunday", ["0", "7", "sun", "SUN"])
def test_sunday_has_two_numbers(sunday: str) -> None:
    """0 and 7 are Sunday, as in cron(8) and not as in APScheduler."""
    due = Schedule.parse(f"0 3 * * {sunday}", "UTC").next_after(datetime(2026, 2, 6, tzinfo=UTC))
    assert due == datetime(2026, 2, 8, 3, tzinfo=UTC)


def test_ranges_may_end_on_the_second_sunday() -> None:
    """`5-7` is Friday to Sunday."""
    start = datetime(2026, 2, 1, 12, tzinfo=UTC)
    days = [due.day for due in due_times("0 3 * * 5-7", "UTC", start, start + timedelta(days=10))]
    assert days == [6, 7, 8]


def test_either_day_field_makes_a_day_match() -> None:
    """With day of month and day of week both restricted, either is enough (crontab(5)); one `*` makes it both."""
    start, end = datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    assert [due.day for due in due_times("0 3 13 * fri", "UTC", start, end)] == [6, 13, 20, 27]
    assert [due.day for due in due_times("0 3 13 * *", "UTC", start, end)] == [13]
    assert [due.day for due in due_times("0 3 */10 * fri", "UTC", start, end)] == []


def test_names_stand_for_numbers() -> None:
    """Months and weekdays have names, in any case, in ranges and lists too."""
    assert (
        Schedule.parse("0 3 * JAN,mar-May Mon-fri", "UTC").fields == Schedule.parse("0 3 * 1,3-5 1-5", "UTC").fields
    )


def test_what_never_comes_is_none() -> None:
    """30 February is not a date; 29 February is found up to eight years ahead."""
    now = datetime(2097, 1, 1, tzinfo=UTC)
    assert Schedule.parse("0 3 30 2 *", "UTC").next_after(now) is None
    assert Schedule.parse("0 3 29 2 *", "UTC").next_after(now) == datetime(2104, 2, 29, 3, tzinfo=UTC)


def test_the_next_is_strictly_after() -> None:
    """A due moment itself is not due again."""
    schedule = Schedule.parse("0 3 * * *", "UTC")
    moment = datetime(2026, 2, 8, 3, tzinfo=UTC)
    assert schedule.next_after(moment) == moment + timedelta(days=1)
    assert schedule.next_after(moment - timedelta(microseconds=1)) == moment


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("", "it has 0 fields"),
        ("0 3 * *", "it has 4 fields"),
        ("0 3 * * * *", "it has 6 fields"),
        ("@daily", "it has 1 fields"),
        ("60 3 * * *", "60 for its minute"),
        ("0 24 * * *", "24 for its hour"),
        ("0 3 0 * *", "0 for its day of month"),
        ("0 3 * 13 *", "13 for its month"),
        ("0 3 * * 8", "8 for its day of week"),
        ("0 3 * * lundi", "'lundi' for its day of week"),
        ("0 3 * mon *", "'mon' for its month"),
        ("5-1 3 * * *", "an empty range"),
        ("*/0 3 * * *", "an empty range"),
        ("0,,1 3 * * *", "'' for its minute"),
        ("-1 3 * * *", "'-1' for its minute"),
        ("1.5 3 * * *", "'1.5' for its minute"),
        ("٣ 3 * * *", "'٣' for its minute"),
        ("0 3 L * *", "'l' for its day of month"),
    ],
)
def test_a_bad_expression_names_its_field(expression: str, complaint: str) -> None:
    """What is not a cron expression is refused, with the field that is wrong."""
    with pytest.raises(ScheduleError) as caught:
        Schedule.parse(expression, "UTC")
    assert complaint in str(caught.value)
    assert isinstance(caught.value, SettingsError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("expression", ["0 3 * * *", "*/7 1-2 * * *", "30 2 * * 0", "0 12 29 2 *"])
def test_the_last_due_time_is_the_one_before_the_next(expression: str) -> None:
    """Also at the very moment, and over a change of the clocks."""
    schedule = Schedule.parse(expression, "Europe/Paris")
    moment = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
    last = schedule.last_until(moment)
    assert last is not None
    assert last <= moment
    following = schedule.next_after(last)
    assert following is not None
    assert following > moment
    assert schedule.last_until(last) == last
    assert schedule.last_until(following - timedelta(seconds=1)) == last
    assert Schedule.parse("0 0 30 2 *", "UTC").last_until(moment) is None
