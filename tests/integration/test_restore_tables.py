"""Restore into a new database, with the rows of some tables only."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import DATABASE, Done, Program, for_server

SQL = """
CREATE TABLE chantiers (id int PRIMARY KEY, nom text);
CREATE TABLE devis (id serial PRIMARY KEY, chantier int CONSTRAINT "to chantiers" REFERENCES chantiers, again int
  REFERENCES devis, note text);
COMMENT ON CONSTRAINT "to chantiers" ON devis IS 'it; is '' here';
CREATE TABLE lignes (id int PRIMARY KEY, devis int CONSTRAINT to_devis REFERENCES devis,
  chantier int CONSTRAINT none_yet REFERENCES chantiers);
COMMENT ON CONSTRAINT none_yet ON lignes IS 'kept';
CREATE TABLE parts (id int PRIMARY KEY, chantier int REFERENCES chantiers) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (50);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (50) TO (1000);
CREATE TABLE "Odd; one" (id int, t text);
CREATE VIEW seen AS SELECT * FROM devis;
INSERT INTO chantiers SELECT g, 'c' || g FROM generate_series(1, 300) g;
INSERT INTO devis (chantier, again, note) SELECT g, g, repeat(md5(g::text), 5) FROM generate_series(1, 300) g;
INSERT INTO lignes SELECT g, g, NULL FROM generate_series(1, 300) g;
INSERT INTO parts SELECT g, g FROM generate_series(1, 99) g;
INSERT INTO "Odd; one" VALUES (1, E'a\\tb\\n\\\\.\\nCOPY'), (2, NULL);
CREATE MATERIALIZED VIEW kept AS SELECT 1 / count(*) AS n FROM chantiers;
CREATE UNIQUE INDEX ON kept (n);
"""


@pytest.fixture(scope="module")
def hub(postgres18: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    hub = for_server(postgres18, DATABASE, tmp_path_factory.mktemp("backups"))
    before = hub.databases()
    postgres18.create_database(DATABASE)
    hub.psql(SQL, database=DATABASE)
    hub.backup()
    yield hub
    hub.drop(*(hub.databases() - before))


def restored(hub: Program, *tables: str) -> Done:
    hub.drop("beside")
    options = [word for table in tables for word in ("--table", table)]
    done = hub.run("restore", "--latest", "--into", "beside", *options, "--yes", "--json")
    assert done.code == 0, done.said
    assert hub.sessions() == []
    return done


def rows(hub: Program, *tables: str) -> list[str]:
    return [hub.psql(f"SELECT count(*) FROM {table}", database="beside").strip() for table in tables]


def constraints(hub: Program) -> set[str]:
    sql = "SELECT conname FROM pg_constraint WHERE contype = 'f' AND conparentid = 0"
    return set(hub.psql(sql, database="beside").splitlines())


ALL = ("chantiers", "devis", "lignes", "parts", '"Odd; one"')


def test_one_table(hub: Program) -> None:
    """The schema whole, the rows of this table alone; a foreign key that can't hold is left out and named, and others
    stay, with their comments; views that are kept are not filled; what has been restored before is not forgotten."""
    done = restored(hub, "DEVIS")
    assert rows(hub, *ALL) == ["0", "300", "0", "0", "0"]
    assert constraints(hub) == {"devis_again_fkey", "to_devis", "none_yet", "parts_chantier_fkey"}
    facts = done.document
    assert (facts["rows"], facts["only"]) == (300, ["public.devis"])
    said = " ".join(facts["remarks"])
    assert 'left out: the foreign key "to chantiers" of public.devis' in said
    assert "only the rows of public.devis were restored" in said
    assert "materialized views are not filled" in said
    assert hub.psql("SELECT relispopulated FROM pg_class WHERE relname = 'kept'", database="beside").strip() == "f"
    same = "SELECT md5(string_agg(d::text, ',' ORDER BY id)) FROM devis d"
    assert hub.psql(same, database="beside") == hub.psql(same, database=DATABASE)
    assert hub.psql("SELECT nextval('devis_id_seq')", database="beside").strip() == "301"
    assert not (hub.backups / ".hubbackup" / "restored.json").exists()
    assert hub.psql("SELECT count(*) FROM chantiers", database=DATABASE).strip() == "300"


def test_several_tables(hub: Program) -> None:
    """Foreign keys between them hold, those of NULLs too; a comment of a constraint that was tried last is there."""
    done = restored(hub, "devis", "public.chantiers", "lignes")
    assert rows(hub, *ALL) == ["300", "300", "300", "0", "0"]
    assert {"to chantiers", "to_devis", "none_yet"} < constraints(hub)
    assert "left out" not in " ".join(done.document["remarks"])
    restored(hub, "lignes", "devis")
    assert {"to_devis", "none_yet"} < constraints(hub)
    comment = "SELECT obj_description(oid) FROM pg_constraint WHERE conname = 'none_yet'"
    assert hub.psql(comment, database="beside").strip() == "kept"


def test_partitions_and_odd_names(hub: Program) -> None:
    """A partitioned table brings its partitions, a partition comes alone; any name."""
    assert "parts_chantier_fkey" in " ".join(restored(hub, "parts").document["remarks"])
    assert rows(hub, *ALL) == ["0", "0", "0", "99", "0"]
    said = " ".join(restored(hub, "parts_2", '"Odd; one"').document["remarks"])
    assert rows(hub, *ALL) == ["0", "0", "0", "50", "2"]
    assert "the foreign key parts_chantier_fkey of public.parts" in said


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["--latest", "--table", "devis"], "--table never replaces the live database"),
        (["--latest", "--table", "devis", "--database", DATABASE], "--table never replaces the live database"),
        (["--latest", "--into", "other", "--table", "devi"], "there is no table devi"),
        (["--latest", "--into", "other", "--table", "seen"], "public.seen is a view"),
        (["--latest", "--into", "other", "--table", "kept"], "public.kept is a materialized view"),
        (["--latest", "--into", "other", "--table", ""], "there is no table"),
    ],
)
def test_what_is_refused(hub: Program, arguments: list[str], cause: str) -> None:
    """Never over the live database, never of what has no rows: exit 2, and nothing was made."""
    before = hub.databases()
    done = hub.run("restore", *arguments, "--yes")
    assert done.code == 2, done.said
    assert cause in done.err
    assert hub.databases() == before


def test_without_a_manifest_and_by_a_plain_role(hub: Program, tmp_path: Path) -> None:
    """Of an unproven file as well, and with --no-owner."""
    [path] = hub.backups.glob("*.sql.gz")
    other = tmp_path / "from_elsewhere.sql.gz"
    other.write_bytes(path.read_bytes())
    hub.drop("beside")
    done = hub.run("restore", str(other), "--into", "beside", "--table", "lignes", "--no-owner", "--yes")
    assert done.code == 0, done.said
    assert rows(hub, *ALL) == ["0", "0", "300", "0", "0"]
    assert "The rows of public.lignes alone are in it" in done.out


@pytest.mark.parametrize("of_all", [False, True])
def test_a_foreign_key_whose_name_is_bytes(postgres18: EmbeddedPostgres, tmp_path: Path, of_all: bool) -> None:
    """In a database without an encoding, one that is tried behind the others costs no restore: it is made where it
    holds, and named by its bytes where it does not; of a part of a backup, and of one without some rows."""
    name = "tables_bytes"
    postgres18.create_database(name, options="TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    hub = for_server(postgres18, name, tmp_path, BACKUP_GLOBALS="false")
    made = b"""CREATE TABLE pere (id int PRIMARY KEY); INSERT INTO pere VALUES (1);
        CREATE TABLE mere (id int CONSTRAINT "tr\xe8s" REFERENCES pere);
        CREATE TABLE fils (id int CONSTRAINT "\xe0" REFERENCES pere); INSERT INTO fils VALUES (1);
        COMMENT ON CONSTRAINT "tr\xe8s" ON mere IS '\xe9t\xe9';"""
    argv = [str(postgres18.bin_dir / "psql"), "-XAqtv", "ON_ERROR_STOP=1", name]
    subprocess.run(argv, input=made, env=postgres18.env() | {"PGCLIENTENCODING": "SQL_ASCII"}, check=True)
    try:
        hub.backup(BACKUP_EXCLUDE_TABLE_DATA="pere" if of_all else "")
        tables = [] if of_all else ["--table", "fils", "--table", "mere"]
        done = hub.run("restore", "--latest", "--into", "beside_bytes", *tables, "--yes", "--json")
        assert done.code == 0, done.said
        (said,) = (remark for remark in done.document["remarks"] if "foreign key" in remark)
        assert r'the foreign key "\xe0" of public.fils' in said
        kept = "SELECT encode(conname::text::bytea, 'hex'), obj_description(oid) IS NOT NULL FROM pg_constraint"
        assert hub.psql(f"{kept} WHERE contype = 'f'", database="beside_bytes").strip() == "7472e873|t"
    finally:
        hub.drop(name, "beside_bytes")


def test_a_foreign_key_of_another_encoding(postgres18: EmbeddedPostgres, tmp_path: Path) -> None:
    """One that does not hold is named as people read it, and so does the server's reason."""
    name = "tables_latin1"
    postgres18.create_database(name, options="TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    hub = for_server(postgres18, name, tmp_path)
    try:
        hub.psql(
            'CREATE TABLE "père" (id int PRIMARY KEY); INSERT INTO "père" VALUES (1);'
            ' CREATE TABLE "clé" (id int CONSTRAINT "à" REFERENCES "père"); INSERT INTO "clé" VALUES (1);',
            database=name,
        )
        hub.backup()
        (said,) = restored(hub, '"clé"').document["remarks"][1:]
        assert 'left out: the foreign key "à" of public."clé": insert or update on table "clé" violates' in said
    finally:
        hub.drop(name, "beside")
