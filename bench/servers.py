"""What the bench measures against: PostgreSQL in a container without a network, and an S3 server."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

from bench.measure import BenchError
from tests.support import Psql, psql_through

IMAGE = "postgres:17"
USER, DATABASE, BUCKET = "hubchantier", "hub_chantier", "bench"
# Loading may be fast and loose; none of this changes how the database is read.
OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
}
START_SECONDS = 60


@dataclass(frozen=True)
class Container:
    """The database's container. `exec_argv` goes before a command to run it inside."""

    name: str
    exec_argv: tuple[str, ...]
    psql: Psql
    pigz: bool
    version: str


@contextmanager
def postgres_container() -> Iterator[Container]:
    """Starts it, and removes it with its data at the end. Raises BenchError where there is no engine."""
    name = f"hubbackup-bench-{os.getpid()}-{secrets.token_hex(2)}"
    options = [word for pair in OPTIONS.items() for word in ("-c", "=".join(pair))]
    environment = {"POSTGRES_USER": USER, "POSTGRES_DB": DATABASE, "POSTGRES_PASSWORD": "bench"}
    argv = ["docker", "run", "--detach", "--network", "none", "--name", name, "--shm-size", "256m"]
    argv += [word for pair in environment.items() for word in ("--env", "=".join(pair))]
    try:
        done = subprocess.run([*argv, IMAGE, *options], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchError(f"docker run {IMAGE}: {done.stderr.strip()}")
        _wait_until_ready(name)
        exec_argv = ("docker", "exec", "--env", f"PGUSER={USER}", name)
        psql = psql_through("docker", "exec", "--interactive", name, "psql", "--username", USER)
        yield Container(name, exec_argv, psql, _install_pigz(name), psql("SHOW server_version"))
    except FileNotFoundError as error:
        raise BenchError("there is no docker command in PATH") from error
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)


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
def s3_endpoint(directory: Path) -> Iterator[str]:
    """Moto's URL, in a process of its own with the bucket `bench`.

    With the least priority: a real S3 has processors of its own, here they are the two that are measured.
    """
    log = directory / "moto.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["nice", "-n", "19", sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdout=out,
            stderr=out,
            env=os.environ | {"MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(64 << 20)},
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", log.read_text())):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"moto did not start: {log.read_text()[-500:]}")
            time.sleep(0.1)
        empty_bucket(found[1])
        yield found[1]
    finally:
        process.terminate()
        process.wait(timeout=10)


def empty_bucket(endpoint: str) -> None:
    """Forget all objects and make the bucket anew."""
    for method, path in (("POST", "moto-api/reset"), ("PUT", BUCKET)):
        with urlopen(Request(f"{endpoint}/{path}", method=method), timeout=30):
            pass
