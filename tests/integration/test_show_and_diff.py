"""`hubbackup show` and `diff`: what is in a backup, and what is different between two, as the server sees it."""

from __future__ import annotations

import gzip
import itertools
import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hubbackup.catalog.index import DumpIndex
from tests.support.age import make_pair
from tests.support.backups import plain_of, signed_text, unproven
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.moments import locked_table, wait_until
from tests.support.program import Program, beside, finish, for_server
from tests.support.s3 import S3Server
from tests.support.sample import load_sample
from tests.support.small_disk import small_disk

CHANGES = r"""
INSERT INTO pointages (utilisateur_id, chantier_id, jour, debut, fin)
    SELECT 1, 1000, '2026-01-01', '08:00', '12:00' FROM generate_series(1, 412);
UPDATE pointages SET valide = true, commentaire = E'a\tb\\n\nc' WHERE id < 8;
DELETE FROM pointages WHERE id IN (10, 11, 400);
UPDATE utilisateurs SET nom = nom WHERE id = 1;
INSERT INTO "select" VALUES (1, 'DROP TABLE "select"; --', E'\\'), (7, 'x', NULL);
DELETE FROM "Ressources humaines"."Équipes d'été" WHERE "N°" = 2;
UPDATE journal SET niveau = 9 WHERE id < 5;
DROP TABLE archives;
CREATE TABLE neuf (i int);
ALTER TABLE documents DROP COLUMN titre, ADD neuf int DEFAULT 3;
ALTER TABLE affectations DROP CONSTRAINT affectations_pkey, ADD PRIMARY KEY (chantier_id, utilisateur_id, periode);
"""
SENTENCE = (
    """pointages +409, "select" +2, "Ressources humaines"."Équipes d'été" -1, archives (gone), neuf (new),"""
    " 6 tables changed or moved, 14 tables unchanged"
)


@dataclass
class Night:
    """Two backups of a database that was changed between."""

    program: Program
    server: EmbeddedPostgres
    first: str
    second: str

    def answer(self, *arguments: str) -> Any:
        """The document of a command that succeeds."""
        done = self.program.run(*arguments, "--json")
        assert done.code == 0, done.said
        return done.document

    def sql(self, text: str) -> str:
        """What a superuser's psql prints."""
        return self.server.psql(text, database=self.program.database)


