"""BACKUP_EXCLUDE_TABLES and BACKUP_EXCLUDE_TABLE_DATA: what is left out is said wherever one would miss it, and what
is not restores."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import Program, for_server

SCHEMA = """
CREATE TABLE customers (id int PRIMARY KEY, name text);
CREATE TABLE orders (id serial PRIMARY KEY, customer int CONSTRAINT of_customer REFERENCES customers);
COMMENT ON CONSTRAINT of_customer ON orders IS 'whose';
CREATE TABLE audit (at timestamptz DEFAULT now(), what text);
CREATE TABLE visits (at date, who int REFERENCES customers) PARTITION BY RANGE (at);
CREATE TABLE visits_25 PARTITION OF visits FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE visits_26 PARTITION OF visits FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE seen (id int PRIMARY KEY);
CREATE VIEW lately AS SELECT * FROM seen;
CREATE TABLE "Log, é" (line text);
INSERT INTO customers SELECT i, 'c' || i FROM generate_series(1, 50) AS i;
INSERT INTO orders (customer) SELECT i FROM generate_series(1, 50) AS i;
INSERT INTO audit (what) SELECT 'x' || i FROM generate_series(1, 3000) AS i;
INSERT INTO visits SELECT '2025-06-01'::date + i * 2, i % 50 + 1 FROM generate_series(1, 200) AS i;
INSERT INTO seen SELECT generate_series(1, 7);
INSERT INTO "Log, é" VALUES ('a'), ('b');
"""


@pytest.fixture
def shop(postgres18: EmbeddedPostgres, tmp_path: Path) -> Iterator[Program]:
    """A database with tables that one may want to leave out, and others that need them."""
    with postgres18.temporary_database("shop") as name:
        postgres18.psql(SCHEMA, database=name)
        program = for_server(postgres18, name, tmp_path)
        yield program
        program.drop(*program.derived("before"), f"{name}_new")


def rows_of(program: Program, table: str, database: str = "") -> int:
    return int(program.psql(f"SELECT count(*) FROM {table}", database=database or program.database))


def test_what_is_left_out_is_said_and_the_rest_restores(shop: Program) -> None:
    """The patterns and what they match stand in the manifest, the result, `show`, `list`, `status`; the restore says
    it before and after, the drill's report does; partitions go with their table; all else is there."""
    left = shop.but(BACKUP_EXCLUDE_TABLES='visits, "Log, é"', BACKUP_EXCLUDE_TABLE_DATA="aud*")
    made = left.run("backup", "--json")
    assert made.code == 0, made.said
    name = made.document["name"]
    record = left.manifest(name).left_out
    assert record is not None
    assert record.table_patterns == ("visits", '"Log, é"')
    assert record.tables == ('public."Log, é"', "public.visits", "public.visits_25", "public.visits_26")
    assert record.rows == ("public.audit",)
    told = 'tables (public."Log, é", public.visits, public.visits_25, public.visits_26)'
    assert made.document["left_out"] == f"4 {told} and the rows of 1 table (public.audit)"
    assert not [event for event in made.events if event["level"] == "warning"]
    assert "the rows of public.audit" in left.run("show", name).out
    assert told in left.run("list", "--json").document[0]["left_out"]
    assert f"left out    4 {told}" in left.run("status").out

    drilled = left.run("drill", "--json")
    assert drilled.code == 0, drilled.said
    assert told in drilled.document["left_out"]

    restored = left.run("restore", name, "--into", f"{shop.database}_new", "--yes")
    assert restored.code == 0, restored.said
    assert f"left out  the backup was made without 4 {told}" in restored.err
    assert f"The backup was made without 4 {told}" in restored.out
    assert rows_of(shop, "audit", f"{shop.database}_new") == 0
    assert rows_of(shop, "orders", f"{shop.database}_new") == 50
    assert rows_of(shop, "pg_class WHERE relname ~ '^(visits|Log)'", f"{shop.database}_new") == 0


def test_what_others_need_is_emptied_and_their_keys_are_tried(shop: Program) -> None:
    """A table that a view reads keeps its definition; a foreign key to rows that are not there is told beforehand,
    never stops the restore, and is made where it holds: by one session and by several."""
    left = shop.but(BACKUP_EXCLUDE_TABLES="seen", BACKUP_EXCLUDE_TABLE_DATA="customers")
    made = left.run("backup", "--json")
    assert made.code == 0, made.said
    said = [event["message"] for event in made.events if event["event"] == "exclude.remark"]
    assert any("of public.seen only the rows are left out" in one and "view public.lately" in one for one in said)
    assert any("of_customer of public.orders" in one and "visits" in one for one in said)
    new = f"{shop.database}_new"
    shop.psql("DELETE FROM visits", database=shop.database)
    name = left.run("backup", "--json").document["name"]
    for jobs in "12":
        restored = left.run("restore", name, "--into", new, "--yes", "--jobs", jobs)
        assert restored.code == 0, restored.said
        assert "the foreign key of_customer of public.orders does not hold" in restored.said
        assert rows_of(shop, "lately", new) == 0
        kept = "pg_constraint WHERE contype = 'f' AND conparentid = 0"
        assert rows_of(shop, kept, new) == 1, "that of the table without rows"
        shop.drop(new)
    tried = left.run("drill", "--schema", name)
    assert tried.code == 0, tried.said


