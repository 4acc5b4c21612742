"""`python -m bench [--quick] [--restore]`: measure, print a Markdown report with the goals, write it and the record.

It never fails on a time, and ends within its budget: what no longer fits is skipped, and the report says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from bench import goals, plot, report, shapes
from bench.figures import Goal
from bench.growth import Growth, grow
from bench.measure import BenchError, OutOfTimeError, Stopwatch
from bench.plan import QUICK_RESTORES, Plan, RestorePlan, plan_of
from bench.probes import Probes, probe
from bench.program import Workbench
from bench.restore_bench import RestoreSession
from bench.rounds import Rounds, run_rounds
from bench.servers import postgres_container, s3_server
from bench.ways import FLOOR, ways

HERE = Path(__file__).parent
RECORD, RESTORE_RECORD = HERE / "results.json", HERE / "restores.json"
PLOT = HERE.parent / "docs" / "growth.svg"
WORK = HERE / "work"
"""Where a quick run writes: it must not replace the record of a whole one."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
STOPPED = 128


class Session:
    """One run of the bench: what it found so far, in the order of the report."""

    def __init__(self, plan: Plan, watch: Stopwatch) -> None:
        self._plan = plan
        self._watch = watch
        self.machine = machine()
        self.shapes: dict[str, Rounds] = {}
        self.probes = Probes()
        self.growth = Growth()
        self.notes: list[str] = []
        self.broken = False

    def run(self) -> None:
        """Measure everything that there is time for. Raises BenchError where nothing can be measured at all."""
        with tempfile.TemporaryDirectory(prefix="hubbackup-bench-") as name:
            directory = Path(name)
            with postgres_container(self._watch) as container, s3_server(directory) as s3:
                self.machine["postgresql"] = container.version
                bench = Workbench(self._watch, container, s3, directory)
                try:
                    for number, shape in enumerate(self._plan.shapes):
                        self._measure_shape(bench, shape, main=number == 0)
                except OutOfTimeError:
                    self._note("time was up before everything was measured")

    def _measure_shape(self, bench: Workbench, shape: str, *, main: bool) -> None:
        plan, watch = self._plan, self._watch
        megabytes = plan.megabytes if main else plan.megabytes * plan.other_share
        watch.say(f"{shape}: loading some {megabytes:.0f} MB into PostgreSQL {bench.container.version}")
        database = shapes.load(shape, bench.container.psql, megabytes)
        found = self.shapes[shape] = Rounds()
        compared, lacking = ways(bench, database, with_peers=main)
        found.notes += lacking
        watch.say("one backup to warm up")
        bench.backup(database)
        bench.s3.empty()
        until = plan.main_rounds_until_seconds if main else plan.rounds_until_seconds
        run_rounds(bench, compared, plan.rounds if main else min(plan.rounds, plan.other_rounds), until, found, FLOOR)
        self.broken |= found.broken
        if main:
            self._attempt(
                lambda: probe(bench, database, self.probes, idle_seconds=plan.idle_seconds, repeats=plan.repeats)
            )
            original_bytes = next(one[way].plain_bytes for one in found.rounds for way in one if one[way].plain_bytes)
            assert original_bytes is not None
            self._attempt(lambda: grow(bench, database, original_bytes, plan.gigabytes, plan.tables, self.growth))
        bench.container.psql(f"DROP DATABASE {database}")

    def _attempt(self, work: Callable[[], None]) -> None:
        """A part that breaks is told, and the rest goes on."""
        try:
            work()
        except BenchError as error:
            self.broken = True
            self._note(str(error))

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self._watch.say(text)

    def goals(self) -> dict[str, list[Goal]]:
        """Under each shape those of speed, then the program's own."""
        found = {shape: goals.of_backups(rounds.rounds) for shape, rounds in self.shapes.items()}
        main = next(iter(self.shapes.values()), Rounds())
        for shape in self._plan.shapes[:1]:
            found[shape] = [*found.get(shape, []), *goals.of_restores(main.rounds)]
        return found | {"program": goals.of_program(main.rounds, self.probes, self.growth)}

    def markdown(self) -> str:
        """The report."""
        self.machine["load_at_end"] = os.getloadavg()[0]
        found = self.goals()
        parts = [report.machine(self.machine)]
        notes = list(self.notes)
        for shape, rounds in self.shapes.items():
            notes += [note for note in rounds.notes if note not in notes]
            if rounds.rounds:
                parts += [
                    f"### {report.shape_title(shape, rounds.rounds)}",
                    report.table(rounds.rounds),
                    report.goals(found[shape]),
                ]
        parts += ["### The program", report.goals(found["program"])]
        if self.growth.sizes or self.growth.tables:
            parts += ["### Growth", report.growth(self.growth)]
        notes += self.growth.notes
        if notes:
            parts += ["### Notes", "\n".join(f"- {note}" for note in notes)]
        return "\n\n".join(parts) + "\n"

    def as_json(self) -> dict[str, Any]:
        """Every figure."""
        return {
            "machine": self.machine,
            "plan": vars(self._plan),
            "seconds": round(self._watch.elapsed_seconds),
            "notes": self.notes,
            "goals": {part: [goal.as_json() for goal in found] for part, found in self.goals().items()},
            "probes": self.probes.as_json(),
            "growth": self.growth.as_json(),
            "shapes": {
                shape: {"notes": rounds.notes, "rounds": report.as_json(rounds.rounds)}
                for shape, rounds in self.shapes.items()
            },
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """0 unless something broke."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="2 minutes: 100 MB, fewer rounds, no 10 GB")
    parser.add_argument("--megabytes", type=float, help="size of the plain dump (500; quick: 100)")
    parser.add_argument("--rounds", type=int, help="5; quick: 2")
    parser.add_argument(
        "--shape",
        choices=shapes.SHAPES,
        action="append",
        help="the first is measured whole; default: typical, time sheets",
    )
    parser.add_argument("--gigabytes", type=float, nargs="*", help="sizes to grow to (0.1 1 10; quick: 0.01 0.1)")
    parser.add_argument("--tables", type=int, nargs="*", help="numbers of tables (10 1000 10000; quick: 10 1000)")
    parser.add_argument("--output", type=Path, help="the record; default: bench/results.json; quick: bench/work/")
    parser.add_argument("--restore", action="store_true", help="restores instead of backups: 20 minutes; quick: 5")
    parser.add_argument(
        "--before", type=Path, metavar="DIR", help="with --restore: an earlier version, to compare with"
    )
    options = parser.parse_args(arguments)
    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    session: Session | RestoreSession
    if options.restore:
        restores = QUICK_RESTORES if options.quick else RestorePlan()
        watch = Stopwatch(restores.budget_seconds)
        chosen = restores.chosen(options.shape, options.megabytes, options.rounds)
        session = RestoreSession(chosen, watch, machine(), options.before and options.before.resolve())
        quick, whole = WORK / "restores.json", RESTORE_RECORD
    else:
        plan = plan_of(options)
        watch = Stopwatch(plan.budget_seconds)
        session = Session(plan, watch)
        quick, whole = WORK / "quick.json", RECORD
    record = options.output or (quick if options.quick else whole)
    try:
        session.run()
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    text = session.markdown()
    record.parent.mkdir(parents=True, exist_ok=True)
    record.with_suffix(".md").write_text(text, encoding="utf-8")
    record.write_text(json.dumps(session.as_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    drawing = PLOT if record == RECORD else record.with_suffix(".svg")
    if isinstance(session, Session) and plot.panels(session.growth):
        drawing.write_text(plot.svg(session.growth), encoding="utf-8")
    print(text)
    print(f"{watch.elapsed_seconds:.0f} s in all; every figure is in {record}, this in {record.with_suffix('.md')}")
    return 1 if session.broken else 0


def stop(number: int, _frame: FrameType | None) -> None:
    """End by way of every clean-up, which a second signal must not interrupt."""
    for each in STOP_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    print("bench: stopped; removing the container", file=sys.stderr)
    sys.exit(STOPPED + number)


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


if __name__ == "__main__":
    sys.exit(main())
