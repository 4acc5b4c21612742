"""What was measured and how it compares: results of rounds, their ratios with a spread, and goals. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Result:
    """One way in one round.

    `cpu_seconds` are hubbackup's own, `busy_seconds` the whole machine's, `s3_cpu_seconds` the S3 server's.
    `run_seconds` and `dump_seconds` are hubbackup's own figures: the run from lock to closing line, which is all that
    a daemon does, and from pg_dump's start until the database is released; `load_seconds` those of a restore's load.
    """

    seconds: float
    busy_seconds: float | None = None
    stored_bytes: int | None = None
    peak_bytes: int | None = None
    cpu_seconds: float | None = None
    s3_cpu_seconds: float | None = None
    run_seconds: float | None = None
    dump_seconds: float | None = None
    verify_seconds: float | None = None
    whole_less_s3_seconds: float | None = None
    plain_bytes: int | None = None
    load_seconds: float | None = None


Round = Mapping[str, Result]
"""What each way took in one round, by the way's name; a way may sit a round out."""


@dataclass(frozen=True)
class Spread:
    """The median of `count` values, with the smallest and the largest."""

    middle: float
    low: float
    high: float
    count: int = 1

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None where there is no value."""
        return cls(median(values), min(values), max(values), len(values)) if values else None

    def __str__(self) -> str:
        if self.count == 1:
            return plain(self.middle)
        return f"{plain(self.middle)} ({plain(self.low)}-{plain(self.high)})"


@dataclass(frozen=True)
class Goal:
    """What the design asks for: `value` at most `limit`, or at least. No value: it could not be measured."""

    name: str
    value: Spread | None
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        """By the median; None where nothing was measured."""
        if self.value is None:
            return None
        return self.value.middle >= self.limit if self.at_least else self.value.middle <= self.limit

    @property
    def verdict(self) -> str:
        """In words."""
        return {True: "met", False: "**not met**", None: "not measured"}[self.met]

    def as_json(self) -> dict[str, Any]:
        """For the record."""
        value = vars(self.value) if self.value else None
        return {"name": self.name, "value": value, "limit": self.limit, "at_least": self.at_least, "met": self.met}


def values(rounds: Sequence[Round], way: str, field: str = "seconds") -> list[float]:
    """One figure of one way, over the rounds that have it."""
    found = [getattr(one[way], field) for one in rounds if way in one]
    return [value for value in found if value is not None]


def ratio(
    rounds: Sequence[Round], way: str, base: str, field: str = "seconds", base_field: str = "seconds"
) -> Spread | None:
    """How many times `base`'s figure `way`'s was in the same round; None where no round has both."""
    found = []
    for one in rounds:
        if way in one and base in one:
            above, below = getattr(one[way], field), getattr(one[base], base_field)
            if above is not None and below:
                found.append(above / below)
    return Spread.of(found)


def largest(found: Sequence[float]) -> Spread | None:
    """The largest value as the one that counts, with the range."""
    return Spread(max(found), min(found), max(found), len(found)) if found else None


def plain(value: float) -> str:
    """Three digits that say something."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 20 else f"{value:.2f}"
