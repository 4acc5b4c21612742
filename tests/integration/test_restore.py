"""Restore against real servers, over both runners: what was backed up is there again, whole, and the way back too."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.backups import plain_of, unproven
from tests.support.containers import postgres_container
from tests.support.embedded_postgres import EmbeddedPostgres, installed_versions
from tests.support.fingerprint import Fingerprint, diff, fingerprint
from tests.support.program import DATABASE, Program, for_container, for_server
from tests.support.sample import SMALL, load_sample

PROPERTIES = r"""
DO $$ BEGIN CREATE ROLE hub_app; EXCEPTION WHEN duplicate_object THEN END $$;
ALTER DATABASE :"name" OWNER TO hub_app;
ALTER DATABASE :"name" SET search_path TO "$user", public, "a, ""b"" c";
ALTER DATABASE :"name" SET "hub.greeting" TO 'it''s \ here';
ALTER DATABASE :"name" SET default_transaction_read_only TO off;
ALTER ROLE hub_app IN DATABASE :"name" SET work_mem TO '8MB';
ALTER DATABASE :"name" CONNECTION LIMIT 50;
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"name" TO hub_app WITH GRANT OPTION;
COMMENT ON DATABASE :"name" IS 'it''s \ ours: é';
"""
DAMAGE = """
DROP TABLE IF EXISTS chantiers CASCADE;
CREATE TABLE after_the_backup AS SELECT 1 AS n;
"""
DIRECT = [15, 16, 18]
DOCKER = [15, 16, 17, 18]


def servers() -> list[object]:
    """Every server that the matrix runs on."""
    return [
        *(pytest.param(("direct", major), id=f"direct-{major}") for major in DIRECT),
        *(pytest.param(("docker", major), id=f"docker-{major}", marks=pytest.mark.docker) for major in DOCKER),
    ]


@pytest.fixture(params=servers())
def hub(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    """The program and a database of a megabyte with all its properties set, on each server of the matrix."""
    runner, major = request.param
    with ExitStack() as stack:
        if runner == "docker":
            made = for_container(stack.enter_context(postgres_container(f"postgres:{major}")), tmp_path)
        elif major not in installed_versions():
            pytest.skip(f"PostgreSQL {major} is not installed here")
        else:
            made = for_server(stack.enter_context(EmbeddedPostgres(major)), DATABASE, tmp_path)
            made.psql(f"CREATE DATABASE {DATABASE} TEMPLATE template0 ENCODING 'UTF8'")
        load_sample(made.psql, DATABASE, 0.5)
        made.psql(PROPERTIES, variables={"name": DATABASE})
        yield made


def seen(hub: Program, database: str = "") -> Fingerprint:
    return fingerprint(hub.psql, database or hub.database)


def test_what_was_backed_up_is_there_again(hub: Program) -> None:
    """backup, damage, restore: equal in every row and property; the damaged one is kept; undo swaps, and again."""
    good = seen(hub)
    hub.backup()
    hub.psql(DAMAGE, database=DATABASE)
    damaged = seen(hub)
    assert diff(good, damaged)

    done = hub.run("restore", "--latest", "--yes")
    assert done.code == 0, done.said
    assert diff(good, seen(hub)) == []
    [kept] = hub.derived("before")
    assert diff(damaged, seen(hub, kept)) == []
    assert hub.derived("restore") == []
    assert hub.sessions() == []
    assert re.search(rf"is now the database {DATABASE}: \d+ tables, \d+ rows, in [0-9.]+ s\.", done.out)
    assert re.search(rf"kept as {kept} \([0-9.]+ MB\)\. To go back: hubbackup restore --undo", done.out)
    assert "restart api" in done.out

    status = hub.run("status")
    assert re.search(rf"kept +{kept}, [0-9.]+ MB: replaced by a restore", status.out), status.said

    for expected, other in ((damaged, good), (good, damaged)):
        undone = hub.run("restore", "--undo", "--yes", "--json")
        assert undone.code == 0, undone.said
        assert undone.document["restored"] == kept
        assert undone.document["kept_bytes"] > 1_000_000
        assert diff(expected, seen(hub)) == []
        [kept] = hub.derived("before")
        assert diff(other, seen(hub, kept)) == []


# --------------------------------------------------------------------------------- one server is enough from here on


@pytest.fixture
def small(postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Program]:
    """The program and a small database, on a server that other tests use too."""
    yield from on(postgres, tmp_path, SMALL)


@pytest.fixture
def small16(postgres16: EmbeddedPostgres, tmp_path: Path) -> Iterator[Program]:
    """The same on 16 alone."""
    yield from on(postgres16, tmp_path, SMALL)


def on(
    server: EmbeddedPostgres, directory: Path, sql: str, name: str = DATABASE, options: str = "TEMPLATE template0"
) -> Iterator[Program]:
    hub = for_server(server, name, directory)
    before = hub.databases()
    server.create_database(name, options=options)
    try:
        server.psql(sql, database=name)
        yield hub
    finally:
        hub.drop(*(hub.databases() - before))


def test_json_is_one_document(small16: Program) -> None:
    """`--json` tells all that the text tells, in one document, and nothing else on stdout."""
    name = small16.backup().name
    done = small16.run("restore", "--latest", "--yes", "--json")
    assert done.code == 0, done.said
    facts = done.document
    assert (facts["exit_code"], facts["name"], facts["database"]) == (0, name, DATABASE)
    assert (facts["rows"], facts["tables"], facts["proven"]) == (3000, 2, True)
    assert facts["kept_as"] == small16.derived("before")[0]
    assert facts["kept_bytes"] > 1_000_000
    assert 0 < facts["seconds"] < 60
    assert facts["remarks"] == []


def test_the_closing_line_is_logged(small16: Program) -> None:
    """The log's last line tells what was restored, rows, seconds, and where the old database is."""
    small16.backup()
    done = small16.run("restore", "--latest", "--yes")
    last = json.loads(done.err.strip().splitlines()[-1])
    assert (last["event"], last["message"]) == ("restore.finished", "restore finished")
    assert last["rows"] == 3000
    assert last["kept_as"] in small16.databases()
    assert last["seconds"] > 0


