"""What a dump makes behind its rows is asked for by name, in a database where some of it was taken away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hubbackup.dump.census import Census
from hubbackup.errors import NotProvenError
from hubbackup.load.dump_text import DumpReading, DumpText
from hubbackup.postgres.databases import Databases
from hubbackup.postgres.session import Connection
from hubbackup.restore.objects import check_objects
from hubbackup.runners.direct import DirectRunner
from hubbackup.streams.cancel import Cancel
from tests.support import zoo
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import DATABASE, for_server


@pytest.fixture(scope="module", params=["postgres16", "postgres18"])
def server(request: pytest.FixtureRequest) -> EmbeddedPostgres:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, EmbeddedPostgres)
    return found


@pytest.fixture(scope="module")
def whole(server: EmbeddedPostgres) -> Iterator[str]:
    """The zoo, in a database of a small number of rows."""
    with server.temporary_database("objects") as name:
        zoo.load(server.psql, name, rows=20)
        yield name


@pytest.fixture(scope="module")
def reading(server: EmbeddedPostgres, whole: str) -> Iterator[DumpReading]:
    """As the proof keeps it."""
    with DumpText() as text:
        found = read_dump(server, whole, text)
        yield found


def read_dump(server: EmbeddedPostgres, database: str, text: DumpText, encoding: str = "utf-8") -> DumpReading:
    reading = DumpReading(text)
    census = Census(on_statement=reading.on_statement)
    census.feed(server.dump(database).encode(encoding))
    census.finish()
    return reading


def databases_of(server: EmbeddedPostgres) -> Databases:
    runner = DirectRunner(cancel=Cancel(), path=server.env()["PATH"])
    return Databases(runner, Connection(server.user, server.password, server.host, server.port), "none")


def test_all_of_it_is_there(server: EmbeddedPostgres, whole: str, reading: DumpReading) -> None:
    """Nothing is missed in the database that the dump is of, and as many were looked for as the catalogs hold."""
    found = check_objects(databases_of(server), whole, reading)
    ours = "relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'Le zoo d''été'))"
    of_constraints = "SELECT conindid FROM pg_constraint WHERE contype IN ('p', 'u', 'x')"
    held = server.psql(
        f"SELECT count(*) FROM pg_class WHERE relkind IN ('i', 'I') AND {ours} AND oid NOT IN ({of_constraints});"
        "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgparentid = 0;"
        f"SELECT count(*) FROM pg_constraint WHERE contype IN ('p', 'u', 'x') AND con{ours[3:]};"
        "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conparentid = 0;",
        database=whole,
    )
    keys = found["primary key"] + found["unique"] + found["exclude"]
    assert [found["index"], found["trigger"], keys, found["foreign key"]] == [int(line) for line in held.split()]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("DROP INDEX species_cage", "index species_cage of public.species is missing"),
        (
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'species_hash'::regclass",
            "index species_hash of public.species is not valid",
        ),
        (
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'hen_pkey'::regclass",
            "primary key hen_pkey of public.hen has an index that is not valid",
        ),
        ("ALTER TABLE keys DROP CONSTRAINT apart", "exclude apart of public.keys is missing"),
        ('ALTER TABLE keys DROP CONSTRAINT "late, deferred"', 'unique "late, deferred" of public.keys is missing'),
        ("ALTER TABLE hen DROP CONSTRAINT hen_egg_fkey", "foreign key hen_egg_fkey of public.hen is missing"),
        (
            "UPDATE pg_constraint SET convalidated = false WHERE conname = 'hen_egg_fkey'",
            "foreign key hen_egg_fkey of public.hen is not validated",
        ),
        (
            "UPDATE pg_constraint SET convalidated = true WHERE conname = 'orphans'",
            "foreign key orphans of public.visit is validated, and was not",
        ),
        ("ALTER TABLE visit DROP CONSTRAINT debts", "constraint debts of public.visit is missing"),
        ("DROP TRIGGER always ON egg", "trigger always of public.egg is missing"),
        (
            'DROP TRIGGER "before, each" ON "Le zoo d\'été"."A ""cage"", (with) ; -- dashes"',
            'trigger "before, each" of "Le zoo d\'été"."A ""cage"", (with) ; -- dashes" is missing',
        ),
        (
            "DELETE FROM pg_inherits WHERE inhrelid = 'care_2025_species'::regclass",
            "part of an index public.care_2025_species of public.care_species is not attached",
        ),
    ],
)
def test_what_is_missing_is_named(
    server: EmbeddedPostgres, whole: str, reading: DumpReading, change: str, problem: str
) -> None:
    """One thing is gone, or not valid: the restore is not proven, and the error says what it is."""
    copy = f"{whole}_less"
    server.create_database(copy, options=f'TEMPLATE "{whole}"')
    try:
        server.psql(f"SET allow_system_table_mods = on; {change};", database=copy)
        with pytest.raises(NotProvenError) as raised:
            check_objects(databases_of(server), copy, reading)
    finally:
        server.drop_database(copy)
    assert problem in str(raised.value)


def test_names_that_are_not_utf8(server: EmbeddedPostgres) -> None:
    """In a database of another encoding each is found by its bytes, and named as people read it."""
    name = "objects_latin1"
    server.create_database(name, options="TEMPLATE template0 ENCODING 'LATIN1'")
    try:
        server.psql(
            'CREATE TABLE "été" (id int PRIMARY KEY, "à" int); CREATE INDEX "là-bas" ON "été" ("à");', database=name
        )
        with DumpText() as text:
            reading = read_dump(server, name, text, "latin1")
            databases = databases_of(server)
            assert check_objects(databases, name, reading, "LATIN1") == {"index": 1, "primary key": 1}
            server.psql('DROP INDEX "là-bas"', database=name)
            with pytest.raises(NotProvenError) as raised:
                check_objects(databases, name, reading, "LATIN1")
        assert 'index "là-bas" of public."été" is missing' in str(raised.value)
    finally:
        server.drop_database(name)


def test_a_restore_looks_for_them(server: EmbeddedPostgres, tmp_path: Path) -> None:
    """Each restore says how many it has found."""
    server.create_database(DATABASE)
    try:
        server.psql("CREATE TABLE t (i int PRIMARY KEY); CREATE INDEX ON t (i);", database=DATABASE)
        hub = for_server(server, DATABASE, tmp_path)
        hub.backup()
        done = hub.run("restore", "--latest", "--into", "copy", "--yes")
        assert done.code == 0, done.said
        assert done.event("restore.objects")["objects"] == {"index": 1, "primary key": 1}
    finally:
        server.drop_database(DATABASE)
        server.drop_database("copy")
