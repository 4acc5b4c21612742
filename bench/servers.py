"""What the bench measures against: PostgreSQL in a container on Docker's own bridge, and an S3 server."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

from bench.measure import BenchError, OutOfTimeError, Stopwatch, cpu_seconds_of
from tests.support import Psql, PsqlError, psql_through

IMAGE = "postgres:17"
USER, BUCKET = "hubchantier", "bench"
STOCK: dict[str, str] = {}
"""As the image starts: fsync, wal_level=replica, max_wal_size 1 GB, shared_buffers 128 MB, autovacuum."""
# Loading may be fast and loose; none of this changes how a database is read.
OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "max_locks_per_transaction": "256",  # pg_dump locks all of 10,000 tables in one transaction
}
RESTORING = OPTIONS | {"shared_buffers": "512MB"}
START_SECONDS = 60


@dataclass(frozen=True)
class Container:
    """The database's container. `exec_argv` goes before a command to run it inside."""

    name: str
    exec_argv: tuple[str, ...]
    psql: Psql
    pigz: bool
    version: str


@dataclass(frozen=True)
class S3Server:
    """An S3 endpoint, and the process that serves it: what it uses is not hubbackup's."""

    endpoint: str
    pid: int

    @property
    def cpu_seconds(self) -> float:
        """Processor time so far."""
        return cpu_seconds_of(self.pid)

    def empty(self) -> None:
        """Forget all objects and make the bucket anew."""
        for method, path in (("POST", "moto-api/reset"), ("PUT", BUCKET)):
            with urlopen(Request(f"{self.endpoint}/{path}", method=method), timeout=30):
                pass


@contextmanager
def postgres_container(watch: Stopwatch, settings: Mapping[str, str] = OPTIONS) -> Iterator[Container]:
    """Starts it, and removes it with its data at the end. Raises BenchError where there is no engine."""
    name = f"hubbackup-bench-{os.getpid()}-{secrets.token_hex(2)}"
    options = [word for pair in settings.items() for word in ("-c", "=".join(pair))]
    environment = {"POSTGRES_USER": USER, "POSTGRES_DB": "postgres", "POSTGRES_PASSWORD": "bench"}
    argv = ["docker", "run", "--detach", "--network", "bridge", "--name", name]
    argv += ["--shm-size", "256m"] if settings else []
    argv += [word for pair in environment.items() for word in ("--env", "=".join(pair))]
    try:
        done = subprocess.run([*argv, IMAGE, *options], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchError(f"docker run {IMAGE}: {done.stderr.strip()}")
        _wait_until_ready(name)
        exec_argv = ("docker", "exec", "--env", f"PGUSER={USER}", name)
        psql = _psql(watch, "docker", "exec", "--interactive", name, "psql", "--username", USER)
        yield Container(name, exec_argv, psql, _install_pigz(name), psql("SHOW server_version"))
    except FileNotFoundError as error:
        raise BenchError("there is no docker command in PATH") from error
    finally:
        # In a session of its own: a second Ctrl-C must not leave the container behind.
        removal = ["docker", "rm", "--force", "--volumes", name]
        subprocess.run(removal, capture_output=True, check=False, start_new_session=True)


def _psql(watch: Stopwatch, *argv: str) -> Psql:
    """psql that ends with the bench's time."""

    def psql(sql: str, *, database: str = "postgres", variables: Mapping[str, str] | None = None) -> str:
        try:
            run = psql_through(*argv, timeout_seconds=watch.left_seconds)
            return run(sql, database=database, variables=variables)
        except subprocess.TimeoutExpired:
            raise OutOfTimeError from None
        except PsqlError as error:
            raise BenchError(str(error)) from error

    return psql


def _wait_until_ready(name: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    # Over TCP: the server that only initializes the directory listens on its socket alone.
    probe = ["docker", "exec", name, "pg_isready", "--quiet", "--host", "127.0.0.1"]
    while subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        if time.monotonic() > deadline:
            raise BenchError(f"PostgreSQL in {name} did not start in {START_SECONDS} s")
        time.sleep(0.2)


def _install_pigz(name: str) -> bool:
    """Put this machine's pigz into the container, for the way that uses it there; False where that can't be."""
    pigz = shutil.which("pigz")
    if pigz is None:
        return False
    subprocess.run(["docker", "cp", "--follow-link", pigz, f"{name}:/usr/local/bin/pigz"], capture_output=True)
    return subprocess.run(["docker", "exec", name, "pigz", "--version"], capture_output=True).returncode == 0


@contextmanager
def s3_server(directory: Path) -> Iterator[S3Server]:
    """Moto, in a process of its own with the bucket `bench`.

    With the least priority: a real S3 has processors of its own, here they are the two that are measured.
    """
    log = directory / "moto.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["nice", "-n", "19", sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdout=out,
            stderr=out,
            env=os.environ | {"MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(64 << 20)},
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", log.read_text())):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"moto did not start: {log.read_text()[-500:]}")
            time.sleep(0.1)
        server = S3Server(found[1], process.pid)
        server.empty()
        yield server
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