def test_into_replaces_nothing(small: Program) -> None:
    """--into makes a new database and leaves the live one alone; a name that is taken is exit 2."""
    small.backup()
    live = seen(small)
    done = small.run("restore", "--latest", "--into", "beside", "--yes")
    assert done.code == 0, done.said
    assert "restart api" not in done.out
    assert diff(live, seen(small, "beside")) == []
    assert diff(live, seen(small)) == []
    again = small.run("restore", "--latest", "--into", "beside", "--yes")
    assert again.code == 2
    assert "exists already" in again.err
    assert small.derived("before") == small.derived("restore") == []


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["--latest", "--into", ""], "empty"),
        (["--latest", "--database", ""], "empty"),
        (["--latest", "--into", "x", "--database", "y"], "--into replaces nothing"),
        (["--latest", "--into", "x", "--in-place"], "--into replaces nothing"),
        (["--undo", "--into", "x"], "--into replaces nothing"),
        (["--undo", "--in-place"], "--undo only swaps"),
        (["--undo", "--force"], "--undo only swaps"),
        (["--latest", "--undo"], "restore needs one of"),
        (["--latest", "a_file.sql.gz"], "restore needs one of"),
        ([], "restore needs one of"),
        (["--latest", "--into", "n" * 64], "64 bytes"),
        (["--latest", "--into", "é" * 32], "64 bytes"),
        (["--latest", "--into", "template1"], "template"),
        (["--latest", "--into", "x_before_20260101_000000"], "hubbackup gives itself"),
        (["--latest", "--into", "x_restore_20260101_000000"], "hubbackup gives itself"),
    ],
)
def test_wrong_usage_is_refused_before_anything(tmp_path: Path, arguments: list[str], cause: str) -> None:
    """Each contradiction is exit 2 with a sentence; an empty --into never becomes a restore over the live one.

    There is no server here: whatever would ask one ends with exit 1.
    """
    nowhere = {"POSTGRES_DB": DATABASE, "BACKUP_SOURCE": "direct", "PGHOST": "127.0.0.1", "PGPORT": "1"}
    done = Program(tmp_path, nowhere).run("restore", *arguments, "--yes")
    assert done.code == 2, done.said
    assert cause in done.err


def test_undo_without_a_restore(small16: Program) -> None:
    """With nothing put aside, --undo is exit 2 and says what it looked for."""
    before = small16.databases()
    done = small16.run("restore", "--undo", "--yes")
    assert done.code == 2, done.said
    assert f"no restore of {DATABASE} can be undone: no database {DATABASE}_before_… is there" in done.err
    assert small16.databases() == before


@pytest.mark.parametrize(
    "name",
    [
        "x" * 63,
        "Ünïcôdé \U0001f3d7 " + "é" * 18,
        "quote\" ' \\ $x$ :name %s; DROP DATABASE postgres; --",
        "host=elsewhere dbname=x\nsecond line",
        "-d",
        "postgres",
    ],
)
def test_any_name(postgres16: EmbeddedPostgres, tmp_path: Path, name: str) -> None:
    """A database of any name PostgreSQL takes is restored, kept and undone, `postgres` itself too."""
    steps = on(postgres16, tmp_path, SMALL, name) if name != "postgres" else postgres_itself(postgres16, tmp_path)
    for hub in steps:
        good = seen(hub)
        hub.backup()
        postgres16.psql("DROP TABLE utilisateurs", database=name)
        damaged = seen(hub)
        for expected, arguments in ((good, ["--latest"]), (damaged, ["--undo"]), (good, ["--undo"])):
            done = hub.run("restore", *arguments, "--yes", "--json")
            assert done.code == 0, done.said
            assert done.document["kept_as"] in hub.databases()
            assert len(done.document["kept_as"].encode()) <= 63
            assert diff(expected, seen(hub)) == []


