"""The design's goals, each held against what was measured. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bench.figures import Goal, Round, Spread, largest, ratio, values
from bench.growth import Growth, Point
from bench.probes import Idle, Probes
from bench.restores import DRILL, PARALLEL, PG_RESTORE, PSQL, SERIAL
from bench.shapes import GIANT
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
ONE_TICK_SECONDS = 0.01
SMALL, LARGE = (50e6, 200e6), (9e9, 11e9)
"""Plain sizes that count as 100 MB and as 10 GB."""


def of_backups(rounds: Sequence[Round]) -> list[Goal]:
    """The goals of a backup's speed and size, for one shape of data."""
    found = []
    for name, way, base, limit, at_least in (
        ("gzip at rest (hash) / floor", LOCAL_HASH, FLOOR, 1.3, False),
        ("zstd at rest (hash) / floor", LOCAL_ZSTD, FLOOR, 1.15, False),
        ("times faster than `pg_dump \\| gzip` (hash)", LOCAL_HASH, GZIP, 3.8, True),
        ("times faster than `pg_dump \\| pigz -1` (hash)", LOCAL_HASH, PIGZ, 1.3, True),
        ("times faster than `pg_dump -Z1` (hash)", LOCAL_HASH, ZLIB_1, 1.15, True),
        ("read back in full (default) / floor", LOCAL_FULL, FLOOR, 1.55, False),
    ):
        for how, field in (
            ("the run", "run_seconds"),
            ("with the program's start", "seconds"),
            ("until the database is free", "dump_seconds"),
        ):
            if way == LOCAL_FULL and field == "dump_seconds":
                continue  # that goal is one for all of it
            found.append(Goal(f"{name}, {how}", _ratio(rounds, way, base, field, inverted=at_least), limit, at_least))
    s3 = "local and S3 at once / local alone"
    return [
        *found,
        Goal(f"{s3}, the run", ratio(rounds, LOCAL_S3, LOCAL_FULL, "run_seconds", "run_seconds"), 1.1),
        Goal(f"{s3}, with the program's start", ratio(rounds, LOCAL_S3, LOCAL_FULL), 1.1),
        Goal(
            f"{s3}, less the S3 server's own processor time",
            ratio(rounds, LOCAL_S3, LOCAL_FULL, "whole_less_s3_seconds"),
            1.1,
        ),
        Goal(
            f"{s3}, until the database is free",
            ratio(rounds, LOCAL_S3, LOCAL_FULL, "dump_seconds", "dump_seconds"),
            1.1,
        ),
        Goal("size at rest / `gzip -6`, gzip", ratio(rounds, LOCAL_HASH, GZIP, "stored_bytes", "stored_bytes"), 1.03),
        Goal("size at rest / `gzip -6`, zstd", ratio(rounds, LOCAL_ZSTD, GZIP, "stored_bytes", "stored_bytes"), 1.03),
    ]


def of_restores(rounds: Sequence[Round]) -> list[Goal]:
    """The goal of a restore."""
    name = "restore / `gunzip -c \\| docker exec -i psql`"
    return [
        Goal(f"{name}, the run", ratio(rounds, RESTORE, RESTORE_PLAIN, "run_seconds"), 1.1),
        Goal(f"{name}, with the program's start", ratio(rounds, RESTORE, RESTORE_PLAIN), 1.1),
    ]


def of_restores_of(shape: str, rounds: Sequence[Round]) -> list[Goal]:
    """The goals of restoring one shape of data, on one server."""
    against_psql = 0.9 if shape == GIANT else 0.7
    found = [
        Goal(f"restore / {PSQL}, the run", ratio(rounds, PARALLEL, PSQL, "run_seconds"), against_psql),
        Goal(f"restore / {PSQL}, with the program's start", ratio(rounds, PARALLEL, PSQL), against_psql),
    ]
    if shape != GIANT:
        found.append(
            Goal(f"restore / {PG_RESTORE}, the run", ratio(rounds, PARALLEL, PG_RESTORE, "run_seconds"), 1.0)
        )
    peaks = [peak for way in (PARALLEL, SERIAL, DRILL) for peak in values(rounds, way, "peak_bytes")]
    return [*found, Goal("peak memory of hubbackup, MiB (the largest counts)", largest([p / MIB for p in peaks]), 96)]


def of_drills(rounds: Sequence[Round]) -> list[Goal]:
    """The goal of a drill, held against plain psql on the live server."""
    return [Goal(f"drill, until usable / {PSQL}", ratio(rounds, DRILL, PSQL, "run_seconds"), 0.6)]


def of_program(rounds: Sequence[Round], probes: Probes, growth: Growth) -> list[Goal]:
    """The goals of memory, starting, idling, verifying and counting."""
    peaks = [
        peak for way in (LOCAL_HASH, LOCAL_FULL, LOCAL_S3, RESTORE) for peak in values(rounds, way, "peak_bytes")
    ]
    return [
        Goal(
            "verify, MB of plain dump per processor second",
            _scaled(probes.verify_bytes_per_cpu_second, 1e-6),
            500,
            True,
        ),
        Goal("peak memory of the program, MiB (the largest counts)", largest([peak / MIB for peak in peaks]), 96),
        Goal("peak memory of the daemon with S3 at 100 MB, MiB", _peak(growth.sizes, SMALL), 96),
        Goal("peak memory of the daemon with S3 at 10 GB, MiB", _peak(growth.sizes, LARGE), 96),
        Goal("idle daemon, local disk alone, MiB", _idle_memory(probes.idle_local), 80),
        Goal("idle daemon, local disk and S3, MiB", _idle_memory(probes.idle_with_s3), 80),
        Goal("idle daemon, local disk alone, processor seconds", _idle_cpu(probes.idle_local), ONE_TICK_SECONDS),
        Goal("idle daemon, local disk and S3, processor seconds", _idle_cpu(probes.idle_with_s3), ONE_TICK_SECONDS),
        Goal("`hubbackup --help`, s", probes.help_seconds, 0.4),
        Goal("`hubbackup health`, s", probes.health_seconds, 0.25),
        Goal("census alone / the dump's time", _census_share(rounds, probes.census_bytes_per_second), 0.10),
    ]


def _ratio(rounds: Sequence[Round], way: str, base: str, field: str, *, inverted: bool) -> Spread | None:
    if inverted:
        return ratio(rounds, base, way, base_field=field)
    return ratio(rounds, way, base, field)


def _scaled(spread: Spread | None, factor: float) -> Spread | None:
    if spread is None:
        return None
    return Spread(spread.middle * factor, spread.low * factor, spread.high * factor, spread.count)


def _peak(points: Sequence[Point], sizes: tuple[float, float]) -> Spread | None:
    low, high = sizes
    return largest([point.peak_bytes / MIB for point in points if low <= point.plain_bytes <= high])


def _idle_memory(idle: Idle | None) -> Spread | None:
    return None if idle is None else Spread.of([idle.rss_bytes / MIB])


def _idle_cpu(idle: Idle | None) -> Spread | None:
    return None if idle is None else Spread.of([idle.cpu_seconds])


def _census_share(rounds: Sequence[Round], bytes_per_second: float | None) -> Spread | None:
    dumps, sizes = values(rounds, LOCAL_HASH, "dump_seconds"), values(rounds, LOCAL_HASH, "plain_bytes")
    if bytes_per_second is None or not dumps:
        return None
    alone = statistics.median(sizes) / bytes_per_second
    return Spread.of([alone / seconds for seconds in dumps])
