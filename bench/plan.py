"""How much is measured, and until when. Pure."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from bench.shapes import TIME_SHEETS, TYPICAL


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
