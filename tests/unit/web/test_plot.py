"""The plots' geometry: round axes from zero, everything within the canvas, words for those who can't see it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from hubbackup.web.plot import Plot, Point, decimal_step, draw, time_step

START = datetime(2026, 1, 9, 2, tzinfo=UTC)
PARIS = ZoneInfo("Europe/Paris")


def plot_of(values: list[float], marks: int = 0) -> Plot | None:
    points = [Point(START + timedelta(days=n), value, f"{value}") for n, value in enumerate(values)]
    lost = [(START + timedelta(days=n, hours=3), "failed") for n in range(marks)]
    return draw("key", "Title", points, lost, lambda value: f"{value:g}", decimal_step, PARIS)


@given(st.lists(st.floats(0, 1e15), min_size=1, max_size=40), st.integers(0, 3))
def test_everything_is_on_the_canvas(values: list[float], marks: int) -> None:
    """Whatever the values: points, marks and ticks lie within, the axis starts at zero and covers the largest."""
    plot = plot_of(values, marks)
    assert plot is not None
    for dot in (*plot.dots, *plot.marks):
        assert plot.left <= dot.x <= plot.right
        assert plot.top <= dot.y <= plot.bottom
    assert plot.y_ticks[0].position == plot.bottom
    assert 2 <= len(plot.y_ticks) <= 6


def test_no_point_no_plot() -> None:
    """Failures alone have no size to show."""
    assert plot_of([], marks=2) is None


def test_the_sentence_for_who_cannot_see() -> None:
    """First, last, how many, how many failed, in local days."""
    plot = plot_of([100, 150, 120], marks=1)
    assert plot is not None
    assert plot.description == "From 100 on 9 Jan to 120 on 11 Jan: 3 backups, 1 failed run."
    assert [tick.text for tick in plot.y_ticks] == ["0", "50", "100", "150"]


def test_steps_are_round() -> None:
    """Bytes go in 1, 2, 2.5, 5; seconds in what clocks have."""
    assert [decimal_step(n) for n in (0, 3.9, 52.2e6, 522e6)] == [1, 1, 2e7, 2e8]
    assert [time_step(n) for n in (0.2, 19, 70, 500, 5000, 200000)] == [1, 5, 30, 300, 1800, 86400]
