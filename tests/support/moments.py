"""The middle of a run: how a test waits for it, stops there, and gets into its way."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import Program

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str, seconds: float = 60, pause_seconds: float = 0.002) -> T:
    """Poll until `condition` gives something, and return that; four fifths of a processor are left to what is waited
    for. The time is for a busy machine."""
    deadline = time.monotonic() + seconds
    while True:
        asked_at = time.monotonic()
        if found := condition():
            return found
        answered_at = time.monotonic()
        if answered_at > deadline:
            raise AssertionError(f"{what}: not in {seconds} s")
        time.sleep(max(pause_seconds, 4 * (answered_at - asked_at)))


@contextmanager
def in_the_middle(program: Program, *arguments: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    """A backup that is stopped (SIGSTOP) while its file grows; it goes on when the block ends or by SIGCONT."""
    process = program.start("backup", *arguments, **more)
    try:
        wait_until(
            lambda: any(size_bytes(path) for path in program.backups.glob("*.partial")),
            "a growing file",
        )
        process.send_signal(signal.SIGSTOP)
        assert list(program.backups.glob("*.partial")), "the dump was over before it could be stopped: make it larger"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        if process.poll() is None and sys.exc_info()[0] is not None:
            process.kill()


def size_bytes(path: Path) -> int:
    """0 for a file that has vanished meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@contextmanager
def locked_table(server: EmbeddedPostgres, database: str, table: str) -> Iterator[None]:
    """Somebody holds an ACCESS EXCLUSIVE lock: pg_dump waits for it."""
    psql = subprocess.Popen(
        [server.bin_dir / "psql", "-X", "-q", "-A", "-t", "-d", database],
        env=server.env(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert psql.stdin is not None
    assert psql.stdout is not None
    psql.stdin.write(f"BEGIN; LOCK TABLE {table}; SELECT 'locked';\n")
    psql.stdin.flush()
    assert psql.stdout.readline() == "locked\n"
    try:
        yield
    finally:
        psql.communicate("ROLLBACK;\n", timeout=60)


def our_backends(server: EmbeddedPostgres, database: str) -> list[int]:
    """The process ids of the server's backends that a run of ours uses."""
    found = server.psql(
        "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'hubbackup-%' AND datname = :'name'",
        variables={"name": database},
    )
    return [int(pid) for pid in found.split()]


@contextmanager
def full_pipe() -> Iterator[int]:
    """The end to write to of a pipe that is full, and that nobody reads."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    try:
        yield writer
    finally:
        os.close(reader)
        os.close(writer)
