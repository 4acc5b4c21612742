"""The bench's arithmetic: ratios within a round, goals, tables, the plot, and an end that nothing can hold up."""

from __future__ import annotations

import os
import re
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from bench import goals, plot, report, restores
from bench.figures import Goal, Result, Round, Spread, ratio
from bench.growth import Growth, Point
from bench.measure import BenchError, OutOfTimeError, Stopwatch
from bench.plan import QUICK, QUICK_RESTORES, Plan, RestorePlan
from bench.probes import Idle, Probes
from bench.shapes import APPLICATION, GIANT, TYPICAL
from bench.ways import (
    FLOOR,
    GZIP,
    LOCAL_FULL,
    LOCAL_HASH,
    LOCAL_S3,
    LOCAL_ZSTD,
    PIGZ,
    RESTORE,
    RESTORE_PLAIN,
    ZLIB_1,
)

MIB = 2**20


def hubbackup(seconds: float, dump_seconds: float, stored_bytes: int = 51_000_000) -> Result:
    return Result(
        seconds,
        busy_seconds=2 * seconds,
        stored_bytes=stored_bytes,
        peak_bytes=70 * MIB,
        cpu_seconds=seconds,
        run_seconds=seconds - 0.05,
        dump_seconds=dump_seconds,
        verify_seconds=0.1,
        plain_bytes=500_000_000,
    )


def a_round() -> Round:
    """Every goal of a backup is met, and just so where the program's own start is left out."""
    return {
        FLOOR: Result(2.0, 3.0),
        GZIP: Result(9.5, 10.0, 50_000_000),
        PIGZ: Result(3.3, 5.0, 60_000_000),
        ZLIB_1: Result(3.0, 5.0, 60_000_000),
        LOCAL_HASH: hubbackup(2.5, 2.4),
        LOCAL_ZSTD: hubbackup(2.3, 2.1),
        LOCAL_FULL: hubbackup(3.0, 2.4),
        LOCAL_S3: replace(hubbackup(3.6, 2.5), s3_cpu_seconds=0.8, whole_less_s3_seconds=3.2),
        RESTORE_PLAIN: Result(10.0),
        RESTORE: Result(10.5, peak_bytes=90 * MIB, run_seconds=10.1),
    }


def a_growth() -> Growth:
    sizes = [
        Point(6, 100_000_000, 5.0, 0.5, 0.9, 80 * MIB),
        Point(6, 1_000_000_000, 9.0, 5.0, 6.0, 81 * MIB),
        Point(6, 10_000_000_000, 30.0, 50.0, 60.0, 99 * MIB),
    ]
    return Growth(sizes, [Point(count, 40_000_000, 1.0, 1.0, 1.2, 82 * MIB) for count in (10, 1000, 10000)])


def test_a_ratio_is_taken_within_a_round() -> None:
    """Rounds under another load each give one ratio; the median of those counts, not the ratio of two medians."""
    rounds = [{"a": Result(2), "b": Result(1)}, {"a": Result(30), "b": Result(10)}, {"a": Result(8), "b": Result(4)}]
    assert ratio(rounds, "a", "b") == Spread(2, 2, 3, 3)


def test_a_round_without_the_way_says_nothing_of_it() -> None:
    """A way that sat a round out, and a figure that it does not have, are left out; without any there is no ratio."""
    rounds: list[Round] = [{"a": Result(2), "b": Result(1)}, {"b": Result(50)}, {"a": Result(9)}]
    assert ratio(rounds, "a", "b") == Spread(2, 2, 2, 1)
    assert ratio(rounds, "a", "b", "dump_seconds") is None
    assert ratio(rounds, "a", "c") is None


@pytest.mark.parametrize(
    ("value", "at_least", "met"),
    [(1.3, False, True), (1.31, False, False), (1.3, True, True), (1.29, True, False), (None, False, None)],
)
def test_a_goal_is_held_against_its_limit(value: float | None, at_least: bool, met: bool | None) -> None:
    """At the limit it is met, on the wrong side not; what was not measured is neither."""
    goal = Goal("speed", None if value is None else Spread.of([value]), 1.3, at_least)
    assert goal.met is met
    assert goal.verdict == {True: "met", False: "**not met**", None: "not measured"}[met]