def test_the_swap_says_what_the_live_database_would_lose(shop: Program) -> None:
    """The operators' trap: rows of the live database that the backup was made without. It is said in the question and
    in the result, with where they are afterwards; the safety backup of --in-place leaves nothing out."""
    left = shop.but(BACKUP_EXCLUDE_TABLES="audit")
    name = left.backup().name
    restored = left.run("restore", name, "--yes")
    assert restored.code == 0, restored.said
    assert re.search(r"RISK .*rows that the backup was made without: public.audit \(.*kept beside", restored.err)
    (aside,) = shop.derived("before")
    assert f"are only in {aside} now" in restored.said
    assert rows_of(shop, "audit", aside) == 3000
    assert left.run("restore", "--undo", "--yes").code == 0
    in_place = left.run("restore", name, "--in-place", "--untried", "--yes")
    assert in_place.code == 0, in_place.said
    assert "only in the safety backup" in in_place.err
    (safety,) = (path.name for path in shop.backups.glob("*.sql.gz") if path.name != name)
    assert shop.manifest(safety).left_out is None
    assert shop.manifest(safety).rows["public.audit"] == 3000
    again = left.run("restore", name, "--yes")
    assert "RISK" not in again.err, "there is nothing to be lost any more"


def test_who_asks_for_a_left_out_table_is_told_why(shop: Program) -> None:
    """extract, recover, diff --table, show --table and restore --table of a table that is not in the backup: exit 2,
    with the setting that left it out, and not a guess at another name."""
    left = shop.but(BACKUP_EXCLUDE_TABLES="audit", BACKUP_EXCLUDE_TABLE_DATA="seen")
    name = left.backup().name
    new = f"{shop.database}_new"
    for table, setting in (("audit", "BACKUP_EXCLUDE_TABLES"), ("public.seen", "BACKUP_EXCLUDE_TABLE_DATA")):
        for words in (
            ["extract", name, "--table", table],
            ["recover", table, "--from", name],
            ["diff", name, "live", "--table", table],
            ["show", name, "--table", table],
            ["restore", name, "--into", new, "--table", table, "--yes"],
        ):
            done = left.run(*words)
            assert done.code == 2, (words, done.said)
            assert re.search(rf"public\.(audit|seen) was left out of {name} \({setting}\)", done.err), (
                words,
                done.err,
            )
    assert new not in shop.databases()


def test_leaving_out_is_no_loss(shop: Program) -> None:
    """A change of the patterns is not a suspicion, and not a dropped table in `diff` and in what changed; a real loss
    beside it still is one."""
    whole = shop.backup().name
    left = shop.but(BACKUP_EXCLUDE_TABLES="audit,visits", BACKUP_EXCLUDE_TABLE_DATA="*.seen")
    made = left.run("backup", "--json")
    assert made.code == 0, made.said
    assert made.document["warnings"] == []
    assert "gone" not in made.document["changes"]
    assert "4 tables left out" in made.document["changes"]
    found = left.run("diff", whole, made.document["name"], "--json").document
    states = {one["table"]: one["state"] for one in found["tables"]}
    assert states["public.audit"] == states["public.seen"] == states["public.visits_25"] == "left out"
    live = left.run("diff", made.document["name"], "live", "--json").document
    assert {one["table"]: one["state"] for one in live["tables"]}["public.audit"] == "left out"
    back = shop.run("backup", "--json").document
    assert back["warnings"] == []
    assert shop.manifest(back["name"]).left_out is None
    shop.psql("DELETE FROM audit", database=shop.database)
    lost = shop.but(BACKUP_EXCLUDE_TABLES="visits").run("backup", "--json").document["warnings"]
    assert any("public.audit has 0 rows" in one for one in lost)


def test_a_name_that_is_not_utf_8_is_left_out_alone(postgres18: EmbeddedPostgres, tmp_path: Path) -> None:
    """In a database of another encoding the table that is meant is left out, and none that looks like it."""
    name = "latin_shop"
    postgres18.create_database(name, options="TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    program = for_server(postgres18, name, tmp_path, BACKUP_EXCLUDE_TABLES='"été"')
    try:
        program.psql('CREATE TABLE "été" (); CREATE TABLE "xtx" (); CREATE TABLE "ete" ();', database=name)
        made = program.run("backup", "--json")
        assert made.document["left_out"] == '1 table (public."été")', made.said
        assert program.manifest(made.document["name"]).rows.keys() == {"public.xtx", "public.ete"}
    finally:
        program.drop(name)


def test_patterns_that_can_not_be_meant(shop: Program) -> None:
    """One that matches nothing is a warning, in the log and of the doctor. One that is not valid, or that leaves
    nothing, is exit 2 with a sentence, and nothing is done."""
    nothing = shop.but(BACKUP_EXCLUDE_TABLES="lgo_*")
    made = nothing.run("backup", "--json")
    assert made.code == 0
    assert "the pattern lgo_* matches nothing" in made.event("exclude.remark")["message"]
    assert "the pattern lgo_* matches nothing" in nothing.run("doctor").out
    before = shop.files()
    for pattern, sentence in (
        ('"audit', "has a quote without its other one"),
        ("a.b.c", "more than schema.table"),
        ("public.", "an empty name"),
        ("(((", "pattern that is not valid"),
        ("*", "leaves out every table"),
    ):
        done = shop.but(BACKUP_EXCLUDE_TABLES=pattern).run("backup")
        assert done.code == 2, (pattern, done.said)
        assert sentence in done.err
        assert "Traceback" not in done.err
    assert shop.files() == before