def postgres_itself(server: EmbeddedPostgres, directory: Path) -> Iterator[Program]:
    hub = for_server(server, "postgres", directory)
    server.psql(SMALL)
    yield hub
    server.psql("DROP TABLE IF EXISTS utilisateurs, chantiers")
    hub.drop(*hub.derived("before"))


def test_long_names_that_begin_alike_stay_apart(postgres16: EmbeddedPostgres, tmp_path: Path) -> None:
    """What a restore of one database put aside is never another one's undo, leftover or expired copy."""
    one, other = "x" * 60 + "one", "x" * 60 + "two"
    for hub in on(postgres16, tmp_path, SMALL, one):
        postgres16.create_database(other)
        hub.backup()
        assert hub.run("restore", "--latest", "--yes").code == 0
        done = hub.run("restore", "--undo", "--database", other, "--yes")
        assert done.code == 2, done.said


def test_an_old_copy_is_dropped_by_the_backup_run(small16: Program) -> None:
    """BACKUP_KEEP_BEFORE_DAYS: the next backup drops what a restore put aside longer ago, and nothing younger."""
    small16.backup()
    assert small16.run("restore", "--latest", "--yes").code == 0
    [young] = small16.derived("before")
    old, foreign = f"{DATABASE}_before_20200101_000000", "other_before_20200101_000000"
    for name in (old, foreign):
        small16.psql('CREATE DATABASE :"name"', variables={"name": name})
    kept = small16.run("backup", "--json", BACKUP_KEEP_BEFORE_DAYS="0")
    assert kept.document["dropped"] == []
    done = small16.run("backup", "--json", BACKUP_KEEP_BEFORE_DAYS="7")
    assert done.document["dropped"] == [old]
    assert {young, foreign} <= small16.databases()
    assert old not in small16.databases()


def test_status_never_fails_for_want_of_the_server(small16: Program) -> None:
    """Without a server, status tells the rest, and says that the kept databases are not known."""
    done = small16.run("status", PGPORT="1")
    assert done.code == 0, done.said
    assert "kept        not known, the server can't be asked" in done.out
    document = small16.run("status", "--json", PGPORT="1").document
    assert document["kept_databases"] is None
    assert "does not accept connections" in document["kept_databases_problem"]


def test_a_half_filled_leftover_is_named_and_then_removed(small16: Program) -> None:
    """What a killed restore left is named by status, left alone by a question that is not answered, then removed."""
    small16.backup()
    left, foreign = f"{DATABASE}_restore_20260101_000000", "other_restore_20260101_000000"
    for name in (left, foreign):
        small16.psql('CREATE DATABASE :"name"', variables={"name": name})
    assert re.search(rf"kept +{left}, [0-9.]+ MB: half-filled", small16.run("status").out)
    assert small16.run("restore", "--latest").code == 2
    assert left in small16.databases()
    assert small16.run("restore", "--latest", "--yes").code == 0
    assert left not in small16.databases()
    assert foreign in small16.databases()


def test_an_unproven_file_is_restored_and_named_as_such(small: Program) -> None:
    """A dump without a manifest, as the old backup.sh made them, takes the live database's own properties."""
    small.psql(PROPERTIES, variables={"name": DATABASE})
    good = seen(small)
    file = unproven(small.backups, plain_of(small.backup()), f"{DATABASE}_backup_20260101_000000.sql.gz")
    small.psql(DAMAGE, database=DATABASE)
    done = small.run("restore", str(file), "--yes")
    assert done.code == 0, done.said
    assert "UNPROVEN" in done.err
    assert "It had no manifest" in done.out
    assert diff(good, seen(small)) == []


def test_a_path_of_the_host_works_as_typed(small16: Program) -> None:
    """A file's whole path and its bare name are the same backup, with its manifest."""
    file = small16.backup()
    for typed in (str(file), file.name, f"./{file.name}"):
        done = small16.run("restore", typed, "--yes", "--json")
        assert done.code == 0, done.said
        assert done.document["proven"], typed


def test_latest_needs_no_s3_where_the_local_copy_is_good(small16: Program) -> None:
    """With S3 down, --latest takes the local copy and says what it passed over."""
    small16.backup()
    done = small16.run(
        "restore",
        "--latest",
        "--yes",
        S3_BACKUP_BUCKET="nobody",
        S3_ENDPOINT_URL="http://127.0.0.1:1",
        AWS_ACCESS_KEY_ID="x",
        AWS_SECRET_ACCESS_KEY="x",
        AWS_DEFAULT_REGION="us-east-1",
    )
    assert done.code == 0, done.said
    assert "source.unreadable" in done.err
