"""The ways of making a backup, and of restoring one, that are compared. Each is timed whole.

A way of making one leaves its file behind, to be sized; a way of restoring one gets a fresh database, dropped after.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.measure import BenchError, Measured, measure, shell, size_of
from bench.servers import BUCKET, DATABASE, USER, Container

GUIDE = "`pg_dump | gzip` on the host (the guide's way)"
FLOOR = "floor: `pg_dump > /dev/null` inside the container"
LOCAL_HASH = "hubbackup, local disk, BACKUP_VERIFY=hash"
LOCAL_FULL = "hubbackup, local disk (default: BACKUP_VERIFY=full)"
LOCAL_S3 = "hubbackup, local disk and S3 at once"
RESTORE_PLAIN = "restore: `gunzip -c | docker exec -i psql`"
RESTORE = "restore: hubbackup, proof and comparison included"
RESTORED = "restored"
ZLIB_LINE = "`pg_dump | gzip` in the container"


@dataclass(frozen=True)
class Result:
    """One way in one round. `dump_seconds` is hubbackup's own figure: until the database is released."""

    seconds: float
    stored_bytes: int | None = None
    peak_bytes: int | None = None
    cpu_seconds: float | None = None
    dump_seconds: float | None = None
    verify_seconds: float | None = None


@dataclass(frozen=True)
class Way:
    """A name for the table, and what to run."""

    name: str
    run: Callable[[], Result]


