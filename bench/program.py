"""hubbackup as the bench runs it: a process of its own, with settings of the bench's and none of this machine's."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figures import Result
from bench.measure import BenchError, Measured, Stopwatch
from bench.servers import BUCKET, USER, Container, S3Server

ROOT = Path(__file__).parents[1]
STOP_SECONDS = 10
AUTOGROUP = Path("/proc/self/autogroup")
AS_IN_COMPOSE = ("sh", "-c", f'echo 10 > {AUTOGROUP}; exec "$0" "$@"')
"""With the CPU weight that docker-compose.backup.yml gives the service: Linux weighs a session at nice 10 as it does
a container with 110 cpu_shares. Each measured process has a session of its own."""
LOADED = ("-c", "import docker; from hubbackup.__main__ import main; main()")
"""The program with the Docker SDK loaded, as a daemon has it before its run begins."""
ONE_STORE, BOTH_STORES = ["local"], ["local", "s3"]


@dataclass(frozen=True)
class Workbench:
    """Where things are: the stopwatch, the container, S3, and a directory that nobody else writes to."""

    watch: Stopwatch
    container: Container
    s3: S3Server
    directory: Path
    program: Path = ROOT
    """Where the package is that is measured."""

    def fresh(self, name: str = "backups") -> Path:
        """A directory, emptied: no way starts among what the one before has left."""
        path = self.directory / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def environment(self, run_directory: str = "run") -> dict[str, str]:
        """No settings of this machine's own."""
        kept = {name: os.environ[name] for name in ("PATH", "DOCKER_HOST") if name in os.environ}
        runtime = {"HUBBACKUP_RUNTIME_DIR": str(self.directory / run_directory)}
        package = {"PYTHONPATH": str(self.program), "PYTHONSAFEPATH": "1"}  # not what lies in the current directory
        return kept | runtime | package | {"LANG": "C.UTF-8", "HOME": str(self.directory)}

    def settings(self, database: str, backups: Path, *, s3: bool = False, **settings: str) -> dict[str, str]:
        """hubbackup's environment for one database and one BACKUP_DIR.

        No schema drill: it follows a backup only when the schema has changed, and each of these directories is new.
        """
        remote = {
            "S3_BACKUP_BUCKET": BUCKET,
            "S3_ENDPOINT_URL": self.s3.endpoint,
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        return {
            **self.environment(),
            "POSTGRES_DB": database,
            "POSTGRES_USER": USER,
            "DB_CONTAINER": self.container.name,
            "BACKUP_DIR": str(backups),
            "LOG_LEVEL": "warning",
            "BACKUP_SCHEMA_DRILL": "false",
            **(remote if s3 else {}),
            **settings,
        }

    def run(
        self, *arguments: str, environment: dict[str, str] | None = None, launch: Sequence[str] = ("-m", "hubbackup")
    ) -> Measured:
        """One command of the program to its end; by default without any setting. Raises BenchError."""
        argv = [*AS_IN_COMPOSE, sys.executable, *launch, *arguments]
        return self.watch.measure(argv, environment or self.environment())

    def backup(self, database: str, *, s3: bool = False, keep_in: str = "backups", **settings: str) -> Result:
        """One backup into an empty directory, which is left behind. Raises BenchError."""
        environment = self.settings(database, self.fresh(keep_in), s3=s3, **settings)
        served = self.s3.cpu_seconds
        done = self.run("backup", "--json", environment=environment, launch=LOADED)
        served = self.s3.cpu_seconds - served
        said: dict[str, Any] = json.loads(done.output)
        if said["copies"] != (BOTH_STORES if s3 else ONE_STORE) or said["problems"]:
            raise BenchError(f"hubbackup said {done.output}")
        return Result(
            done.seconds,
            busy_seconds=done.busy_seconds,
            stored_bytes=said["stored_bytes"],
            peak_bytes=done.peak_bytes,
            cpu_seconds=done.cpu_seconds,
            s3_cpu_seconds=served if s3 else None,
            run_seconds=said["seconds"],
            dump_seconds=said["dump_seconds"],
            verify_seconds=said["verify_seconds"],
            whole_less_s3_seconds=done.seconds - served / (os.cpu_count() or 1) if s3 else None,
            plain_bytes=said["plain_bytes"],
        )

    @contextmanager
    def daemon(self, name: str, database: str, *, s3: bool, **settings: str) -> Iterator[Daemon]:
        """`hubbackup daemon`, running in directories of its own; stopped at the end as docker stops it."""
        directory = self.fresh(name)
        environment = self.settings(database, directory, s3=s3, BACKUP_CATCH_UP="false", LOG_LEVEL="info")
        environment |= settings | {"HUBBACKUP_RUNTIME_DIR": str(self.directory / f"{name}-run")}
        log = self.directory / f"{name}.log"
        with log.open("wb") as out:
            argv = [*AS_IN_COMPOSE, sys.executable, "-m", "hubbackup", "daemon"]
            process = subprocess.Popen(
                argv, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        try:
            yield Daemon(process, log, self.watch)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            shutil.rmtree(directory, ignore_errors=True)


@dataclass(frozen=True)
class Daemon:
    """A daemon that runs."""

    process: subprocess.Popen[bytes]
    log: Path
    watch: Stopwatch

    def wait_for(self, event: str, failure: str = "") -> dict[str, Any]:
        """The first log line with this event. Raises BenchError where the daemon ends or logs `failure` before."""
        while self.watch.left_seconds:
            ended = self.process.poll() is not None
            for line in self.log.read_text(errors="replace").splitlines():
                fields = json.loads(line) if line.startswith("{") and line.endswith("}") else {}
                if fields.get("event") == event:
                    return fields
                if failure and fields.get("event") == failure:
                    raise BenchError(f"hubbackup daemon logged {line}")
            if ended:
                raise BenchError(f"hubbackup daemon ended: {self.log.read_text(errors='replace')[-400:]}")
            time.sleep(0.1)
        raise AssertionError("left_seconds raises before it is nothing")
