"""The plot of growth: small panels side by side as one SVG, drawn by hand, legible on light and dark pages. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bench.growth import Growth, Point

PANEL_WIDTH, PANEL_HEIGHT = 380, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 22, 40, 48
MEMORY_LIMIT_MIB = 96
FEW_TICKS = 3
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #24292f; }
  .title { font-weight: 600; font-size: 13px; }
  .grid { stroke: #d0d7de; stroke-width: 1; }
  .line { stroke: #0969da; stroke-width: 2; fill: none; }
  .dot { fill: #0969da; }
  .guide { stroke: #9a6700; stroke-width: 1.5; stroke-dasharray: 5 4; fill: none; }
  .guide-text { fill: #9a6700; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .grid { stroke: #3d444d; }
    .line { stroke: #58a6ff; }
    .dot { fill: #58a6ff; }
    .guide { stroke: #d29922; }
    .guide-text { fill: #d29922; }
  }
"""


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, with a label at each of `ticks`."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool

    def place(self, value: float) -> float:
        """Where on the axis, from 0 to 1."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Panel:
    """One plot of y over x. `guide`: a dashed line through these points, and what to write beside it."""

    title: str
    x: Axis
    y: Axis
    points: tuple[tuple[float, float], ...]
    guide: tuple[tuple[float, float], ...] = ()
    guide_text: str = ""


def logarithmic(label: str, values: Sequence[float], margin: float = 1.5) -> Axis:
    """An axis that holds all of `values` (each above 0), with ticks at the powers of ten, or at 1, 2, 5 where few."""
    low, high = min(values) / margin, max(values) * margin
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 2, 5)):
        ticks = tuple(step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high)
        if len(ticks) >= FEW_TICKS:
            break
    return Axis(label, low, high, ticks, True)


def from_zero(label: str, largest: float, step: float) -> Axis:
    """A linear axis from 0 to the first multiple of `step` that is above `largest`."""
    count = math.floor(largest / step) + 1
    return Axis(label, 0.0, count * step, tuple(step * number for number in range(count + 1)), False)


def panels(growth: Growth) -> list[Panel]:
    """Time and memory over size, and over the number of tables; only where there are two points to compare."""
    found = []
    for points, over, field, factor in (
        (growth.sizes, "plain dump, GB", "plain_bytes", 1e-9),
        (growth.tables, "tables", "tables", 1.0),
    ):
        if len(points) < 2:
            continue
        places = [getattr(point, field) * factor for point in points]
        x = logarithmic(over, places)
        found.append(_time(x, places, points, proportional=field == "plain_bytes"))
        found.append(_memory(x, places, points))
    return found


def svg(growth: Growth) -> str:
    """The whole document; panels in two columns."""
    drawn = panels(growth)
    width, height = 2 * PANEL_WIDTH, max(1, math.ceil(len(drawn) / 2)) * PANEL_HEIGHT
    told = "; ".join(
        f"{point.plain_bytes / 1e9:.2f} GB in {point.tables} tables: {point.seconds:.1f} s,"
        f" {point.peak_bytes / 2**20:.0f} MiB"
        for point in (*growth.sizes, *growth.tables)
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' role="img" aria-labelledby="title description">',
        '<title id="title">Time and peak memory of a backup as the database grows</title>',
        f'<desc id="description">{escape(told)}</desc>',
        f"<style>{STYLE}</style>",
    ]
    for number, panel in enumerate(drawn):
        place = f"translate({number % 2 * PANEL_WIDTH} {number // 2 * PANEL_HEIGHT})"
        parts += [f'<g transform="{place}">', *_drawn(panel), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _time(x: Axis, places: Sequence[float], points: Sequence[Point], *, proportional: bool) -> Panel:
    seconds = [point.seconds for point in points]
    guide: tuple[tuple[float, float], ...] = ()
    if proportional:  # through the last point, the least disturbed by what every run costs
        rate = seconds[-1] / places[-1]
        guide = tuple((place, rate * place) for place in (places[0], places[-1]))
    y = logarithmic("seconds until the database is free", [*seconds, *(value for _, value in guide)])
    text = "in proportion" if proportional else ""
    return Panel(
        f"Time over {x.label.partition(',')[0]}", x, y, tuple(zip(places, seconds, strict=True)), guide, text
    )


def _memory(x: Axis, places: Sequence[float], points: Sequence[Point]) -> Panel:
    peaks = [point.peak_bytes / 2**20 for point in points]
    y = from_zero("peak of the daemon, MiB", max([*peaks, MEMORY_LIMIT_MIB]), 20)
    guide = ((x.low, MEMORY_LIMIT_MIB), (x.high, MEMORY_LIMIT_MIB))
    title = f"Memory over {x.label.partition(',')[0]}"
    return Panel(title, x, y, tuple(zip(places, peaks, strict=True)), guide, f"goal: {MEMORY_LIMIT_MIB}")


def _drawn(panel: Panel) -> list[str]:
    right, bottom = PANEL_WIDTH - RIGHT, PANEL_HEIGHT - BOTTOM
    middle = (LEFT + right) / 2

    def spot(point: tuple[float, float]) -> tuple[float, float]:
        across, up = panel.x.place(point[0]), panel.y.place(point[1])
        return round(LEFT + across * (right - LEFT), 1), round(bottom - up * (bottom - TOP), 1)

    lines = [f'<text class="title" x="{LEFT}" y="22">{escape(panel.title)}</text>']
    for tick in panel.y.ticks:
        _, y = spot((panel.x.low, tick))
        lines.append(f'<line class="grid" x1="{LEFT}" y1="{y}" x2="{right}" y2="{y}"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{tick:,g}</text>')
    for tick in panel.x.ticks:
        x, _ = spot((tick, panel.y.low))
        lines.append(f'<line class="grid" x1="{x}" y1="{TOP}" x2="{x}" y2="{bottom}"/>')
        lines.append(f'<text x="{x}" y="{bottom + 17}" text-anchor="middle">{tick:,g}</text>')
    lines.append(f'<text x="{middle}" y="{bottom + 36}" text-anchor="middle">{escape(panel.x.label)}</text>')
    turned = f"rotate(-90 14 {(TOP + bottom) / 2})"
    lines.append(
        f'<text x="14" y="{(TOP + bottom) / 2}" text-anchor="middle" transform="{turned}">'
        f"{escape(panel.y.label)}</text>"
    )
    if panel.guide:
        lines.append(f'<path class="guide" d="{_path([spot(point) for point in panel.guide])}"/>')
        (x, y), (_, end) = spot(panel.guide[0]), spot(panel.guide[-1])
        beside = (x + 26, y + 4) if end < y else (x + 6, y - 6)  # below where it rises
        lines.append(f'<text class="guide-text" x="{beside[0]}" y="{beside[1]}">{escape(panel.guide_text)}</text>')
    spots = [spot(point) for point in panel.points]
    lines.append(f'<path class="line" d="{_path(spots)}"/>')
    lines += [f'<circle class="dot" cx="{x}" cy="{y}" r="4"/>' for x, y in spots]
    return lines


def _path(spots: Sequence[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{x} {y}" for x, y in spots)
