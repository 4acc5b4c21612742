"""`python -m bench.one_table`: one table out of a large backup, beside restoring all of it and copying the table.

Prints a Markdown table for docs/performance.md: seconds, and what was read of the backup, from the disk and from S3.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import shapes
from bench.measure import BenchError, Stopwatch
from bench.program import Workbench
from bench.servers import BUCKET, postgres_container, s3_server

TABLE, SHARE, ROW_BYTES = "factures", 0.01, 96
RESTORED = "hub_restored"
LOOPBACK = Path("/sys/class/net/lo/statistics/rx_bytes")
"""Moto is behind it, and nothing else that is measured: PostgreSQL is behind Docker's bridge."""
TABLE_SQL = f"""
CREATE TABLE {TABLE} (
    id bigint PRIMARY KEY, client integer NOT NULL, jour date NOT NULL, libelle text NOT NULL, prix numeric
);
INSERT INTO {TABLE}
    SELECT i, i % 5000, date '2023-01-01' + (i % 1000)::int, 'facture ' || md5(i::text), i * 1.25
    FROM generate_series(1, :rows) AS i;
"""


@dataclass(frozen=True)
class Taken:
    """What one way took. `read_bytes` of the backup's file; None: not known."""

    seconds: float
    read_bytes: int | None


@dataclass(frozen=True)
class Site:
    """A backup in two places, and where it is looked into."""

    bench: Workbench
    database: str
    name: str
    stored_bytes: int
    plain_bytes: int

    def timed(self, *commands: str, of_s3: bool) -> Taken:
        """hubbackup, run with these words, one after the other; a word that begins with `psql:` is SQL."""
        environment = self.bench.settings(self.database, self.bench.directory / "kept", s3=True, RESTORE_JOBS="auto")
        before, seconds = int(LOOPBACK.read_text()), 0.0
        for command in commands:
            if command.startswith("psql:"):
                argv = [
                    *self.bench.container.exec_argv,
                    "psql",
                    "-qAt",
                    "-d",
                    RESTORED,
                    "-c",
                    command[5:],
                    "-o",
                    "/dev/null",
                ]
                seconds += self.bench.watch.measure(argv).seconds
            else:
                seconds += self.bench.run(*command.split(" "), environment=environment).seconds
        return Taken(seconds, int(LOOPBACK.read_text()) - before if of_s3 else None)

    def drop(self) -> None:
        """What a restore has made."""
        self.bench.container.psql(f"DROP DATABASE IF EXISTS {RESTORED}")


def ways(site: Site) -> dict[str, Callable[[bool], Taken]]:
    """The ways that are compared, each from the disk or from S3."""
    name, address = site.name, f"s3://{BUCKET}/backups/{site.name}"

    def extract(row_format: str) -> Callable[[bool], Taken]:
        def take(of_s3: bool) -> Taken:
            output = site.bench.directory / f"out.{row_format}"
            output.unlink(missing_ok=True)
            store = "s3" if of_s3 else "local"
            words = f"extract {name} --table {TABLE} --format {row_format} --store {store} --output {output}"
            return site.timed(words, of_s3=of_s3)

        return take

    def recover(of_s3: bool) -> Taken:
        return site.timed(f"recover {TABLE} --from {address if of_s3 else name} --json", of_s3=of_s3)

    def restore(of_s3: bool) -> Taken:
        which = f"--from-s3 {name}" if of_s3 else name
        words = f"restore {which} --into {RESTORED} --yes --json"
        taken = site.timed(words, f"psql:COPY {TABLE} TO STDOUT (FORMAT csv, HEADER)", of_s3=of_s3)
        site.drop()
        return taken

    return {
        f"`hubbackup extract … --table {TABLE}` (CSV)": extract("csv"),
        "the same, `--format sql`": extract("sql"),
        f"`hubbackup recover {TABLE}`: compared with the live table": recover,
        "`hubbackup restore --into` of all, then `COPY`": restore,
    }


def read_by_index(site: Site) -> int:
    """The stored bytes of the members that hold the table: what an extract reads of a file on the disk."""
    from hubbackup.catalog.backup import BackupName, Manifest

    parsed = BackupName.parse(site.name)
    assert parsed is not None
    manifest = Manifest.from_json((site.bench.directory / "kept" / parsed.manifest).read_bytes(), name=site.name)
    index = manifest.dump_index()
    assert index is not None
    (block,) = index.blocks_of(f"public.{TABLE}")
    behind = index.leaving(block.end)
    end = behind.stored_offset if behind is not None else manifest.stored_bytes
    return end - index.entry(block.offset).stored_offset


def prepare(bench: Workbench, megabytes: float) -> Site:
    """Load the database, and take its backup to both places."""
    database = shapes.load(shapes.TYPICAL, bench.container.psql, megabytes * (1 - SHARE))
    rows = str(int(megabytes * 1e6 * SHARE / ROW_BYTES))
    bench.container.psql(TABLE_SQL, database=database, variables={"rows": rows})
    bench.container.psql("VACUUM ANALYZE; CHECKPOINT;", database=database)
    bench.watch.say("taking the backup")
    made = bench.backup(database, s3=True, keep_in="kept")
    (file,) = (bench.directory / "kept").glob("*.sql.gz")
    return Site(bench, database, file.name, made.stored_bytes or 0, made.plain_bytes or 0)


def report(site: Site, found: dict[str, list[Taken | None]]) -> str:
    """The Markdown table."""
    gigabytes = site.plain_bytes / 1e9
    lines = [
        f"A backup of {gigabytes:.1f} GB of SQL, {site.stored_bytes / 1e6:,.0f} MB stored; one table with {SHARE:.0%}"
        f" of it, in members of {read_by_index(site) / 1e6:,.1f} MB.",
        "",
        "| way | from the disk, s | from S3, s | fetched from S3 |",
        "| --- | --- | --- | --- |",
    ]
    for way, (local, remote) in found.items():
        fetched = (
            f"{remote.read_bytes / 1e6:,.1f} MB" if remote is not None and remote.read_bytes is not None else "-"
        )
        cells = [f"{one.seconds:.1f}" if one is not None else "-" for one in (local, remote)]
        lines.append(f"| {way} | {cells[0]} | {cells[1]} | {fetched} |")
    return "\n".join(lines)


def main() -> int:
    """Measure each way once; one that does not work is a dash, and said."""
    parser = argparse.ArgumentParser(prog="python -m bench.one_table", description=__doc__)
    parser.add_argument("--megabytes", type=float, default=1_000, help="size of the plain dump")
    parser.add_argument("--minutes", type=float, default=60, help="when to give up")
    options = parser.parse_args()
    watch = Stopwatch(options.minutes * 60)
    with tempfile.TemporaryDirectory(prefix="hubbackup-bench-", dir=tempfile.gettempdir()) as name:
        directory = Path(name)
        with postgres_container(watch) as container, s3_server(directory) as s3:
            watch.say(f"loading {options.megabytes:.0f} MB")
            site = prepare(Workbench(watch, container, s3, directory), options.megabytes)
            found: dict[str, list[Taken | None]] = {}
            for way, take in ways(site).items():
                for of_s3 in (False, True):
                    watch.say(f"{way}, from {'S3' if of_s3 else 'the disk'}")
                    try:
                        taken: Taken | None = take(of_s3)
                    except BenchError as error:
                        watch.say(f"did not work: {error}")
                        taken = None
                    watch.say(json.dumps(taken and [round(taken.seconds, 2), taken.read_bytes]))
                    found.setdefault(way, []).append(taken)
            print(report(site, found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
