"""One of each kind of object, restored: to the same database, by whatever loads it, on every major that is supported.

An extension with tables of its own needs a server whose files are ours: so these are containers, one for each major.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hubbackup.load.schedule import OF_EXTENSION, OF_NO_TABLE, OF_PARTITIONED, READS
from tests.support import conninfo, zoo
from tests.support.backups import plain_of, unproven
from tests.support.containers import DATABASE, postgres_container
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.fingerprint import Fingerprint, diff, fingerprint
from tests.support.program import Done, Program, for_container, for_server

MAJORS = (15, 16, 17, 18)


@pytest.fixture(scope="module", params=MAJORS)
def hub(
    request: pytest.FixtureRequest, docker_engine: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    """A zoo with its extension and a tablespace, and a backup of it."""
    with postgres_container(f"postgres:{request.param}", settings={"wal_level": "logical"}) as container:
        made = for_container(container, tmp_path_factory.mktemp(f"zoo{request.param}"))
        zoo.install_extension(container)
        zoo.make_tablespace(container)
        zoo.load(made.psql, DATABASE, extension=zoo.EXTENSION, tablespace=zoo.TABLESPACE)
        made.backup()
        yield made


@pytest.fixture(scope="module")
def live(hub: Program) -> Fingerprint:
    return fingerprint(hub.psql, DATABASE)


COPY = "zoo_copy"


@contextmanager
def restored(hub: Program, jobs: str, backup: str = "--latest") -> Iterator[Done]:
    """Inside there is a restored copy beside the live database; made at the first try."""
    done = hub.run("restore", backup, "--into", COPY, "--jobs", jobs, "--yes", "--json")
    try:
        assert done.code == 0, done.said
        assert "restore.retried_serially" not in {event["event"] for event in done.events}
        yield done
    finally:
        hub.drop(COPY)


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_the_zoo_comes_back(hub: Program, live: Fingerprint, jobs: str) -> None:
    """By one session or by three: every object, row, right and comment is as it was."""
    with restored(hub, jobs) as done:
        assert diff(live, fingerprint(hub.psql, COPY)) == []
    assert ("restore.parallel" in {event["event"] for event in done.events}) == (jobs == "3")
    found = done.event("restore.objects")["objects"]
    assert found["index"] > 20
    assert found["foreign key"] > 8
    assert found["trigger"] >= 8


def test_what_one_session_does_alone_is_in_the_log(hub: Program) -> None:
    """An extension's tables, what looks into other tables, what is of partitioned tables and of views; and why."""
    with restored(hub, "3") as done:
        why = {event["why"]: event["what"] for event in done.events if event["event"] == "restore.serial"}
    assert "public.zoo_kinds" in why[OF_EXTENSION]
    assert "aac_by_name" in why[READS]
    assert set(why) == {OF_EXTENSION, READS, OF_PARTITIONED, OF_NO_TABLE}


