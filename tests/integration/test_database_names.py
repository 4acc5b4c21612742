"""A database's name is bytes, those by which clients in UTF-8 connect to it, whatever the encoding of the databases
that orders go out from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hubbackup.errors import HubbackupError, UnrestorableError
from hubbackup.postgres import claims, run_lock
from hubbackup.postgres.client import describe
from hubbackup.postgres.databases import Databases
from hubbackup.postgres.session import Connection
from hubbackup.runners.direct import DirectRunner
from hubbackup.streams.cancel import Cancel
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.fingerprint import diff, fingerprint
from tests.support.program import Program, for_server

NAME = "année 現場"
RAW = "SET client_encoding = 'SQL_ASCII';\n"
NAMES = RAW + "SELECT encode(datname::text::bytea, 'hex') FROM pg_database;"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """Its `postgres` is in LATIN1, as after `initdb --encoding`."""
    with EmbeddedPostgres(18) as found:
        work_from(found, "LATIN1")
        yield found


def work_from(server: EmbeddedPostgres, encoding: str) -> None:
    """Make the database `postgres` anew, in another encoding."""
    options = f"TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"
    server.psql(f"DROP DATABASE postgres WITH (FORCE);\nCREATE DATABASE postgres {options};", database="template1")


@pytest.fixture(params=["UTF8", "LATIN1"])
def hub(request: pytest.FixtureRequest, server: EmbeddedPostgres, tmp_path: Path) -> Iterator[Program]:
    """The program, and a database of that name in this encoding."""
    options = f"TEMPLATE template0 ENCODING '{request.param}' LOCALE 'C'"
    server.psql(f'{RAW}CREATE DATABASE :"name" {options};', variables={"name": NAME})
    program = for_server(server, NAME, tmp_path)
    program.psql("CREATE TABLE t AS SELECT 'é'::text a;", database=NAME)
    yield program
    for name in names(server):
        if name.startswith(NAME):
            server.psql(f'{RAW}DROP DATABASE :"name" WITH (FORCE);', variables={"name": name})


def names(server: EmbeddedPostgres) -> set[str]:
    return {bytes.fromhex(name).decode() for name in server.psql(NAMES).split()}


def test_a_restore_over_itself(hub: Program, server: EmbeddedPostgres) -> None:
    """A database whose name is not ASCII is backed up, restored over itself, and the restore undone; what restores
    left or put aside is found by its name, and goes when its time has come."""
    good = fingerprint(hub.psql, NAME)
    hub.backup()
    left = f"{NAME}_restore_20200101_000000"
    server.psql(f'{RAW}CREATE DATABASE :"name";', variables={"name": left})
    hub.psql("DROP TABLE t", database=NAME)
    done = hub.run("restore", "--latest", "--yes", "--json")
    assert done.code == 0, done.said
    assert diff(good, fingerprint(hub.psql, NAME)) == []
    aside = done.document["kept_as"]
    assert aside in names(server)
    assert left not in names(server)
    done = hub.run("restore", "--undo", "--yes")
    assert done.code == 0, done.said
    assert hub.psql("SELECT to_regclass('t') IS NULL", database=NAME).strip() == "t"
    old = f"{NAME}_before_20200101_000000"
    server.psql(f'{RAW}CREATE DATABASE :"name";', variables={"name": old})
    hub.backup(BACKUP_KEEP_BEFORE_DAYS="7")
    assert old not in names(server)
    done = hub.run("drill", "--json")
    assert done.code == 0, done.said
    done = hub.run("restore", "--latest", "--in-place", "--untried", "--yes")
    assert done.code == 0, done.said


def test_what_a_name_is_held_by(hub: Program, server: EmbeddedPostgres) -> None:
    """A claim on it is seen by others, and its run lock is found, even where the role's sessions are given another
    encoding; and the database tells its own name as it is."""
    hub.psql("ALTER ROLE CURRENT_USER SET client_encoding = 'LATIN1'")
    try:
        runner = DirectRunner(cancel=Cancel(), path=server.env()["PATH"])
        connection = Connection(server.user, server.password, server.host, server.port)
        databases = Databases(runner, connection, "none")
        assert describe(runner, connection, NAME).database == NAME
        assert not databases.look().databases[NAME].in_use
        with databases.claim(NAME):
            assert databases.look().databases[NAME].in_use
            others = f"SELECT {claims.claimed_by_others(NAME)};"
            assert databases.sql(others).strip() == "f"
        assert run_lock.holder(runner, connection, NAME) is None
        with run_lock._locking(runner, connection, NAME, run_lock.RUN):
            assert run_lock.holder(runner, connection, NAME) is not None
    finally:
        hub.psql("ALTER ROLE CURRENT_USER RESET client_encoding")


def test_a_name_that_orders_cannot_have(hub: Program, server: EmbeddedPostgres) -> None:
    """Where the name's bytes are none in the encoding of `postgres`, that is said before anything is touched."""
    hub.backup()
    work_from(server, "EUC_JP")
    try:
        before = server.psql(NAMES)
        done = hub.run("restore", "--latest", "--yes")
        assert done.code == 1, done.said
        assert "the database's name is not in the encoding of postgres, from where it would be made" in done.err
        assert "make the database postgres anew, in UTF8" in done.err
        assert server.psql(NAMES) == before
        done = hub.run("restore", "--latest", "--into", "ascii", "--yes")
        assert done.code == 0, done.said
        server.drop_database("ascii")
    finally:
        work_from(server, "LATIN1")


def test_what_keeps_a_database_from_being_made(server: EmbeddedPostgres) -> None:
    """Only a locale or an encoding that the server lacks is laid to the backup: a name that is taken, or a right that
    is not there, does not make it unrestorable."""
    runner = DirectRunner(cancel=Cancel(), path=server.env()["PATH"])
    connection = Connection(server.user, server.password, server.host, server.port)
    databases = Databases(runner, connection, "none")
    found, like = databases.look(), describe(runner, connection, "template1")
    with pytest.raises(HubbackupError, match="already exists") as taken:
        databases.create("postgres", like, found)
    for change in ({"datcollate": "xx_XX"}, {"datlocprovider": "i", "datlocale": "fr"}):
        other = replace(like, catalog_row=like.catalog_row | change)
        with pytest.raises(UnrestorableError, match="no database like the backup's own can be made") as refused:
            databases.create("other", other, found)
        assert "use an image with the backup's encoding and locale" in refused.value.remedy
    server.psql("CREATE ROLE plain LOGIN PASSWORD 'plain'")
    try:
        plain = Databases(runner, replace(connection, user="plain", password="plain"), "none")
        with pytest.raises(HubbackupError, match="permission denied to create database") as forbidden:
            plain.create("other", like, found)
    finally:
        server.psql("DROP ROLE plain")
    for error in (taken, forbidden):
        assert not isinstance(error.value, UnrestorableError)
        assert "use an image" not in error.value.remedy
