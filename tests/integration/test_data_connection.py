"""Dumps that go around the Docker engine, and what becomes of them where that way breaks."""

from __future__ import annotations

import gzip
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import docker
from hubbackup.runners import data_connection
from tests.support.containers import DATABASE, postgres_container, psql_of
from tests.support.fingerprint import diff, fingerprint
from tests.support.moments import in_the_middle, wait_until
from tests.support.program import Program, finish, for_container
from tests.support.sample import load_sample

pytestmark = pytest.mark.docker
MEGABYTES = 4
MORE_THAN_BUFFERS_MEGABYTES = 60
"""Linux lets a connection hold up to 4 + 6 MB, some machines 4 + 32."""
CHECKSUM = 0b100
"""Of a zstd frame's descriptor, its fifth byte (RFC 8878, 3.1.1.1.1): pg_dump's own frames have none."""
OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'hubbackup-%'"


@pytest.fixture(scope="module", params=["postgres:17", "postgres:15"])
def near(request: pytest.FixtureRequest, docker_engine: str) -> Iterator[str]:
    """A server that can connect to this machine; the older one's pg_dump has no zstd."""
    with postgres_container(request.param, network="bridge") as name:
        load_sample(psql_of(name), DATABASE, MEGABYTES)
        yield name


@pytest.fixture(scope="module")
def near_17(docker_engine: str) -> Iterator[str]:
    """One whose dump does not fit into the buffers on the way: in the middle of it pg_dump still runs."""
    with postgres_container(network="bridge") as name:
        load_sample(psql_of(name), DATABASE, MORE_THAN_BUFFERS_MEGABYTES)
        yield name


def program_for(container: str, directory: Path, **settings: str) -> Program:
    return for_container(
        container, directory, **{"POSTGRES_PASSWORD": "canari-7f3a", "BACKUP_GLOBALS": "false", **settings}
    )


def plain(data: bytes) -> bytes:
    """The dump without the key that differs each time."""
    return re.sub(rb"\\(un)?restrict \S+", b"", gzip.decompress(data))


def test_either_way_gives_the_same_backup(near: str, tmp_path: Path) -> None:
    """By the data connection and by the engine: the same bytes, the same count, and the log tells the slower way."""
    program = program_for(near, tmp_path)
    dumps, rows = [], []
    for way in ("true", "false"):
        done = program.run("backup", "--json", DB_DATA_CONNECTION=way)
        assert done.code == 0, done.err
        assert [event["event"] for event in done.events].count("dump.relayed") == (way == "false")
        assert "canari" not in done.out + done.err
        dumps.append(plain(program.files()[done.document["name"]]))
        rows.append(program.manifest(done.document["name"]).rows)
    assert dumps[0] == dumps[1]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_what_came_by_it_restores(near: str, tmp_path: Path, compression: str) -> None:
    """A backup by the data connection gives a database equal to the first; zstd is hubbackup's own, and not what
    served pg_dump as a buffer."""
    program = program_for(near, tmp_path, BACKUP_COMPRESSION=compression)
    psql = program.psql
    before = fingerprint(psql, DATABASE)
    made = program.run("backup", "--json")
    assert made.code == 0, made.err
    assert "dump.relayed" not in [event["event"] for event in made.events]
    if compression == "zstd":
        assert program.files()[made.document["name"]][4] & CHECKSUM
    into = f"again_{compression}"
    done = program.run("restore", "--latest", "--into", into, "--yes")
    assert done.code == 0, done.err
    assert diff(before, fingerprint(psql, into), properties=False) == []


LOADS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'hubbackup-%-load' AND query LIKE '%COPY%'"


SUM = "SELECT count(*), sum(hashtext(j::text)) FROM journal j"


def test_rows_go_into_the_database_by_it_too(near_17: str, tmp_path: Path) -> None:
    """By either way the same rows; the log tells the slower one, once for all sessions."""
    program = program_for(near_17, tmp_path)
    name = program.backup().name
    before = program.psql(SUM, database=DATABASE)
    for way, jobs in (("true", "1"), ("true", "2"), ("false", "2")):
        done = program.run(
            "restore", name, "--into", "again", "--yes", "--json", "--jobs", jobs, DB_DATA_CONNECTION=way
        )
        assert done.code == 0, done.err
        assert [event["event"] for event in done.events].count("load.relayed") == (way == "false")
        assert "canari" not in done.out + done.err
        assert program.psql(SUM, database="again") == before
        program.drop("again")


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_a_load_ends_with_its_program(near_17: str, tmp_path: Path, ending: signal.Signals) -> None:
    """Stopped or killed: no session, no psql and no shell stays, and the server notices nothing."""
    program = program_for(near_17, tmp_path)
    name = program.backup().name
    begun = program.psql("SELECT pg_postmaster_start_time()")
    process = program.fork("restore", name, "--into", "halfway", "--yes", "--jobs", "2", output=tmp_path / "said")
    wait_until(lambda: program.psql(LOADS).strip() != "0", "a COPY")
    process.send_signal(ending)
    process.wait(30)
    wait_until(lambda: program.psql(OURS).strip() == "0", "the end of the sessions")
    top = ["docker", "top", near_17, "-eo", "pid,args"]
    wait_until(
        lambda: not re.search(r"bash|psql", subprocess.check_output(top, text=True)), "the end of the commands"
    )
    assert program.psql("SELECT pg_postmaster_start_time()") == begun
    program.drop(*(name for name in program.databases() if name.startswith("halfway")))


