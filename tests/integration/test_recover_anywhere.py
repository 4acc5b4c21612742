"""Recover over Docker, from S3, and of random tables that were changed at random."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hubbackup.dump.identifiers import literal
from tests.support.containers import postgres_container
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import DATABASE, Program, beside, for_container, for_server
from tests.support.s3 import S3Server

SPECIAL = """
CREATE EXTENSION citext; CREATE EXTENSION hstore;
CREATE TABLE "Spécial" (mail citext PRIMARY KEY, x xml, h hstore, amount money, n int UNIQUE);
INSERT INTO "Spécial" SELECT 'M' || g, '<a>é</a>', 'a=>1, b=>NULL', g * 1.5, g FROM generate_series(1, 200) g;
"""
SINCE = """
DELETE FROM "Spécial" WHERE n > 150;
UPDATE "Spécial" SET mail = lower(mail::text) WHERE n = 1;
UPDATE "Spécial" SET x = '<b/>', h = 'a=>2', amount = 0 WHERE n = 2;
"""


@pytest.mark.docker
@pytest.mark.parametrize("major", [15, 17])
def test_in_a_container(docker_engine: str, tmp_path: Path, major: int) -> None:
    """By exec in the database's container, with types whose operators are an extension's own: found, and
    brought back; and what breaks a rule stays out."""
    with postgres_container(f"postgres:{major}") as container:
        hub = for_container(container, tmp_path)
        hub.psql(SPECIAL, database=DATABASE)
        before = hub.psql('SELECT s::text FROM "Spécial" s ORDER BY n', database=DATABASE)
        hub.backup()
        hub.psql(SINCE, database=DATABASE)
        looked = hub.run("recover", '"Spécial"', "--where", "n < 100")
        assert looked.code == 0, looked.said
        assert (
            "different  2 rows (live -> backup): mail in 1 row, x in 1 row, h in 1 row, amount in 1 row" in looked.out
        )
        done = hub.run("recover", "Spécial", "--apply", "changed", "--yes", "--json")
        assert done.code == 0, done.said
        assert (done.document["inserted"], done.document["updated"]) == (50, 2)
        assert hub.psql('SELECT s::text FROM "Spécial" s ORDER BY n', database=DATABASE) == before

        hub.psql('DELETE FROM "Spécial"; ALTER TABLE "Spécial" ADD CHECK (n <> 7)', database=DATABASE)
        failed = hub.run("recover", "Spécial", "--apply", "missing", "--yes")
        assert failed.code == 1, failed.said
        assert "SQLSTATE 23514" in failed.err
        assert hub.psql('SELECT count(*) FROM "Spécial"', database=DATABASE).strip() == "0"
        assert hub.sessions() == []


def test_from_s3(postgres16: EmbeddedPostgres, tmp_path: Path, s3: S3Server) -> None:
    """A backup that this disk has no more is taken from the bucket, by its name or as the newest."""
    hub = for_server(postgres16, DATABASE, tmp_path)
    hub = hub.but(
        S3_BACKUP_BUCKET=s3.bucket(),
        S3_ENDPOINT_URL=s3.endpoint_url,
        AWS_ACCESS_KEY_ID=s3.access_key_id,
        AWS_SECRET_ACCESS_KEY=s3.secret_access_key,
        AWS_DEFAULT_REGION="us-east-1",
    )
    postgres16.create_database(DATABASE)
    try:
        hub.psql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)", database=DATABASE)
        name = hub.backup().name
        hub.psql("DELETE FROM t", database=DATABASE)
        for path in hub.backups.glob(f"{name}*"):
            path.unlink()
        for arguments in (["--from", name], ["--from", f"backups/{name}"], ["--latest"]):
            done = hub.run("recover", "t", *arguments, "--json")
            assert done.code == 0, done.said
            assert done.document["missing"] == 2
        absent = hub.run("recover", "t", "--from", name.replace("_2", "_1", 1))
        assert absent.code == 1, absent.said
    finally:
        hub.drop(DATABASE)


# ---------------------------------------------------------------------------------------------------- random tables


@pytest.fixture(scope="module")
def hub(postgres18: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    hub = for_server(postgres18, DATABASE, tmp_path_factory.mktemp("backups"), BACKUP_RETENTION_DAYS="0")
    postgres18.create_database(DATABASE)
    yield hub
    hub.drop(DATABASE)


TEXT = st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
FLOAT = st.none() | st.floats(allow_subnormal=False)
JSON = st.none() | st.recursive(st.integers(0, 9), lambda inner: st.lists(inner, max_size=2), max_leaves=3)
VALUES = st.tuples(TEXT, FLOAT, JSON, st.none() | st.lists(TEXT, max_size=2))
ROW = st.tuples(VALUES, st.sampled_from(["keep", "keep", "delete", "change"]), VALUES)


def written(value: object) -> str:
    """A value as SQL."""
    if value is None:
        return "NULL"
    if isinstance(value, str | float):
        return literal(str(value)).strip()
    return literal(json.dumps(value)).strip()


def insert(number: int, values: tuple[object, ...]) -> str:
    text, share, document, texts = values
    listed = "NULL" if texts is None else f"ARRAY[{', '.join(map(written, texts))}]::text[]"  # type: ignore[arg-type]
    return f"INSERT INTO t VALUES ({number}, {written(text)}, {written(share)}, {written(document)}, {listed});"


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(ROW, max_size=12), st.lists(VALUES, max_size=4))
def test_changed_brings_back_exactly_the_backup(hub: Program, stored: list, new: list) -> None:  # type: ignore[type-arg]
    """Whatever a table held and whatever became of it: afterwards each of the backup's rows is there as it was, and
    what is only live is untouched; a second time there is nothing to do."""
    table = "DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, a text, b float8, c json, d text[]);"
    hub.psql(table + "".join(insert(n, values) for n, (values, _, _) in enumerate(stored)), database=DATABASE)
    backed_up = hub.psql("SELECT t::text FROM t ORDER BY id", database=DATABASE)
    for path in hub.backups.glob("*_backup_*"):
        path.unlink()
    hub.backup()
    changes = "".join(
        f"DELETE FROM t WHERE id = {n};" + (insert(n, other) if what == "change" else "")
        for n, (_, what, other) in enumerate(stored)
        if what != "keep"
    )
    hub.psql(changes + "".join(insert(1000 + n, values) for n, values in enumerate(new)), database=DATABASE)
    only_live = hub.psql("SELECT t::text FROM t WHERE id >= 1000 ORDER BY id", database=DATABASE)
    done = hub.run("recover", "t", "--apply", "changed", "--yes", "--json")
    assert done.code == 0, done.said
    assert done.document["inserted"] == sum(what == "delete" for _, what, _ in stored)
    assert hub.psql("SELECT t::text FROM t WHERE id < 1000 ORDER BY id", database=DATABASE) == backed_up
    assert hub.psql("SELECT t::text FROM t WHERE id >= 1000 ORDER BY id", database=DATABASE) == only_live
    again = hub.run("recover", "t", "--json").document
    assert (again["missing"], again["different"], again["only_live"]) == (0, 0, len(new))


# ------------------------------------------------------------------------------------- what is read of a large backup

LARGE = """
CREATE TABLE a_first (id int PRIMARY KEY, t text); CREATE TABLE wanted (id int PRIMARY KEY, t text);
CREATE TABLE z_last (id int PRIMARY KEY, t text);
INSERT INTO a_first SELECT g, (SELECT string_agg(md5(g::text || i), '') FROM generate_series(1, 30) i)
  FROM generate_series(1, 4000) g;
