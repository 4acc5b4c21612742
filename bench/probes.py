"""What is measured beside the rounds: starting, idling, verifying, counting."""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

from bench.figures import Spread
from bench.measure import BenchError, cpu_seconds_of, memory_of
from bench.program import Workbench

STARTS = 9
SETTLE_SECONDS = 3.0
EMPTY = "hub_empty"


@dataclass(frozen=True)
class Idle:
    """A daemon that waits for 03:00: its memory, and its processor time within `seconds`."""

    rss_bytes: int
    cpu_seconds: float
    seconds: float


@dataclass
class Probes:
    """Each None where it could not be measured. `verify`: plain bytes per processor second."""

    help_seconds: Spread | None = None
    health_seconds: Spread | None = None
    idle_local: Idle | None = None
    idle_with_s3: Idle | None = None
    verify_bytes_per_cpu_second: Spread | None = None
    census_bytes_per_second: float | None = None

    def as_json(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self)


def probe(bench: Workbench, database: str, found: Probes, *, idle_seconds: float, repeats: int) -> None:
    """Fill `found`, one after another, so that what was found remains where time runs out.

    Raises BenchError, OutOfTimeError.
    """
    bench.watch.say("how long the program takes to start")
    found.help_seconds = Spread.of([bench.run("--help").seconds for _ in range(STARTS)])
    write = (
        "from hubbackup.health import beat, health_path; from hubbackup.jobs.state_file import write_json;"
        " write_json(health_path(), beat('tomorrow'))"
    )
    bench.watch.measure([sys.executable, "-c", write], bench.environment())
    found.health_seconds = Spread.of([bench.run("health").seconds for _ in range(STARTS)])
    bench.watch.say("how fast a backup is verified")
    found.verify_bytes_per_cpu_second = _verify_rate(bench, database, repeats)
    bench.watch.say("how fast the rows are counted")
    found.census_bytes_per_second = _census_rate(bench, database)
    bench.watch.say(f"what an idle daemon uses in {idle_seconds:.0f} s")
    found.idle_local, found.idle_with_s3 = _idle(bench, database, idle_seconds)


def _verify_rate(bench: Workbench, database: str, repeats: int) -> Spread | None:
    """Plain bytes per processor second of `hubbackup verify NAME`, less what it takes for an empty database's backup.

    The backup is one of BACKUP_VERIFY=hash: it has never been decoded, so it is read, hashed, decoded and counted.
    """
    psql = bench.container.psql
    psql(f"DROP DATABASE IF EXISTS {EMPTY}")
    psql(f"CREATE DATABASE {EMPTY}")
    plain_bytes = bench.backup(database, keep_in="verified", BACKUP_VERIFY="hash").plain_bytes
    bench.backup(EMPTY, keep_in="empty", BACKUP_VERIFY="hash")
    psql(f"DROP DATABASE {EMPTY}")
    assert plain_bytes is not None
    rates = []
    for _ in range(repeats):
        start = _verify_cpu_seconds(bench, EMPTY, "empty")
        rates.append(plain_bytes / max(_verify_cpu_seconds(bench, database, "verified") - start, 1e-3))
    bench.fresh("verified")
    return Spread.of(rates)


def _verify_cpu_seconds(bench: Workbench, database: str, name: str) -> float:
    backups = bench.directory / name
    file = next(backups.glob("*.sql.gz")).name
    done = bench.run("verify", file, "--json", environment=bench.settings(database, backups))
    (copy,) = json.loads(done.output)["copies"]
    if copy["verdict"] != "ok":
        raise BenchError(f"hubbackup verify said {done.output}")
    return done.cpu_seconds


def _census_rate(bench: Workbench, database: str) -> float:
    """Alone on one processor, from memory."""
    target = bench.fresh() / "plain.sql"
    docker = shlex.join(bench.container.exec_argv)
    bench.watch.shell(f"{docker} pg_dump --format=plain {database} > {shlex.quote(str(target))}")
    done = bench.watch.measure([sys.executable, "-m", "bench.census_rate", str(target)], bench.environment())
    bench.fresh()
    return float(done.output)


def _idle(bench: Workbench, database: str, seconds: float) -> tuple[Idle, Idle]:
    """One daemon with a directory alone and one with S3 beside it, both waiting at the same time."""
    with (
        bench.daemon("idle-local", database, s3=False) as local,
        bench.daemon("idle-s3", database, s3=True) as remote,
    ):
        daemons = (local, remote)
        for daemon in daemons:
            daemon.wait_for("doctor.finished")  # the last thing that it does at its start
        time.sleep(SETTLE_SECONDS)
        before = [cpu_seconds_of(daemon.process.pid) for daemon in daemons]
        time.sleep(min(seconds, bench.watch.left_seconds))
        idles = [
            Idle(
                memory_of(daemon.process.pid, "VmRSS"),
                round(cpu_seconds_of(daemon.process.pid) - start, 3),
                seconds,
            )
            for daemon, start in zip(daemons, before, strict=True)
        ]
    return idles[0], idles[1]