def test_a_stop_leaves_nothing(near_17: str, tmp_path: Path) -> None:
    """SIGTERM in the middle: exit 143, no file, and no pg_dump that goes on in the container."""
    program = program_for(near_17, tmp_path, BACKUP_RATE_LIMIT="1MB")
    with in_the_middle(program) as process:
        assert program.psql(OURS).strip() == "2", "the dump's session, and the run lock's"
        process.send_signal(signal.SIGTERM)
    assert finish(process).code == 143
    assert program.files() == {}
    assert program.psql(OURS).strip() == "0"


def test_a_killed_program_takes_its_dump_along(near_17: str, tmp_path: Path) -> None:
    """kill -9: pg_dump has nobody to write to and ends, which a dropped exec alone would not make it do."""
    program = program_for(near_17, tmp_path, BACKUP_RATE_LIMIT="1MB")
    with in_the_middle(program) as process:
        assert program.psql(OURS).strip() == "2", "the dump's session, and the run lock's"
        process.kill()
    assert finish(process).code == -signal.SIGKILL
    wait_until(lambda: program.psql(OURS).strip() == "0", "the end of pg_dump")
    assert program.run("backup", BACKUP_RATE_LIMIT="0").code == 0
    assert [name for name in program.files() if name.endswith(".partial")] == []


def test_a_container_that_dies_fails_the_run(docker_engine: str, tmp_path: Path) -> None:
    """docker kill in the middle of the dump: no backup, told within the last bytes' time, and nothing is left."""
    with postgres_container(network="bridge") as name:
        load_sample(psql_of(name), DATABASE, MORE_THAN_BUFFERS_MEGABYTES)
        program = program_for(name, tmp_path, BACKUP_RATE_LIMIT="1MB")
        with in_the_middle(program, "--json") as process:
            subprocess.run(["docker", "kill", name], check=True, capture_output=True)
            clock = time.monotonic()
        done = finish(process)
    assert done.code == 1, done.err
    assert time.monotonic() - clock < data_connection.LAST_BYTES_SECONDS + 15
    assert done.event("backup.failed")["stage"] == "dump"
    assert program.files() == {}


def doctors_row(program: Program, **more: str) -> dict[str, str]:
    """What the doctor says of the data connection."""
    findings = program.run("doctor", "--json", **more).document["findings"]
    return next(found for found in findings if found["name"] == "data connection")


def test_the_doctor_tries_it(near_17: str, tmp_path: Path) -> None:
    """It says by which way dumps will go."""
    program = program_for(near_17, tmp_path)
    assert doctors_row(program)["status"] == "ok"
    assert doctors_row(program, DB_DATA_CONNECTION="false")["status"] == "skipped"


def test_the_doctor_tells_how_to_get_it(docker_engine: str, tmp_path: Path) -> None:
    """Without a network in common, backups work all the same: a warning, with what to write into the compose file."""
    with postgres_container() as name:
        found = doctors_row(program_for(name, tmp_path))
    assert found["status"] == "warn"
    assert "no network in common" in found["sentence"]
    assert "networks:" in found["remedy"]


def test_a_backup_takes_four_commands_and_the_dump_does_not_wait_for_the_last(near_17: str, tmp_path: Path) -> None:
    """One that describes the database, one that holds the run lock, the dump, and the roles beside it: the engine
    starts one after another, and each costs some 50 ms. Materialized views are asked for only where there are any."""
    program = program_for(near_17, tmp_path, BACKUP_GLOBALS="true")
    plain = commands_of(near_17, lambda: program.run("backup", POSTGRES_DB="postgres").code)
    assert plain == ["psql", "psql", "pg_dump", "pg_dumpall"]
    with_views = commands_of(near_17, lambda: program.run("backup").code)
    assert with_views == ["psql", "psql", "pg_dump", "pg_dumpall", "psql"]


def commands_of(container: str, act: Callable[[], int]) -> list[str]:
    """The tools that are executed in the container while `act` succeeds, in the engine's order."""
    client = docker.from_env()
    since = time.time()
    assert act() == 0
    events = client.events(
        since=f"{since:.6f}",
        until=f"{time.time():.6f}",
        filters={"container": container, "event": "exec_create"},
        decode=True,
    )
    actions = [str(event["Action"]) for event in events]
    return [next(word for word in re.findall(r"\b(psql|pg_dumpall|pg_dump)\b", action)) for action in actions]
