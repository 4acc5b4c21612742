"""The figures as a table, and the goals that they are held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.ways import FLOOR, GUIDE, LOCAL_FULL, LOCAL_HASH, LOCAL_S3, RESTORE, RESTORE_PLAIN, Result

Rounds = Mapping[str, Sequence[Result]]


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, with the smallest and the largest."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value or more."""
        return cls(median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.low:.2f}-{self.high:.2f})"


@dataclass(frozen=True)
class Goal:
    """What the design asks for. `value` is held against `limit`, from below unless `at_least`."""

    name: str
    value: Spread
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """By the median."""
        return self.value.middle >= self.limit if self.at_least else self.value.middle <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return f"{'✓' if self.met else '✗'} {self.name}: {self.value}, goal {sign} {self.limit}"


def ratio(rounds: Rounds, way: str, base: str, field: str = "seconds", base_field: str = "seconds") -> Spread:
    """How many times as long `way` took as `base` did in the same round."""
    pairs = zip(rounds[way], rounds[base], strict=True)
    return Spread.of([getattr(one, field) / getattr(other, base_field) for one, other in pairs])


def goals(rounds: Rounds, start: Mapping[str, Spread]) -> list[Goal]:
    """The design's goals for speed and memory, on these figures."""
    peaks = [(result.peak_bytes or 0) / 2**20 for way in (LOCAL_FULL, LOCAL_S3, RESTORE) for result in rounds[way]]
    faster = "times faster than the guide's `pg_dump | gzip`"
    dump = "dump_seconds"
    return [
        Goal("time with the database / floor", ratio(rounds, LOCAL_HASH, FLOOR, dump), 1.3),
        Goal(f"{faster}, until the database is free", ratio(rounds, GUIDE, LOCAL_FULL, base_field=dump), 3.8, True),
        Goal(f"{faster}, whole program, read back in full", ratio(rounds, GUIDE, LOCAL_FULL), 3.8, True),
        Goal("with S3 / local alone, time with the database", ratio(rounds, LOCAL_S3, LOCAL_FULL, dump, dump), 1.1),
        Goal("with S3 / local alone, whole program", ratio(rounds, LOCAL_S3, LOCAL_FULL), 1.1),
        Goal("restore / `gunzip -c | psql`", ratio(rounds, RESTORE, RESTORE_PLAIN), 1.1),
        Goal("peak memory, MiB (the largest counts)", Spread(max(peaks), min(peaks), max(peaks)), 96),
        Goal("`hubbackup --help`, s", start["--help"], 0.4),
        Goal("`hubbackup health`, s", start["health"], 0.4),
    ]


def table(rounds: Rounds) -> str:
    """One line a way: seconds, and how many times the floor, medians with the spread over the rounds."""
    lines = ["| way | seconds | x floor | MB at rest | peak MiB |", "| --- | ---: | ---: | ---: | ---: |"]
    for way, results in rounds.items():
        seconds = Spread.of([result.seconds for result in results])
        stored = results[0].stored_bytes
        peaks = [result.peak_bytes / 2**20 for result in results if result.peak_bytes]
        size = f"{stored / 1e6:.1f}" if stored else ""
        peak = f"{max(peaks):.0f}" if peaks else ""
        name = way.replace("|", "\\|")  # a bar inside of code ends a cell all the same
        lines.append(f"| {name} | {seconds} | {ratio(rounds, way, FLOOR)} | {size} | {peak} |")
        if results[0].dump_seconds is not None:
            dump = Spread.of([result.dump_seconds or 0.0 for result in results])
            lines.append(f"| of that with the database | {dump} | {ratio(rounds, way, FLOOR, 'dump_seconds')} | | |")
    return "\n".join(lines)


def as_json(rounds: Rounds) -> dict[str, list[dict[str, Any]]]:
    """Every figure of every round."""
    return {
        way: [{name: value for name, value in vars(result).items() if value is not None} for result in results]
        for way, results in rounds.items()
    }