def test_every_goal_of_a_backup_is_judged() -> None:
    """Each ratio that issue 5 asks for, with its limit, from the figures that it is about."""
    found = {goal.name: goal for goal in [*goals.of_backups([a_round()]), *goals.of_restores([a_round()])]}
    judged = {name: (round(goal.value.middle, 3), goal.limit, goal.met) for name, goal in found.items() if goal.value}
    run, whole, free = "the run", "with the program's start", "until the database is free"
    assert judged == {
        f"gzip at rest (hash) / floor, {run}": (1.225, 1.3, True),
        f"zstd at rest (hash) / floor, {run}": (1.125, 1.15, True),
        f"times faster than `pg_dump \\| gzip` (hash), {run}": (3.878, 3.8, True),
        f"times faster than `pg_dump \\| pigz -1` (hash), {run}": (1.347, 1.3, True),
        f"times faster than `pg_dump -Z1` (hash), {run}": (1.224, 1.15, True),
        f"read back in full (default) / floor, {run}": (1.475, 1.55, True),
        f"local and S3 at once / local alone, {run}": (1.203, 1.1, False),
        f"gzip at rest (hash) / floor, {whole}": (1.25, 1.3, True),
        f"gzip at rest (hash) / floor, {free}": (1.2, 1.3, True),
        f"zstd at rest (hash) / floor, {whole}": (1.15, 1.15, True),
        f"zstd at rest (hash) / floor, {free}": (1.05, 1.15, True),
        f"times faster than `pg_dump \\| gzip` (hash), {whole}": (3.8, 3.8, True),
        f"times faster than `pg_dump \\| gzip` (hash), {free}": (3.958, 3.8, True),
        f"times faster than `pg_dump \\| pigz -1` (hash), {whole}": (1.32, 1.3, True),
        f"times faster than `pg_dump \\| pigz -1` (hash), {free}": (1.375, 1.3, True),
        f"times faster than `pg_dump -Z1` (hash), {whole}": (1.2, 1.15, True),
        f"times faster than `pg_dump -Z1` (hash), {free}": (1.25, 1.15, True),
        f"read back in full (default) / floor, {whole}": (1.5, 1.55, True),
        f"local and S3 at once / local alone, {whole}": (1.2, 1.1, False),
        "local and S3 at once / local alone, less the S3 server's own processor time": (1.067, 1.1, True),
        f"local and S3 at once / local alone, {free}": (1.042, 1.1, True),
        "size at rest / `gzip -6`, gzip": (1.02, 1.03, True),
        "size at rest / `gzip -6`, zstd": (1.02, 1.03, True),
        f"restore / `gunzip -c \\| docker exec -i psql`, {run}": (1.01, 1.1, True),
        f"restore / `gunzip -c \\| docker exec -i psql`, {whole}": (1.05, 1.1, True),
    }


def a_round_of_restores() -> Round:
    """Every goal of a restore is met, and just so."""
    mine = Result(7.4, peak_bytes=90 * MIB, run_seconds=7.0, load_seconds=6.1)
    return {
        restores.PSQL: Result(10.0, plain_bytes=150_000_000),
        restores.PG_RESTORE: Result(7.0),
        restores.PARALLEL: mine,
        restores.SERIAL: replace(mine, run_seconds=10.2),
        restores.DRILL: replace(mine, run_seconds=6.0),
    }


@pytest.mark.parametrize("shape", [APPLICATION, TYPICAL, GIANT])
def test_every_goal_of_a_restore_is_judged(shape: str) -> None:
    """Against plain psql and pg_restore by the run's own time; on one giant table against psql alone, and less so."""
    found = {goal.name: goal for goal in goals.of_restores_of(shape, [a_round_of_restores()])}
    runs = {name.partition(" / ")[2]: goal for name, goal in found.items() if name.endswith("the run")}
    assert [goal.met for goal in runs.values()] == [True] * len(runs)
    limits = [goal.limit for goal in runs.values()]
    assert limits == ([0.9] if shape == GIANT else [0.7, 1.0])
    assert found["peak memory of hubbackup, MiB (the largest counts)"].met
    (drill,) = goals.of_drills([a_round_of_restores()])
    assert (drill.value, drill.met) == (Spread(0.6, 0.6, 0.6, 1), True)


def test_the_table_of_restores_is_whole() -> None:
    """One line a way, with as many cells as the title has; ratios are to plain psql."""
    title, _, *lines = report.restores([a_round_of_restores()] * 2).splitlines()
    assert len(lines) == 5
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {title.count("|")}
    (mine,) = [line for line in lines if line.startswith(f"| {restores.PARALLEL} |")]
    assert "| 0.74 (0.74-0.74) | 7.00 (7.00-7.00) | 0.70 (0.70-0.70) | 6.10 |" in mine
    assert "150 MB of plain dump, 2 interleaved rounds" in report.restore_title(GIANT, [a_round_of_restores()] * 2)


def test_a_plan_of_restores_can_be_made_smaller() -> None:
    """By shape, size and rounds; what is not asked for stays."""
    (part,) = QUICK_RESTORES.chosen([GIANT], 10, 1).parts
    assert (part.shape, part.megabytes, part.fast_rounds, part.stock_rounds) == (GIANT, 10, 1, 1)
    assert RestorePlan().chosen(None, None, None) == RestorePlan()


