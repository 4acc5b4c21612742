"""How far a run has come, as its users see it: in the log, from a second terminal."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hubbackup.jobs.current import FILE_NAME, AtWork, all_alive
from tests.support import proxy as faults
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.moments import wait_until
from tests.support.program import Program, finish, for_server
from tests.support.proxy import Exchange, Fault, FaultProxy, Seen
from tests.support.s3 import S3Server

EVERY_HALF_SECOND = """
from hubbackup.jobs.progress import LogProgress
LogProgress.__init__.__kwdefaults__["every_seconds"] = 0.5
from hubbackup.__main__ import main
main()
"""
"""The program with its thirty seconds between two events made short."""


@pytest.fixture
def database(postgres18: EmbeddedPostgres) -> Iterator[str]:
    with postgres18.temporary_database("progress") as name:
        postgres18.psql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i", database=name)
        yield name


def state(program: Program) -> Path:
    return program.backups / ".hubbackup"


def shown(program: Program, stage: str, step: str) -> AtWork:
    """Wait until a second terminal would see a run there."""
    found: list[AtWork] = []

    def look() -> bool:
        found[:] = [run for run in all_alive(state(program)) if (run.stage, run.step) == (stage, step)]
        return bool(found)

    wait_until(look, f"a run at {stage}, {step}", 30)
    return found[0]


@contextmanager
def held_up() -> Iterator[tuple[Fault, threading.Event]]:
    """A fault that answers a request only once the event is set, and the event."""
    release = threading.Event()

    def hold(exchange: Exchange) -> None:
        release.wait(30)
        faults.pass_on(exchange)

    try:
        yield hold, release
    finally:
        release.set()


def test_a_late_upload_shows_its_progress(
    postgres18: EmbeddedPostgres, database: str, s3: S3Server, tmp_path: Path
) -> None:
    """The catch-up of a missing copy is seen like the run's own upload: step, bytes and total from a second
    terminal, and events in the log, also while the server keeps it waiting."""
    bucket = f"late-{secrets.token_hex(4)}"
    program = for_server(
        postgres18,
        database,
        tmp_path,
        **s3.settings(bucket),
    )
    done = program.run("backup", "--json")
    assert done.code == 3, done.err
    late = done.document["name"]
    s3.client.create_bucket(Bucket=bucket)

    def is_late(seen: Seen) -> bool:
        return faults.is_put(seen) and seen.path.endswith(late)

    with FaultProxy(s3.endpoint_url) as proxy, held_up() as (hold, release):
        proxy.fault(hold, when=is_late, times=1)
        running = program.start("backup", code=EVERY_HALF_SECOND, S3_ENDPOINT_URL=proxy.url)
        seen = shown(program, "catch up", "upload")
        stored_bytes = program.manifest(late).stored_bytes
        assert (seen.kind, seen.done_bytes, seen.total_bytes) == ("backup", stored_bytes, stored_bytes)
        time.sleep(1.2)  # for two events
        release.set()
        done = finish(running)
    assert done.code == 0, done.err
    assert not (state(program) / FILE_NAME).exists()
    events: list[dict[str, Any]] = [event for event in done.events if event["event"] == "backup.progress"]
    uploads = [event for event in events if event["step"] == "upload" and event["bytes"] == stored_bytes]
    assert uploads, done.err
    assert uploads[0]["run_id"] == done.event("backup.finished")["run_id"]


def test_a_verification_is_seen_from_a_second_terminal(
    postgres18: EmbeddedPostgres, database: str, s3: S3Server, tmp_path: Path
) -> None:
    """It holds no lock, and `status` shows it all the same, in words and as JSON, and no more when it has ended."""
    program = for_server(postgres18, database, tmp_path, **s3.settings(s3.bucket()))
    name = program.run("backup", "--json").document["name"]

    def is_read(seen: Seen) -> bool:
        return faults.is_get(seen) and seen.path.endswith(name)

    with FaultProxy(s3.endpoint_url) as proxy, held_up() as (hold, release):
        proxy.fault(hold, when=is_read, times=1)
        running = program.start("verify", "--latest", "--store", "s3", S3_ENDPOINT_URL=proxy.url)
        wait_until(lambda: any(run.stage == "read" for run in all_alive(state(program))), "a verification", 30)
        document = program.run("status", "--json").document
        assert document["at_work"] is None
        (seen,) = document["at_work_without_lock"]
        assert (seen["kind"], seen["stage"], seen["pid"]) == ("verify", "read", running.pid)
        assert f"process {running.pid}, stage read" in program.run("status").out
        release.set()
        assert finish(running).code == 0
    assert "at work" not in program.run("status").out