class Workbench:
    """Knows where things are: the container, S3, and a directory that every way starts with empty."""

    def __init__(self, container: Container, endpoint: str, directory: Path) -> None:
        self._container = container
        self._endpoint = endpoint
        self._directory = directory
        self._backups = directory / "backups"
        self._kept = directory / "kept"

    def ways(self) -> tuple[list[Way], list[str]]:
        """What can be run here, and a note for each that can't."""
        docker = shlex.join(self._container.exec_argv)
        dump = f"pg_dump --format=plain {DATABASE}"
        found = [
            Way(FLOOR, lambda: self._piped(f"{docker} sh -c '{dump} > /dev/null'", keeps=False)),
            Way(
                "`docker exec pg_dump`, thrown away on the host", lambda: self._piped(f"{docker} {dump}", keeps=False)
            ),
            Way(GUIDE, lambda: self._piped(f"{docker} {dump} | gzip")),
            Way(ZLIB_LINE, lambda: self._piped(f"{docker} bash -o pipefail -c '{dump} | gzip'")),
            Way("`pg_dump -Z1`", lambda: self._piped(f"{docker} {dump} -Z1")),
        ]
        notes = []
        if shutil.which("pigz"):
            found.append(Way("`pg_dump | pigz -1` on the host", lambda: self._piped(f"{docker} {dump} | pigz -1")))
        else:
            notes.append("pigz is not installed here (apt-get install pigz)")
        if self._container.pigz:
            inside = f"{docker} bash -o pipefail -c '{dump} | pigz -1'"
            found.append(Way("`pg_dump | pigz -1` in the container", lambda: self._piped(inside)))
        found += [
            Way(LOCAL_HASH, lambda: self._hubbackup(BACKUP_VERIFY="hash")),
            Way(LOCAL_FULL, lambda: self._hubbackup()),
            Way(LOCAL_S3, lambda: self._hubbackup(s3=True)),
            Way(RESTORE_PLAIN, self._restored_plainly),
            Way(RESTORE, self._restored),
        ]
        return found, notes

    def gzip_6_bytes(self) -> int:
        """How large the guide's gzip makes the dump."""
        target = self._fresh() / "guide.sql.gz"
        docker = shlex.join(self._container.exec_argv)
        shell(f"{docker} bash -o pipefail -c 'pg_dump --format=plain {DATABASE} | gzip' > {target}")
        return size_of(target)

    def census_bytes_per_second(self) -> float:
        """How fast the rows are counted, alone on one processor."""
        target = self._fresh() / "plain.sql"
        shell(f"{shlex.join(self._container.exec_argv)} pg_dump --format=plain {DATABASE} > {target}")
        done = measure([sys.executable, "-m", "bench.census_rate", str(target)])
        return float(done.output)

    def hubbackup(self, *arguments: str) -> Measured:
        """The program, with no settings at all: for what it costs to start."""
        return measure([sys.executable, "-m", "hubbackup", *arguments], self._environment())

    def beat(self) -> None:
        """Let `hubbackup health` find a daemon that is alive."""
        write = "from hubbackup.report.health import *; write_beat(health_path(), next_run='tomorrow')"
        measure([sys.executable, "-c", write], self._environment())

    def _piped(self, pipeline: str, *, keeps: bool = True) -> Result:
        target = self._fresh() / "dump" if keeps else Path(os.devnull)
        done = shell(f"{pipeline} > {shlex.quote(str(target))}")
        return Result(done.seconds, size_of(target) if keeps else None)

    def _hubbackup(self, *, s3: bool = False, **settings: str) -> Result:
        self._fresh()
        environment = self._settings(self._backups, **settings)
        if s3:
            environment |= {
                "S3_BACKUP_BUCKET": BUCKET,
                "S3_ENDPOINT_URL": self._endpoint,
                "AWS_ACCESS_KEY_ID": "bench",
                "AWS_SECRET_ACCESS_KEY": "bench-secret",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        done = measure([sys.executable, "-m", "hubbackup", "backup", "--json"], environment)
        said = json.loads(done.output)
        if said["copies"] != (["local", "s3"] if s3 else ["local"]) or said["problems"]:
            raise BenchError(f"hubbackup said {done.output}")
        return Result(
            done.seconds,
            said["stored_bytes"],
            done.peak_bytes,
            done.cpu_seconds,
            said["dump_seconds"],
            said["verify_seconds"],
        )

    def _restored_plainly(self) -> Result:
        """The guide's gunzip into psql, which proves nothing."""
        file = self._backup_to_restore()
        self._container.psql(f"CREATE DATABASE {RESTORED}")
        psql = "psql --no-psqlrc --quiet --output=/dev/null --set=ON_ERROR_STOP=1"
        docker = shlex.join([*self._container.exec_argv[:2], "--interactive", *self._container.exec_argv[2:]])
        done = shell(f"gunzip -c {shlex.quote(str(file))} | {docker} {psql} --dbname={RESTORED}")
        self._container.psql(f"DROP DATABASE {RESTORED}")
        return Result(done.seconds)

    def _restored(self) -> Result:
        file = self._backup_to_restore()
        arguments = ("restore", file.name, "--into", RESTORED, "--yes", "--json")
        done = measure([sys.executable, "-m", "hubbackup", *arguments], self._settings(self._kept))
        if json.loads(done.output)["database"] != RESTORED:
            raise BenchError(f"hubbackup said {done.output}")
        self._container.psql(f"DROP DATABASE {RESTORED}")
        return Result(done.seconds, peak_bytes=done.peak_bytes, cpu_seconds=done.cpu_seconds)

    def _backup_to_restore(self) -> Path:
        """One backup, made at first use and kept over all rounds."""
        if not self._kept.exists():
            self._kept.mkdir()
            measure([sys.executable, "-m", "hubbackup", "backup", "--json"], self._settings(self._kept))
        return next(self._kept.glob("*.sql.gz"))

    def _settings(self, backups: Path, **settings: str) -> dict[str, str]:
        return self._environment() | {
            "POSTGRES_DB": DATABASE,
            "POSTGRES_USER": USER,
            "DB_CONTAINER": self._container.name,
            "BACKUP_DIR": str(backups),
            "LOG_LEVEL": "warning",
            **settings,
        }

    def _environment(self) -> dict[str, str]:
        """No settings of this machine's own."""
        kept = {name: os.environ[name] for name in ("PATH", "DOCKER_HOST") if name in os.environ}
        here = os.environ.get("PYTHONPATH", str(Path.cwd()))
        runtime = {"HUBBACKUP_RUNTIME_DIR": str(self._directory / "run"), "PYTHONPATH": here, "LANG": "C.UTF-8"}
        return kept | runtime | {"HOME": str(self._directory)}

    def _fresh(self) -> Path:
        """The directory, emptied: no way starts among the dirty pages of the one before."""
        shutil.rmtree(self._backups, ignore_errors=True)
        self._backups.mkdir()
        return self._backups