INSERT INTO wanted SELECT g, md5(g::text) FROM generate_series(1, 500) g;
INSERT INTO z_last SELECT * FROM a_first;
"""


def test_only_the_tables_own_part_is_read(postgres16: EmbeddedPostgres, tmp_path: Path) -> None:
    """By the index: damage in other tables' rows does not matter, damage in its own is found, and nothing is done;
    without a manifest the whole file is read, and any damage found."""
    hub = for_server(postgres16, DATABASE, tmp_path)
    postgres16.create_database(DATABASE)
    try:
        hub.psql(LARGE, database=DATABASE)
        path = hub.backup()
        hub.psql("DELETE FROM wanted WHERE id < 100", database=DATABASE)
        index = hub.manifest(path.name).dump_index()
        assert index is not None
        (block,) = index.blocks_of("public.wanted")
        whole = path.read_bytes()
        entered = index.entry(block.offset).stored_offset
        assert entered > len(whole) / 4

        def damaged_at(place: int) -> str:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
            return hub.run("recover", "wanted", "--from", path.name, "--apply", "missing", "--yes").said

        assert "is damaged" in damaged_at(entered + 3000)
        assert hub.psql("SELECT count(*) FROM wanted", database=DATABASE).strip() == "401"
        assert "99 rows inserted" in damaged_at(entered // 2)
        path.with_name(beside(path.name)).unlink()
        assert "is damaged" in damaged_at(entered // 2)
        path.write_bytes(whole)
        assert "this file is unproven" in hub.run("recover", "wanted", "--from", path.name).out
    finally:
        hub.drop(DATABASE)


def test_a_sealed_backup(postgres16: EmbeddedPostgres, tmp_path: Path) -> None:
    """With its key it is read like any other; without one, nothing is done, exit 2."""
    key = tmp_path / "hubbackup.key"
    made = Program(tmp_path, {}).run("keygen", str(key))
    assert made.code == 0, made.said
    recipient = next(word for word in made.out.split() if word.startswith("age1"))
    hub = for_server(postgres16, DATABASE, tmp_path, BACKUP_ENCRYPT_RECIPIENTS=recipient.strip(".,;"))
    postgres16.create_database(DATABASE)
    try:
        hub.psql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)", database=DATABASE)
        assert hub.backup().suffix == ".age"
        hub.psql("DELETE FROM t", database=DATABASE)
        assert hub.run("recover", "t").code == 2
        done = hub.run("recover", "t", "--identity", str(key), "--apply", "missing", "--yes")
        assert done.code == 0, done.said
        assert "2 rows inserted" in done.out
    finally:
        hub.drop(DATABASE)