@pytest.fixture(scope="module")
def small(postgres18: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The zoo without extension and tablespace."""
    with postgres18.temporary_database("zoo") as name:
        zoo.load(postgres18.psql, name, rows=60)
        yield for_server(postgres18, name, tmp_path_factory.mktemp("zoo"))


@pytest.mark.parametrize(
    ("options", "whole"),
    [
        ("--load-via-partition-root", ""),
        ("--quote-all-identifiers --disable-dollar-quoting", ""),
        ("--statistics", ""),
        ("--encoding=LATIN9", ""),
        ("--column-inserts", "INSERT"),
        ("--clean --if-exists", "behind"),
    ],
)
def test_dumps_of_other_options(small: Program, postgres18: EmbeddedPostgres, options: str, whole: str) -> None:
    """However pg_dump was asked to write it, three sessions make what it was; or one does, and the log says why."""
    plain = postgres18.dump_bytes(small.database, *options.split())
    with restored(small, "3", str(unproven(small.directory, plain))) as done:
        copy = fingerprint(small.psql, COPY)
    assert diff(fingerprint(small.psql, small.database), copy, properties=False) == []
    assert any(whole in event["why"] for event in done.events if event["event"] == "restore.serial")


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_partitions_by_the_hash_of_an_enum(postgres: EmbeddedPostgres, tmp_path: Path, jobs: str) -> None:
    """An enum hashes otherwise after a restore, so pg_dump writes the rows under the whole's name, once for each
    partition: they are counted there, and end up in whichever partition is theirs now."""
    with postgres.temporary_database("moods") as name:
        postgres.psql(
            "CREATE TYPE mood AS ENUM ('a', 'b', 'c', 'd', 'e', 'f');"
            "CREATE TABLE by_mood (mood mood, i int, PRIMARY KEY (mood, i)) PARTITION BY HASH (mood);"
            "CREATE TABLE by_mood_0 PARTITION OF by_mood FOR VALUES WITH (MODULUS 2, REMAINDER 0)"
            " PARTITION BY LIST (i);"
            "CREATE TABLE by_mood_0_all PARTITION OF by_mood_0 DEFAULT;"
            "CREATE TABLE by_mood_1 PARTITION OF by_mood FOR VALUES WITH (MODULUS 2, REMAINDER 1);"
            "INSERT INTO by_mood SELECT (enum_range(NULL::mood))[1 + g % 6], g FROM generate_series(1, 60) g;"
            "CREATE INDEX ON by_mood_1 (i); CREATE TABLE other (i int); INSERT INTO other VALUES (1);",
            database=name,
        )
        hub = for_server(postgres, name, tmp_path)
        assert plain_of(hub.backup()).count(b"COPY public.by_mood (") == 2
        rows = "SELECT count(*), sum(i), count(DISTINCT mood) FROM by_mood"
        with restored(hub, jobs):
            assert postgres.psql(rows, database=COPY) == postgres.psql(rows, database=name) == "60|1830|6"


IN_LATIN1 = b"""\
SET check_function_bodies = off;
CREATE FUNCTION "\xe9t\xe9 f"(i int) RETURNS int LANGUAGE sql IMMUTABLE
    AS $$ SELECT count(*)::int + i FROM public."\xe9t\xe9" $$;
CREATE TABLE "\xe9t\xe9" (id int PRIMARY KEY, "\xe0" int UNIQUE, x text);
CREATE TABLE "d'\xe9t\xe9" (id int REFERENCES "\xe9t\xe9", b int CHECK (public."\xe9t\xe9 f"(b) >= 0));
INSERT INTO "\xe9t\xe9" SELECT g, g, '\xe9t\xe9' FROM generate_series(1, 100) g;
INSERT INTO "d'\xe9t\xe9" SELECT g, g FROM generate_series(1, 100) g;
CREATE INDEX "\xe9 1" ON "\xe9t\xe9" (x, lower(x));
CREATE INDEX "\xe9 2" ON "d'\xe9t\xe9" ("\xe9t\xe9 f"(b));
"""


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_names_that_are_not_utf8(postgres: EmbeddedPostgres, tmp_path: Path, encoding: str) -> None:
    """Three sessions load a database whose names are bytes of another encoding, or of none."""
    name = f"zoo_{encoding}"
    postgres.create_database(name, options=f"TEMPLATE template0 ENCODING '{encoding}'")
    try:
        argv = ["psql", "-XqvON_ERROR_STOP=1", conninfo(name)]
        env = {**postgres.env(), "PGCLIENTENCODING": encoding}
        subprocess.run(argv, input=IN_LATIN1, env=env, check=True, capture_output=True)
        hub = for_server(postgres, name, tmp_path)
        hub.backup()
        with restored(hub, "3") as done:
            counts = "SELECT count(*) FROM pg_class WHERE relkind = 'i' AND relnamespace = 'public'::regnamespace"
            assert postgres.psql(counts, database=COPY) == "4"
        why = {event["why"]: event["what"] for event in done.events if event["event"] == "restore.serial"}
        assert done.event("restore.objects")["objects"] == {
            "foreign key": 1,
            "index": 2,
            "primary key": 1,
            "unique": 1,
        }
    finally:
        postgres.drop_database(name)
    table = "d'été" if encoding == "LATIN1" else r"d'\xe9t\xe9"
    assert table in why[READS]