@pytest.fixture(scope="module", params=["postgres16", "postgres18"])
def night(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    server = request.getfixturevalue(request.param)
    with server.temporary_database("hub") as name:
        load_sample(server.psql, name, 0.5)
        program = for_server(server, name, tmp_path_factory.mktemp("night"))
        first = program.backup().name
        server.psql(CHANGES, database=name)
        yield Night(program, server, first, program.backup().name)


@pytest.fixture
def small(postgres18: EmbeddedPostgres, tmp_path: Path) -> Iterator[tuple[Program, EmbeddedPostgres]]:
    """An empty database of one's own."""
    with postgres18.temporary_database("small") as name:
        yield for_server(postgres18, name, tmp_path), postgres18


# -- show


def test_show_tells_what_the_manifest_has(night: Night) -> None:
    """Versions, sizes, each table's rows as the server counts them, bytes and share, and what changed since; all of
    that without the file."""
    path = night.program.backups / night.second
    data = path.read_bytes()
    try:
        path.write_bytes(b"\0" * len(data))
        shown = night.answer("show")
        said = night.program.run("show").out
    finally:
        path.write_bytes(data)
    manifest = night.program.manifest(night.second)
    assert (shown["name"], shown["read"], shown["earlier"]) == (night.second, False, night.first)
    assert shown["server_version"].startswith(f"{night.server.major}.")
    assert shown["changes"] == SENTENCE
    tables = {one["table"]: one for one in shown["tables"]}
    here = {name: one for name, one in tables.items() if one["state"] != "gone"}
    assert {name: one["rows"] for name, one in here.items()} == manifest.rows
    for name in manifest.rows:
        assert int(night.sql(f"SELECT count(*) FROM ONLY {name}")) == manifest.rows[name]
    plain = plain_of(path)
    start = plain.index(b"COPY public.pointages ")
    assert tables["public.pointages"]["bytes"] == plain.index(b"\n\\.\n", start) + 4 - start
    assert sum(one["share"] for one in here.values()) < 1
    assert tables["public.archives"]["rows"] is None
    assert said.splitlines()[0].startswith(f"{night.second} in {night.program.backups}, ")
    assert f"Since {night.first}: {SENTENCE}" in said.splitlines()
    (line,) = (line for line in said.splitlines() if line.startswith("public.pointages "))
    assert line.split()[-1] == "+409"


def test_show_reads_through_what_has_no_index(night: Night, tmp_path: Path) -> None:
    """A backup with a manifest of before, and a file without any: the same tables, rows and bytes; a file that is
    not whole is refused."""
    wanted = [
        {key: one[key] for key in ("table", "rows", "bytes")} for one in night.answer("show", night.first)["tables"]
    ]
    older = tmp_path / night.first
    older.write_bytes((night.program.backups / night.first).read_bytes())
    document = json.loads((night.program.backups / beside(night.first)).read_text())
    document |= {"manifest_schema": "hubbackup.manifest/1", "index": ""}
    del document["index"]
    (tmp_path / beside(night.first)).write_text(signed_text(night.program.backups, document))
    bare = unproven(tmp_path, plain_of(older))
    for path in (older, bare):
        shown = night.answer("show", str(path))
        assert shown["read"]
        assert [{key: one[key] for key in ("table", "rows", "bytes")} for one in shown["tables"]] == wanted
    table = night.answer("show", str(bare), "--table", "pointages")
    assert table["primary_key"] == ["id"]
    bare.write_bytes(gzip.compress(plain_of(older)[:-300]))
    done = night.program.run("show", str(bare))
    assert done.code == 1
    assert "is damaged: the dump is not proven whole" in done.err


def test_show_table_has_its_columns_and_ddl(night: Night) -> None:
    """As the server describes them; the statements are those that pg_dump writes of that table alone."""
    shown = night.answer("show", night.first, "--table", '"Ressources humaines"."Équipes d\'été"')
    assert [(one["name"], one["type"]) for one in shown["columns"]] == [
        ("N°", "smallint"),
        ("Prénom & nom", "text"),
        ('taux "brut"', "numeric(6,2)"),
    ]
    kinds = [one["kind"] for one in shown["ddl"]]
    assert kinds.count("policy") == 2
    assert {"table", "constraint", "owner"} <= set(kinds)
    said = night.program.run("show", night.first, "--table", "POINTAGES").out
    assert "Primary key: id" in said
    for statement in ("CREATE TABLE public.pointages (", "CREATE INDEX pointages_par_jour", "COMMENT ON TABLE"):
        assert statement in said
    assert "chantiers_ouverts" not in said
    parent = night.answer("show", night.first, "--table", "journal")
    assert (parent["rows"], len(parent["partitions"])) == (int(night.sql("SELECT count(*) FROM journal")), 13)


def test_the_schema_that_show_prints_can_be_loaded(night: Night) -> None:
    """By psql alone; a dump of what it makes is the schema of the backup again."""
    done = night.program.run("show", night.second, "--schema")
    assert done.code == 0, done.said
    with night.server.temporary_database("again") as again:
        night.server.psql(f"ALTER DATABASE {again} SET timezone = 'Europe/Paris'")
        night.server.psql(done.out, database=again)
        dumped = [
            subprocess.run(
                [night.server.bin_dir / "pg_dump", "--schema-only", "--restrict-key=a"],
                env=night.server.env() | {"PGDATABASE": name},
                check=True,
                stdout=subprocess.PIPE,
            ).stdout
            for name in (night.program.database, again)
        ]
    assert dumped[0] == dumped[1]


# -- diff


def test_a_backup_does_not_differ_from_itself(night: Night) -> None:
    """No table of it, and no row of any table, with digests or without."""
    found = night.answer("diff", night.second, night.second)
    assert {one["state"] for one in found["tables"]} == {"unchanged"}
    said = night.program.run("diff", night.second, night.second).out
    assert said.endswith(f": {len(found['tables'])} tables unchanged\n")
    for table in ("pointages", "select", "journal", "Textes pièges", "photos"):
        rows = night.answer("diff", night.second, "--table", table)
        assert (rows["certain"], rows["differences"]) == (True, [])


def test_diff_tells_each_table_apart(night: Night) -> None:
    """New, gone, more or fewer rows, certainly unchanged, or changed or moved: a row that was only written again
    has moved. Without B it is the newest."""
    found = night.answer("diff", night.first)
    assert found == night.answer("diff", night.first, night.second)
    assert found["changes"] == SENTENCE
    states = {one["table"]: one["state"] for one in found["tables"]}
    assert states["public.utilisateurs"] == states["public.documents"] == "changed or moved"
    assert states["public.photos"] == "unchanged"
    back = night.answer("diff", night.second, night.first)
    assert "pointages -409" in back["changes"]
    assert "neuf (gone)" in back["changes"]


def test_diff_compares_rows_by_their_key(night: Night) -> None:
    """Added, removed and changed as SQL has it; all of them in the JSON, twenty of each kind for people."""
    found = night.answer("diff", night.first, "--table", "pointages")
    ids: dict[str, list[int]] = {"added": [], "removed": [], "changed": []}
    for one in found["differences"]:
        ids[one["change"]].append(int((one["after"] or one["before"])["id"]))
    last = int(night.sql("SELECT max(id) FROM pointages"))
    assert sorted(ids["added"]) == list(range(last - 411, last + 1))
    assert sorted(ids["removed"]) == [10, 11, 400]
    assert sorted(ids["changed"]) == list(range(1, 8))
    assert (found["key"], found["rows_after"]) == (["id"], int(night.sql("SELECT count(*) FROM pointages")))
    (one,) = (one for one in found["differences"] if (one["after"] or {}).get("id") == "5")
    assert (one["after"]["commentaire"], one["after"]["valide"]) == ("a\tb\\n\nc", "t")
    lines = night.program.run("diff", night.first, "--table", "pointages").out.splitlines()
    assert "412 added, 3 removed, 7 changed" in lines[0]
    assert [sum(line.startswith(sign) for line in lines) for sign in "+-~"] == [20, 3, 7]
    assert "  and 392 more added; --json has all" in lines
    assert any(line.startswith("~ id=5: ") and r"-> a\tb\n\nc" in line.replace("\\\\", "\\") for line in lines)
    moved = night.answer("diff", night.first, "--table", "utilisateurs")
    assert (moved["certain"], moved["differences"]) == (False, [])


def test_diff_compares_what_both_have(night: Night) -> None:
    """Columns that only one has are named and left out; another key is said; without a key rows are counted; the
    partitions of a table are compared together."""
    documents = night.answer("diff", night.first, "--table", "documents")
    assert documents["differences"] == []
    assert documents["columns"] == ["id", "chantier_id", "contenu", "plan"]
    assert [note.rpartition(": ")[2] for note in documents["notes"]] == ["titre", "neuf"]
    keyed = night.answer("diff", night.first, "--table", "affectations")
    assert keyed["differences"] == []
    assert "the primary key is (utilisateur_id, chantier_id) in " in keyed["notes"][0]
    loose = night.answer("diff", night.first, "--table", '"select"')
    assert sorted(one["after"]["table"] for one in loose["differences"]) == ["1", "7"]
    assert (loose["added"], loose["removed"], loose["changed"]) == (2, 0, 0)
    assert "rows are compared as a whole" in loose["notes"][0]
    journal = night.answer("diff", night.first, "--table", "journal")
    assert sorted(int(one["after"]["id"]) for one in journal["differences"]) == [1, 2, 3, 4]
    assert journal["key"] == ["horodatage", "id"]


def test_diff_with_the_live_database(night: Night) -> None:
    """Every table's exact rows; the rows of one by their key, as they are now; nothing is left open there."""
    night.sql("INSERT INTO neuf VALUES (1), (2); UPDATE chantiers SET budget = -1 WHERE id = 1000")
    try:
        found = night.answer("diff", night.second, "live")
        assert found["changes"] == "neuf +2, 23 tables with as many rows"
        earlier = night.answer("diff", night.first, "live")
        assert "archives (gone)" in earlier["changes"]
        assert "pointages +409" in earlier["changes"]
        rows = night.answer("diff", night.second, "live", "--table", "chantiers")
        (one,) = rows["differences"]
        assert (one["before"]["id"], one["after"]["budget"]) == ("1000", "-1.00")
        assert night.answer("diff", night.second, "live", "--table", "pointages")["differences"] == []
        assert night.answer("diff", night.second, "live", "--table", "journal")["differences"] == []
        assert night.answer("diff", night.second, "live", "--table", "Textes pièges")["differences"] == []
    finally:
        night.sql("TRUNCATE neuf")
    assert night.program.sessions() == []


@pytest.mark.parametrize(
    ("arguments", "said", "remedy"),
    [
        (("--table", "pointage"), "there is no table pointage in", "public.pointages"),
        (("--table", "chantiers_ouverts"), "public.chantiers_ouverts is a view", ""),
        (("--table", "heures_par_mois"), "is a materialized view", ""),
        (("--table", 'public."Pointages"'), "there is no table", "public.pointages"),
    ],
)
def test_what_is_no_table_is_refused(night: Night, arguments: tuple[str, ...], said: str, remedy: str) -> None:
    """In one sentence with the nearest names, by exit code 2, by each of the commands and on each side."""
    for command in (
        ("show", night.first),
        ("diff", night.first, night.second),
        ("diff", night.first, "live"),
    ):
        done = night.program.run(*command, *arguments)
        assert done.code == 2, done.said
        assert said in done.err
        assert remedy in done.err
    done = night.program.run("diff", night.first, "--table", "neuf")
    assert (done.code, f"there is no table neuf in {night.first}" in done.err) == (2, True)


def test_what_makes_no_sense_is_refused(night: Night) -> None:
    """By exit code 2, before anything is read."""
    for arguments in (
        ("diff", "live"),
        ("diff", "live", night.first),
        ("diff",),
        ("show", "--schema", "--table", "t"),
        ("show", "--schema", "--json"),
        ("show", "nonsense", "--store", "s3"),
    ):
        assert night.program.run(*arguments).code == 2, arguments
    assert night.program.run("show", "hub_backup_20200101_000000.sql.gz").code == 1


def test_a_damaged_row_is_not_compared(night: Night, tmp_path: Path) -> None:
    """Rows that are not those of the manifest's digest: exit code 1, and the file is named."""
    plain = bytearray(plain_of(night.program.backups / night.first))
    place = plain.index(b"(lot ", plain.index(b"COPY public.pointages "))
    plain[place] = ord("<")
    path = tmp_path / night.first
    path.write_bytes(gzip.compress(bytes(plain)))
    document = json.loads((night.program.backups / beside(night.first)).read_text())
    index = DumpIndex.from_text(document["index"], "x")
    document["index"] = DumpIndex(index.members[:1], index.tables, index.data_start, index.data_end).to_text()
    (tmp_path / beside(night.first)).write_text(signed_text(night.program.backups, document))
    done = night.program.run("diff", str(path), night.second, "--table", "pointages")
    assert done.code == 1, done.said
    assert f"{night.first} is damaged: the rows of public.pointages are not those" in done.err


# -- odd databases, places and ends


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_names_and_rows_in_other_encodings(postgres18: EmbeddedPostgres, tmp_path: Path, encoding: str) -> None:
    """A table, its key and its rows in letters that are not UTF-8: shown as they are meant, compared by the key."""
    name = f"hub_{encoding.lower()}"
    postgres18.create_database(name, options=f"TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
    try:
        made = 'CREATE TABLE "été" ("clé" int PRIMARY KEY, "Prénom" text); INSERT INTO "été" VALUES (1, \'Zoé\');'
        argv = [postgres18.bin_dir / "psql", "-Xq", "-d", name]
        env = postgres18.env() | {"PGCLIENTENCODING": encoding}
        subprocess.run(argv, input=made.encode("latin-1"), env=env, check=True)
        program = for_server(postgres18, name, tmp_path)
        first = program.backup().name
        subprocess.run(argv, input='UPDATE "été" SET "Prénom" = \'Noé\''.encode("latin-1"), env=env, check=True)
        program.backup()
        table = "été" if encoding == "LATIN1" else r"public.\"\xe9t\xe9\"".replace('\\"', '"')
        shown = program.run("show", first, "--table", table, "--json")
        assert shown.code == 0, shown.said
        assert len(shown.document["columns"]) == 2
        for later in ((), ("live",)):
            rows = program.run("diff", first, *later, "--table", table, "--json")
            assert rows.code == 0, rows.said
            (one,) = rows.document["differences"]
            assert one["change"] == "changed"
            if encoding == "LATIN1":
                assert (one["before"]["Prénom"], one["after"]["Prénom"]) == ("Zoé", "Noé")
        assert program.run("diff", first, "live", "--json").document["changes"] == "1 table with as many rows"
        assert program.run("diff", first, "--json").document["changes"] == "1 table changed or moved"
        subprocess.run(argv, input='DELETE FROM "été"'.encode("latin-1"), env=env, check=True)
        name_shown = '"été"' if encoding == "LATIN1" else r'"\xe9t\xe9"'
        assert program.run("backup", "--json").document["changes"] == f"{name_shown} -1"
        assert f"public.{name_shown}  0 " in program.run("show").out
    finally:
        postgres18.drop_database(name)


def test_a_backup_in_s3_is_shown_where_it_is(night: Night, s3: S3Server, tmp_path: Path) -> None:
    """By name, with --store, and by its address; nothing is kept of it here."""
    bucket = s3.bucket()
    program = for_server(night.server, night.program.database, tmp_path, **s3.settings(bucket))
    name = program.backup().name
    wanted = program.run("show", name, "--json").document
    for path in program.backups.glob("hub*"):
        path.unlink()
    for arguments in ((name,), (name, "--store", "s3"), (f"s3://{bucket}/backups/{name}",), ("--store", "s3")):
        done = program.run("show", *arguments, "--json")
        assert done.code == 0, done.said
        assert done.document | {"where": ""} == wanted | {"where": ""}
    table = program.run("show", "--table", "pointages", "--json")
    assert table.document["primary_key"] == ["id"]
    assert program.run("diff", name, "live", "--table", "pointages", "--json").document["differences"] == []
    assert list(program.backups.glob("hub*")) == []


def test_a_sealed_backup_is_shown_without_its_key(small: tuple[Program, EmbeddedPostgres], tmp_path: Path) -> None:
    """Tables and changes by the manifest alone; what is in the file takes the key, and says so. Beside a backup that
    is not sealed, digests say nothing, and rows are compared all the same."""
    program, server = small
    pair, other = make_pair(tmp_path, name="own"), make_pair(tmp_path, name="other")
    server.psql("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1)", database=program.database)
    plain = program.backup().name
    sealed = program.but(BACKUP_ENCRYPT_RECIPIENTS=pair.public)
    first = sealed.backup().name
    server.psql("UPDATE t SET n = 2", database=program.database)
    second = sealed.backup().name
    assert sealed.run("show", second, "--json").document["changes"] == "1 table changed or moved"
    assert sealed.run("diff", plain, first, "--json").document["changes"] == "1 table with as many rows"
    assert sealed.run("diff", first, first, "--json").document["changes"] == "1 table unchanged"
    for arguments in (
        ("show", first, "--table", "t"),
        ("show", first, "--schema"),
        ("diff", plain, first, "--table", "t"),
    ):
        for more in ((), ("--identity", str(other.file))):
            done = sealed.run(*arguments, *more)
            assert done.code == 2, done.said
            assert pair.fingerprint in done.err
        done = sealed.run(*arguments, "--identity", str(pair.file))
        assert done.code == 0, done.said
    for earlier, changed in ((plain, 1), (first, 1), (second, 0)):
        rows = sealed.run("diff", earlier, second, "--table", "t", "--identity", str(pair.file), "--json").document
        assert (rows["changed"], rows["added"], rows["removed"]) == (changed, 0, 0)


def test_a_full_disk_is_said(small: tuple[Program, EmbeddedPostgres], tmp_path: Path) -> None:
    """Rows that differ and find no room: one sentence; the backups are as they were, and nothing is left."""
    program, server = small
    wide = "CREATE TABLE t AS SELECT i, repeat(md5(i::text), 40) AS note FROM generate_series(1, %s) i"
    server.psql(wide % 30_000, database=program.database)
    with small_disk(tmp_path / "disk", "16m") as disk:
        there = program.but(BACKUP_DIR=str(disk.directory))
        first = there.run("backup", "--json").document["name"]
        server.psql("UPDATE t SET note = note || 'x'", database=program.database)
        second = there.run("backup", "--json").document["name"]
        disk.leave(1 << 20)
        done = there.run("diff", first, second, "--table", "t")
        assert done.code == 1, done.said
        assert "there is no room in " in done.err
        disk.leave(1 << 20)
        assert disk.free_bytes >= 1 << 20


def test_a_stopped_diff_leaves_no_session(small: tuple[Program, EmbeddedPostgres]) -> None:
    """While the live table is locked it waits, and ends at once with its session when it is asked to."""
    program, server = small
    server.psql("CREATE TABLE t AS SELECT generate_series(1, 10) AS i", database=program.database)
    name = program.backup().name
    with locked_table(server, program.database, "t"):
        for more in ((), ("--table", "t")):
            process = program.start("diff", name, "live", *more)
            wait_until(program.sessions, "a session that waits")
            process.send_signal(signal.SIGTERM)
            done = finish(process)
            assert done.code == 143, done.said
            wait_until(lambda: not program.sessions(), "no session")


def test_every_row_of_a_large_change_is_told(small: tuple[Program, EmbeddedPostgres]) -> None:
    """A table that was written anew in another order, with one row in a thousand changed: only those."""
    program, server = small
    server.psql(
        "CREATE TABLE t AS SELECT i AS id, md5(i::text) AS note FROM generate_series(1, 60000) i;"
        "ALTER TABLE t ADD PRIMARY KEY (id)",
        database=program.database,
    )
    first = program.backup().name
    server.psql(
        "CREATE TABLE u AS SELECT id, CASE WHEN id % 1000 = 0 THEN 'x' ELSE note END AS note FROM t ORDER BY note;"
        "DROP TABLE t; ALTER TABLE u RENAME TO t; ALTER TABLE t ADD PRIMARY KEY (id)",
        database=program.database,
    )
    program.backup()
    found = program.run("diff", first, "--table", "t", "--json").document
    assert (found["added"], found["removed"], found["changed"], found["same"]) == (0, 0, 60, 59_940)
    ids = sorted(int(one["after"]["id"]) for one in found["differences"])
    assert ids == list(itertools.chain(range(1000, 60_001, 1000)))
