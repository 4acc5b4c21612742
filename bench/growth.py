"""Growth: databases of 0.1, 1 and 10 GB, and of 10, 1,000 and 10,000 tables, backed up by the daemon at its start.

The daemon, local disk and S3 at once, read back in full: what runs at night, so its peak memory is what counts.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from bench.measure import BenchError, memory_of
from bench.program import Workbench

DATABASE = "growth"
LOADERS = 2
TABLES_MEGABYTES = 40
DISK_FACTOR = 3.0
"""So many times a dump's plain size must be free on the disk: the tables, the backup, and S3's copy of it."""
ROW_BYTES = 62

# Each table with a key and an index, as an application has them; the same rows in all, however many tables.
TABLES_SQL = r"""
SET synchronous_commit = off;
SET client_min_messages = warning;
DO $do$
BEGIN
    FOR t IN 1..{tables} LOOP
        EXECUTE format('CREATE TABLE lot_%s (id integer PRIMARY KEY, nom text NOT NULL, cree_le date)', t);
        EXECUTE format('INSERT INTO lot_%s SELECT i, ''Ouvrage du lot %s, '' || md5(i::text),
                               date ''2025-01-01'' + i %% 365 FROM generate_series(1, {rows}) AS i', t, t);
        IF t % 500 = 0 THEN COMMIT; END IF;
    END LOOP;
END $do$;
"""


@dataclass(frozen=True)
class Point:
    """One database's backup. `seconds`: until it was released. `peak_bytes`: the most that the daemon ever held."""

    tables: int
    plain_bytes: int
    load_seconds: float
    seconds: float
    whole_seconds: float
    peak_bytes: int

    @property
    def bytes_per_second(self) -> float:
        """Plain bytes, until the database was released."""
        return self.plain_bytes / self.seconds


@dataclass
class Growth:
    """Points by size (same rows, more of them) and by tables (same rows, more tables), and what was skipped."""

    sizes: list[Point] = field(default_factory=list)
    tables: list[Point] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self)


def grow(
    bench: Workbench,
    original: str,
    original_bytes: int,
    gigabytes: Sequence[float],
    tables: Sequence[int],
    found: Growth,
) -> None:
    """Measure each size, made of copies of `original`'s tables, then each number of tables; into `found`.

    What can't be done in the time or on the disk that is left is skipped, and noted.
    Raises BenchError, OutOfTimeError.
    """
    for size in gigabytes:
        wanted = size * 1e9
        expected = _expected_seconds(found.sizes, wanted)
        if expected > bench.watch.left_seconds:
            found.notes.append(f"growth: {size:g} GB would take some {expected:.0f} s more than there was time for")
        elif shutil.disk_usage(bench.directory).free < DISK_FACTOR * wanted:
            found.notes.append(f"growth: too little room on the disk for {size:g} GB")
        else:
            bench.watch.say(f"growth: {size:g} GB")
            found.sizes.append(_measure(bench, partial(_load_copies, bench, original, wanted / original_bytes)))
            continue
        bench.watch.say(found.notes[-1])
    for count in tables:
        bench.watch.say(f"growth: {count:,} tables")
        rows = max(1, round(TABLES_MEGABYTES * 1e6 / ROW_BYTES / count))
        found.tables.append(_measure(bench, partial(_load_tables, bench, count, rows)))


def _expected_seconds(measured: Sequence[Point], wanted_bytes: float) -> float:
    """How long the next size will take, by the largest one so far; 0 where there is none."""
    if not measured:
        return 0.0
    last = measured[-1]
    return (last.load_seconds + last.whole_seconds) * wanted_bytes / last.plain_bytes


def _measure(bench: Workbench, load: Callable[[], None]) -> Point:
    """Load, back up, remove at once."""
    watch = bench.watch
    clock = watch.elapsed_seconds
    try:
        load()
        loaded = watch.elapsed_seconds - clock
        with bench.daemon("growth", DATABASE, s3=True, BACKUP_ON_START="true") as daemon:
            said = daemon.wait_for("backup.finished", "backup.failed")
            peak_bytes = memory_of(daemon.process.pid, "VmHWM")
    finally:
        bench.container.psql(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        bench.s3.empty()
    if said.get("problems"):
        raise BenchError(f"hubbackup daemon logged {said}")
    point = Point(
        said["tables"], said["plain_bytes"], round(loaded, 2), said["dump_seconds"], said["seconds"], peak_bytes
    )
    watch.say(
        f"    {point.plain_bytes / 1e9:.2f} GB in {point.tables:,} tables: loaded in {loaded:.1f} s, dumped in"
        f" {point.seconds:.2f} s ({point.bytes_per_second / 1e6:.0f} MB/s), {point.whole_seconds:.1f} s in all,"
        f" peak {peak_bytes / 2**20:.0f} MiB"
    )
    return point


def _load_copies(bench: Workbench, original: str, factor: float) -> None:
    """`original` as a file copy, its tables copied until it is `factor` times as large.

    Two psql at a time; VACUUM sets the hint bits, which the first reader would have to write else.
    """
    psql = bench.container.psql
    psql(f"CREATE DATABASE {DATABASE} TEMPLATE {original} STRATEGY file_copy")
    psql("CREATE SCHEMA copies", database=DATABASE)
    listed = psql("SELECT relname, pg_relation_size(oid) / 8192 FROM pg_class WHERE relkind = 'r'"
                  " AND relnamespace = 'public'::regnamespace", database=DATABASE)  # fmt: skip
    pages = {name: int(count) for name, count in (line.split("|") for line in listed.splitlines())}
    whole = int(factor)
    scripts = [_copy(pages, f"_{number}", 1.0) for number in range(1, whole)]
    scripts.append(_copy(pages, "_part", factor - whole))
    with ThreadPoolExecutor(LOADERS) as pool:
        list(pool.map(lambda script: psql(script, database=DATABASE), scripts))
    if not whole:
        psql("DROP SCHEMA public CASCADE", database=DATABASE)


def _copy(pages: dict[str, int], suffix: str, share: float) -> str:
    """SQL that copies the first `share` of each table, and vacuums the copy."""
    return "\n".join(
        f"CREATE TABLE copies.{name}{suffix} AS"
        f" SELECT * FROM public.{name} WHERE ctid < '({round(count * share)},0)';\n"
        f"VACUUM (PARALLEL 0) copies.{name}{suffix};"
        for name, count in pages.items()
    )


def _load_tables(bench: Workbench, tables: int, rows: int) -> None:
    psql = bench.container.psql
    psql(f"CREATE DATABASE {DATABASE}")
    psql(TABLES_SQL.format(tables=tables, rows=rows), database=DATABASE)
    psql("VACUUM", database=DATABASE)
