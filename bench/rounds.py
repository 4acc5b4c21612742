"""Interleaved rounds: each way once, then again, so that another load on the machine weighs on all ways alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.figures import Result, Round
from bench.measure import BenchError
from bench.program import Workbench
from bench.ways import Way


@dataclass
class Rounds:
    """What came of it: the results, what could not be run and why, and whether something was broken."""

    rounds: list[Round] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    broken: bool = False


def run_rounds(
    bench: Workbench, ways: Sequence[Way], wanted: int, until_seconds: float, found: Rounds, base: str
) -> None:
    """Up to `wanted` rounds into `found`, each starting with another way; fewer where they would not end in time.

    A way that fails is left out from then on, and noted. Raises BenchError where `base` does, OutOfTimeError.
    """
    watch = bench.watch
    left = list(ways)
    took: dict[str, float] = {}
    for number in range(wanted):
        due = [way for way in left if way.rounds is None or number < way.rounds]
        expected = sum(took.get(way.name, 0.0) for way in due)
        if number and watch.elapsed_seconds + expected > until_seconds:
            found.notes.append(f"no time for more than {number} of {wanted} rounds")
            watch.say(found.notes[-1])
            return
        results: dict[str, Result] = {}
        found.rounds.append(results)
        first = number % len(due)
        for way in [*due[first:], *due[:first]]:
            clock = watch.elapsed_seconds
            try:
                result = way.run()
            except BenchError as error:
                if way.name == base:
                    raise
                left.remove(way)
                found.broken |= not error.refused
                why = "this version has no such option" if error.refused else str(error).splitlines()[0]
                found.notes.append(f"{way.name} can't be run: {why}")
                watch.say(found.notes[-1])
                continue
            bench.s3.empty()
            results[way.name] = result
            took[way.name] = watch.elapsed_seconds - clock
            dump = f", of that {result.dump_seconds:.2f} s with the database" if result.dump_seconds else ""
            watch.say(f"round {number + 1}: {result.seconds:6.2f} s  {way.name}{dump}")