def test_every_goal_of_the_program_is_judged() -> None:
    """Memory, starting, idling, verifying and the census's share, with the limits of issues 4 and 5."""
    idle = Idle(60 * MIB, 0.0, 15)
    probes = Probes(
        Spread.of([0.3]), Spread.of([0.2]), idle, replace(idle, cpu_seconds=0.03), Spread.of([6e8]), 2.5e9
    )
    found = {goal.name: goal for goal in goals.of_program([a_round()], probes, a_growth())}
    judged = {name: (round(goal.value.middle, 3), goal.limit, goal.met) for name, goal in found.items() if goal.value}
    assert judged == {
        "verify, MB of plain dump per processor second": (600, 500, True),
        "peak memory of the program, MiB (the largest counts)": (90, 96, True),
        "peak memory of the daemon with S3 at 100 MB, MiB": (80, 96, True),
        "peak memory of the daemon with S3 at 10 GB, MiB": (99, 96, False),
        "idle daemon, local disk alone, MiB": (60, 80, True),
        "idle daemon, local disk and S3, MiB": (60, 80, True),
        "idle daemon, local disk alone, processor seconds": (0, 0.01, True),
        "idle daemon, local disk and S3, processor seconds": (0.03, 0.01, False),
        "`hubbackup --help`, s": (0.3, 0.4, True),
        "`hubbackup health`, s": (0.2, 0.25, True),
        "census alone / the dump's time": (0.083, 0.1, True),
    }
    assert {goal.met for goal in goals.of_program([], Probes(), Growth())} == {None}


def test_tables_are_whole() -> None:
    """Each way and each goal has its line, and every line of a table as many cells as its head."""
    rounds = [a_round(), {FLOOR: Result(2.2, 3.1)}]
    found = goals.of_backups(rounds)
    for text, names in (
        (report.table(rounds), [name.replace("|", "\\|") for name in a_round()]),
        (report.goals(found), [goal.name for goal in found]),
        (report.growth(a_growth()), []),
    ):
        head, *lines = (re.split(r"(?<!\\)\|", line) for line in text.splitlines())
        assert {len(line) for line in lines} == {len(head)}
        cells = [line[1].strip() for line in lines]
        assert [name for name in names if name not in cells] == []


def test_the_plot_is_a_drawing_within_its_canvas() -> None:
    """Well-formed, each measurement a dot within its panel, and time in proportion is a dot on the dashed line."""
    drawing = ET.fromstring(plot.svg(a_growth()))
    dots = [(float(dot.get("cx", "nan")), float(dot.get("cy", "nan"))) for dot in drawing.iter() if dot.get("cx")]
    assert len(dots) == 12
    for x, y in dots:
        assert plot.LEFT <= x <= plot.PANEL_WIDTH - plot.RIGHT
        assert plot.TOP <= y <= plot.PANEL_HEIGHT - plot.BOTTOM
    time_over_size = plot.panels(a_growth())[0]
    first, last = time_over_size.guide
    assert first == pytest.approx(time_over_size.points[0])
    assert last == pytest.approx(time_over_size.points[-1])
    assert plot.panels(Growth(sizes=a_growth().sizes[:1])) == []


def test_a_bench_ends_in_time() -> None:
    """The whole in 15 minutes and the quick one in 2, with time to remove the container."""
    for plan, limit in ((Plan(), 900), (QUICK, 120)):
        assert plan.main_rounds_until_seconds < plan.rounds_until_seconds < plan.budget_seconds < limit


def test_what_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """When the bench's time is up, the process at work and its children are gone."""
    pid_file = tmp_path / "pid"
    clock = time.monotonic()
    with pytest.raises(OutOfTimeError):
        Stopwatch(0.5).shell(f"sleep 60 & echo $! > {pid_file}; wait")
    assert time.monotonic() - clock < 10
    child = int(pid_file.read_text())
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and "\nState:\tZ" not in Path(f"/proc/{child}/status").read_text():
        assert time.monotonic() < deadline, "the child still runs"
        time.sleep(0.02)


def test_processor_time_is_counted() -> None:
    """A process that works has its processor time, the machine's is not less, and what fails says why."""
    done = Stopwatch(60).measure(["python3", "-c", "import time\nwhile time.process_time() < 0.3: pass"])
    tick = 1 / os.sysconf("SC_CLK_TCK")
    assert done.cpu_seconds >= 0.3
    assert done.busy_seconds >= done.cpu_seconds - 10 * tick
    with pytest.raises(BenchError, match=r"ended with 2: no such setting") as raised:
        Stopwatch(60).shell("echo no such setting >&2; exit 2")
    assert raised.value.refused
