"""`python -m bench [--quick]`: measure, print a Markdown table and the goals, write bench/results.json.

Rounds are interleaved (each way once, then again), and ratios are taken within a round, so that another load on
the machine weighs on all ways alike. It never fails on a time, and ends within the budget of time it is given.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import report, shapes
from bench.measure import BenchError
from bench.report import Spread
from bench.servers import DATABASE, empty_bucket, postgres_container, s3_endpoint
from bench.ways import LOCAL_FULL, Result, Way, Workbench

RESULTS = Path(__file__).with_name("results.json")
STARTS = {"--help": ("--help",), "health": ("health",)}


def main(arguments: Sequence[str] | None = None) -> int:
    """0 unless something broke."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="100 MB, 3 rounds, time sheets only: 2 minutes")
    parser.add_argument("--megabytes", type=float, help="size of the plain dump (400; quick: 100)")
    parser.add_argument("--rounds", type=int, help="5; quick: 3")
    parser.add_argument("--shape", choices=shapes.SHAPES, action="append", help="both; quick: time sheets")
    parser.add_argument("--output", type=Path, default=RESULTS, help="default: bench/results.json")
    options = parser.parse_args(arguments)
    quick = options.quick
    budget_seconds = 120.0 if quick else 800.0
    megabytes = options.megabytes or (100 if quick else 400)
    rounds = options.rounds or (3 if quick else 5)
    chosen = options.shape or (shapes.SHAPES[:1] if quick else shapes.SHAPES)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    clock = time.monotonic()
    document: dict[str, Any] = {"machine": machine(), "megabytes": megabytes, "shapes": {}}
    try:
        for number, shape in enumerate(chosen, start=1):
            deadline = clock + budget_seconds * number / len(chosen)
            document["shapes"][shape] = run(shape, megabytes, rounds, deadline)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    document["seconds"] = round(time.monotonic() - clock)
    document["machine"]["load_at_end"] = os.getloadavg()[0]
    options.output.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"\n{document['seconds']} s in all; every figure is in {options.output}")
    return 0


def run(shape: str, megabytes: float, wanted_rounds: int, deadline: float) -> dict[str, Any]:
    """Measure all ways on one shape of data; prints as it goes, and its table."""
    with tempfile.TemporaryDirectory(prefix="hubbackup-bench-") as name, postgres_container() as container:
        directory = Path(name)
        with s3_endpoint(directory) as endpoint:
            say(f"{shape}: loading some {megabytes:.0f} MB into PostgreSQL {container.version}")
            shapes.load(shape, container.psql, DATABASE, megabytes)
            bench = Workbench(container, endpoint, directory)
            ways, notes = bench.ways()
            for note in notes:
                say(note)
            say("one round to warm up")
            for way in ways:
                if "gzip`" not in way.name:  # minutes, and no cache that it would warm
                    way.run()
            rounds = measure_rounds(ways, wanted_rounds, deadline, endpoint)
            say("start of the program, census, sizes")
            bench.beat()
            start = {
                label: Spread.of([bench.hubbackup(*argv).seconds for _ in range(9)]) for label, argv in STARTS.items()
            }
            census = bench.census_bytes_per_second()
            gzip_6 = bench.gzip_6_bytes()
    return conclude(shape, rounds, start, census, gzip_6, notes)


def measure_rounds(ways: Sequence[Way], wanted: int, deadline: float, endpoint: str) -> dict[str, list[Result]]:
    """Each way once a round, each round starting with another way; fewer rounds where time runs out."""
    rounds: dict[str, list[Result]] = {way.name: [] for way in ways}
    longest = 0.0
    for number in range(wanted):
        if number and time.monotonic() + longest > deadline:
            say(f"no time for more than {number} of {wanted} rounds")
            break
        clock = time.monotonic()
        first = number % len(ways)
        for way in [*ways[first:], *ways[:first]]:
            result = way.run()
            empty_bucket(endpoint)
            rounds[way.name].append(result)
            dump = f", of that {result.dump_seconds:.2f} s with the database" if result.dump_seconds else ""
            say(f"round {number + 1}: {result.seconds:6.2f} s  {way.name}{dump}")
        longest = max(longest, time.monotonic() - clock)
    return rounds


def conclude(
    shape: str, rounds: report.Rounds, start: dict[str, Spread], census: float, gzip_6: int, notes: Sequence[str]
) -> dict[str, Any]:
    """Print the table and the goals of one shape; what goes into the JSON."""
    found = report.goals(rounds, start)
    ours = rounds[LOCAL_FULL][0].stored_bytes or 0
    count = len(next(iter(rounds.values())))
    print(f"\n### {shape[0].upper()}{shape[1:]}: medians of {count} interleaved rounds (smallest-largest)\n")
    print(report.table(rounds))
    print(f"\n- census alone: {census / 1e6:.0f} MB/s")
    print(f"- at rest {ours / 1e6:.1f} MB, {ours / gzip_6:.2f} x the size that `gzip` (level 6) makes")
    print(*(f"- {goal}" for goal in found), sep="\n")
    print(flush=True)
    return {
        "rounds": report.as_json(rounds),
        "start_seconds": {label: vars(spread) for label, spread in start.items()},
        "census_bytes_per_second": round(census),
        "stored_bytes": ours,
        "gzip_6_bytes": gzip_6,
        "goals": [{"name": goal.name, **vars(goal.value), "limit": goal.limit, "met": goal.met} for goal in found],
        "notes": list(notes),
    }


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processors": os.cpu_count(),
        "model": models[0] if models else platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_at_start": os.getloadavg()[0],
    }


def say(text: str) -> None:
    """Progress, on stderr: stdout is the report."""
    print(f"{datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
