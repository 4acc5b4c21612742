"""The figures as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.figures import Goal, Result, Round, Spread, plain, ratio, values
from bench.growth import Growth, Point
from bench.restores import PSQL
from bench.ways import FLOOR, GZIP, RESTORE, RESTORE_PLAIN

MIB = 2**20
PARTS = (
    ("of that until the database is free", "dump_seconds"),
    ("of that reading the file back", "verify_seconds"),
)


def table(rounds: Sequence[Round]) -> str:
    """One line a way: medians over the rounds with the spread; ratios within a round, a restore's to plain psql."""
    lines = [
        "| way | seconds | x floor | CPU s, all | CPU x floor | of that hubbackup | of that the S3 server"
        " | MB at rest | peak MiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for way in dict.fromkeys(name for one in rounds for name in one):
        base = RESTORE_PLAIN if way in (RESTORE, RESTORE_PLAIN) else FLOOR
        cells = [
            _shown(Spread.of(values(rounds, way))),
            _shown(ratio(rounds, way, base)),
            _shown(Spread.of(values(rounds, way, "busy_seconds"))),
            _shown(ratio(rounds, way, base, "busy_seconds", "busy_seconds")),
            _middle(values(rounds, way, "cpu_seconds")),
            _middle(values(rounds, way, "s3_cpu_seconds")),
            _middle([size / 1e6 for size in values(rounds, way, "stored_bytes")]),
            _middle([max(values(rounds, way, "peak_bytes"), default=0) / MIB])
            if values(rounds, way, "peak_bytes")
            else "",
        ]
        name = way.replace("|", "\\|")  # a bar inside of code ends a cell all the same
        lines.append(f"| {name} | {' | '.join(cells)} |")
        for part, field in PARTS:
            if found := Spread.of(values(rounds, way, field)):
                lines.append(f"| {part} | {found} | {_shown(ratio(rounds, way, FLOOR, field))} | | | | | | |")
    return "\n".join(lines)


def restores(rounds: Sequence[Round]) -> str:
    """One line a way of restoring: medians over the rounds with the spread; ratios to plain psql within a round."""
    lines = [
        "| way | seconds | x psql | the run | x psql | the load | CPU s, all | of that hubbackup | peak MiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for way in dict.fromkeys(name for one in rounds for name in one):
        peak = max(values(rounds, way, "peak_bytes"), default=0.0)
        cells = [
            _shown(Spread.of(values(rounds, way))),
            _shown(ratio(rounds, way, PSQL)),
            _shown(Spread.of(values(rounds, way, "run_seconds"))),
            _shown(ratio(rounds, way, PSQL, "run_seconds")),
            _middle(values(rounds, way, "load_seconds")),
            _shown(Spread.of(values(rounds, way, "busy_seconds"))),
            _middle(values(rounds, way, "cpu_seconds")),
            plain(peak / MIB) if peak else "",
        ]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def restore_title(shape: str, rounds: Sequence[Round]) -> str:
    """The shape, how large its dump is, and in how many rounds it was restored."""
    sizes = values(rounds, PSQL, "plain_bytes")
    size = f", {sizes[0] / 1e6:.0f} MB of plain dump" if sizes else ""
    return f"{shape[0].upper()}{shape[1:]}{size}, {len(rounds)} interleaved round{'s' if len(rounds) != 1 else ''}"


def goals(found: Sequence[Goal]) -> str:
    """One line a goal."""
    lines = ["| goal | measured | limit | |", "| --- | ---: | ---: | --- |"]
    for goal in found:
        sign = "≥" if goal.at_least else "≤"
        lines.append(f"| {goal.name} | {_shown(goal.value)} | {sign} {goal.limit:g} | {goal.verdict} |")
    return "\n".join(lines)


def growth(found: Growth) -> str:
    """One line a database."""
    lines = [
        "| plain dump | tables | seconds until free | MB/s | seconds in all | peak MiB |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [_growth_line(point) for point in [*found.sizes, *found.tables]]
    return "\n".join(lines)


def _growth_line(point: Point) -> str:
    size = f"{point.plain_bytes / 1e9:.2f} GB"
    rate = f"{point.bytes_per_second / 1e6:.0f}"
    peak = f"{point.peak_bytes / MIB:.0f}"
    return f"| {size} | {point.tables:,} | {point.seconds:.2f} | {rate} | {point.whole_seconds:.1f} | {peak} |"


def shape_title(shape: str, rounds: Sequence[Round]) -> str:
    """The shape, how large its dump is, and how well it compresses."""
    sizes = [one[way].plain_bytes for one in rounds for way in one if one[way].plain_bytes]
    size = f", {sizes[0] / 1e6:.0f} MB of plain dump" if sizes and sizes[0] else ""
    small = values(rounds, GZIP, "stored_bytes")
    if size and small:
        size += f" ({(sizes[0] or 0) / small[0]:.1f} times the size that `gzip -6` makes of it)"
    count = len(rounds)
    return f"{shape[0].upper()}{shape[1:]}{size}: {count} interleaved round{'s' if count != 1 else ''}"


def machine(facts: Mapping[str, Any]) -> str:
    """What the figures were taken on, in one sentence."""
    return (
        f"{facts['at']}: {facts['processors']} processors ({facts['model']}), Linux {facts['kernel']}, Python"
        f" {facts['python']}, PostgreSQL {facts.get('postgresql', '?')}; load {facts['load_at_start']:.1f} before."
    )


def as_json(rounds: Sequence[Round]) -> list[dict[str, dict[str, Any]]]:
    """Every figure of every round."""
    return [{way: _known(result) for way, result in one.items()} for one in rounds]


def _known(result: Result) -> dict[str, Any]:
    return {name: _rounded(value) for name, value in vars(result).items() if value is not None}


def _rounded(value: float) -> float:
    return round(value, 3) if isinstance(value, float) else value


def _shown(spread: Spread | None) -> str:
    return "" if spread is None else str(spread)


def _middle(found: Sequence[float]) -> str:
    spread = Spread.of(found)
    return "" if spread is None else plain(spread.middle)
