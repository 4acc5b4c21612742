"""Line plots over time, laid out as numbers that the page's template draws as SVG. Pure; it knows no HTML."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

WIDTH, HEIGHT = 330, 190
LEFT, RIGHT, TOP, BOTTOM = 54, 8, 12, 28
STEPS_OF_TEN = (1, 2, 2.5, 5, 10)
STEPS_OF_TIME = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)
MAX_TICKS = 4


@dataclass(frozen=True)
class Point:
    """A value at a time (aware), and what to say of it."""

    at: datetime
    value: float
    text: str


@dataclass(frozen=True)
class Dot:
    """A point on the canvas."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Tick:
    """A label on an axis, at `position` along it. `anchor` is SVG's text-anchor."""

    position: float
    text: str
    anchor: str = "middle"


@dataclass(frozen=True)
class Plot:
    """All that the template needs, in units of the viewBox."""

    key: str
    title: str
    description: str
    path: str
    dots: tuple[Dot, ...]
    marks: tuple[Dot, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def draw(
    key: str,
    title: str,
    points: Sequence[Point],
    marks: Sequence[tuple[datetime, str]],
    label: Callable[[float], str],
    steps: Callable[[float], float],
    zone: ZoneInfo,
) -> Plot | None:
    """Lay out `points`, in the order of time, over an axis from zero, and `marks` on the base line.

    None where there is no point. `label` words a value, `steps` gives the axis its step for a largest value.
    """
    if not points:
        return None
    times = [point.at for point in points] + [at for at, _ in marks]
    first, last = min(times), max(times)
    span = (last - first).total_seconds()
    largest = max(point.value for point in points)
    step = steps(largest)
    top = step * max(1, math.ceil(largest / step))

    def x(at: datetime) -> float:
        share = (at - first).total_seconds() / span if span else 0.5
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM), 1)

    dots = tuple(Dot(x(point.at), y(point.value), point.text) for point in points)
    return Plot(
        key=key,
        title=title,
        description=_describe(points, len(marks), label, zone),
        path="M" + " L".join(f"{dot.x} {dot.y}" for dot in dots),
        dots=dots,
        marks=tuple(Dot(x(at), HEIGHT - BOTTOM, text) for at, text in marks),
        x_ticks=_days(first, last, x, zone),
        y_ticks=tuple(Tick(y(step * n), label(step * n)) for n in range(round(top / step) + 1)),
    )


def decimal_step(largest: float) -> float:
    """A round step of which a few reach `largest`."""
    if largest / MAX_TICKS <= 0:  # nothing, or next to it
        return 1
    power = 10.0 ** math.floor(math.log10(largest / MAX_TICKS))
    return next((factor * power for factor in STEPS_OF_TEN if factor * power * MAX_TICKS >= largest), 10 * power)


def time_step(largest: float) -> float:
    """A step of whole seconds, minutes or hours, of which a few reach `largest` seconds."""
    for step in STEPS_OF_TIME:
        if step * MAX_TICKS >= largest:
            return step
    return 86400 * math.ceil(largest / MAX_TICKS / 86400)


def _days(first: datetime, last: datetime, x: Callable[[datetime], float], zone: ZoneInfo) -> tuple[Tick, ...]:
    """Up to three dates, evenly spread; the outer ones stay within the canvas."""
    count = min(3, (last - first).days + 1)
    if count == 1:
        return (Tick(x(first), _day(first, zone)),)
    ticks = []
    for n in range(count):
        at = first + (last - first) * n / (count - 1)
        anchor = "start" if n == 0 else "end" if n == count - 1 else "middle"
        ticks.append(Tick(x(at), _day(at, zone), anchor))
    return tuple(ticks)


def _day(at: datetime, zone: ZoneInfo) -> str:
    local = at.astimezone(zone)
    return f"{local.day} {local:%b}"


def _describe(points: Sequence[Point], marks: int, label: Callable[[float], str], zone: ZoneInfo) -> str:
    """The plot in one sentence, for those who can't see it."""
    first, last = points[0], points[-1]
    failed = f", {marks} failed {'run' if marks == 1 else 'runs'}" if marks else ""
    return (
        f"From {label(first.value)} on {_day(first.at, zone)} to {label(last.value)} on {_day(last.at, zone)}:"
        f" {len(points)} backups{failed}."
    )
