"""How much is measured, and until when. Pure."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

from bench.shapes import APPLICATION, GIANT, TIME_SHEETS, TYPICAL


@dataclass(frozen=True)
class Plan:
    """The whole bench. Times are seconds since its start. Later shapes are smaller, without peers."""

    shapes: tuple[str, ...] = (TYPICAL, TIME_SHEETS)
    megabytes: float = 500
    rounds: int = 5
    other_share: float = 0.8
    other_rounds: int = 5
    repeats: int = 5
    idle_seconds: float = 15
    gigabytes: tuple[float, ...] = (0.1, 1, 10)
    tables: tuple[int, ...] = (10, 1000, 10000)
    main_rounds_until_seconds: float = 480
    rounds_until_seconds: float = 860
    budget_seconds: float = 880
    """The rest of 15 minutes is for removing the container, and for what was running when the time was up."""


QUICK = Plan(
    shapes=(TYPICAL,),
    megabytes=100,
    rounds=2,
    other_rounds=1,
    repeats=3,
    idle_seconds=6,
    gigabytes=(0.01, 0.1),
    tables=(10, 1000),
    main_rounds_until_seconds=65,
    rounds_until_seconds=105,
    budget_seconds=112,
)


def plan_of(options: argparse.Namespace) -> Plan:
    """The plan that the command line asks for."""
    base = QUICK if options.quick else Plan()
    chosen = {
        "shapes": tuple(options.shape) if options.shape else None,
        "megabytes": options.megabytes,
        "rounds": options.rounds,
        "gigabytes": None if options.gigabytes is None else tuple(options.gigabytes),
        "tables": None if options.tables is None else tuple(options.tables),
    }
    return Plan(**(vars(base) | {name: value for name, value in chosen.items() if value is not None}))


@dataclass(frozen=True)
class RestorePart:
    """One shape of data, restored on a fast server and on one with PostgreSQL's own settings, in so many rounds."""

    shape: str
    megabytes: float
    fast_rounds: int
    stock_rounds: int
    fast_until_seconds: float
    stock_until_seconds: float


@dataclass(frozen=True)
class RestorePlan:
    """The bench of restores."""

    parts: tuple[RestorePart, ...] = (
        RestorePart(APPLICATION, 1000, 3, 2, 380, 640),
        RestorePart(TYPICAL, 500, 4, 3, 760, 880),
        RestorePart(GIANT, 300, 3, 1, 1080, 1140),
    )
    budget_seconds: float = 1160
    """The rest of 20 minutes is for removing the containers, and for what was running when the time was up."""

    def chosen(self, wanted: list[str] | None, megabytes: float | None, rounds: int | None) -> RestorePlan:
        """The same for some shapes, for another size, or in another number of rounds."""
        parts = [part for part in self.parts if not wanted or part.shape in wanted]
        if megabytes is not None:
            parts = [replace(part, megabytes=megabytes) for part in parts]
        if rounds is not None:
            parts = [replace(part, fast_rounds=rounds, stock_rounds=rounds) for part in parts]
        return replace(self, parts=tuple(parts))


QUICK_RESTORES = RestorePlan(
    parts=(
        RestorePart(APPLICATION, 150, 2, 2, 100, 190),
        RestorePart(TYPICAL, 150, 2, 0, 230, 230),
        RestorePart(GIANT, 100, 2, 0, 270, 270),
    ),
    budget_seconds=285,
)
