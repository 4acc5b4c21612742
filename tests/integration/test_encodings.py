"""Each encoding of PostgreSQL's is read as the server itself reads it."""

from __future__ import annotations

import codecs
import json
import subprocess
from pathlib import Path

import pytest

from hubbackup.dump.identifiers import UNREADABLE, codec_of, plain_name, readable
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.fingerprint import diff, fingerprint
from tests.support.program import for_server

ENCODINGS = "SELECT jsonb_agg(pg_encoding_to_char(g)) FROM generate_series(0, 41) g;"
LETTERS = """
CREATE FUNCTION pg_temp.as_sent(letter text, encoding name) RETURNS text LANGUAGE plpgsql AS
    'BEGIN RETURN encode(convert_to(letter, encoding), ''hex''); EXCEPTION WHEN OTHERS THEN RETURN NULL; END';
SELECT jsonb_object_agg(encoding, letters) FROM (
    SELECT encoding, jsonb_object_agg(chr(code), sent) AS letters
    FROM (SELECT pg_encoding_to_char(g) AS encoding FROM generate_series(0, 41) g) e, unnest(ARRAY[
        int4range(192, 768), int4range(880, 1792), int4range(3585, 3643), int4range(12353, 12436),
        int4range(12449, 12535), int4range(19968, 20480), int4range(44032, 44288)]) r,
        generate_series(lower(r), upper(r) - 1) AS code, pg_temp.as_sent(chr(code), encoding) AS sent
    WHERE sent IS NOT NULL GROUP BY encoding) f;
"""
"""By encoding: the letters that it has, of all of Europe's, Arabic, Hebrew, Thai, and some of East Asia's."""
RARE = {"EUC_JP": {"仼"}}
"""Of a vendor's, which PostgreSQL has and Python has not."""


def test_every_encoding_has_its_codec(postgres18: EmbeddedPostgres) -> None:
    """The ones that Python knows nothing of are named; all others read each letter as the server writes it."""
    encodings = json.loads(postgres18.psql(ENCODINGS))
    assert len(encodings) == 42
    assert {"UTF8", "KOI8R", "KOI8U", "EUC_TW", "SJIS"} <= set(encodings)
    sent = json.loads(postgres18.psql(LETTERS))
    for encoding in encodings:
        if encoding in UNREADABLE:
            with pytest.raises(LookupError):
                codecs.lookup(codec_of(encoding))
            continue
        assert len(sent[encoding]) > 25, encoding
        read = {letter: plain_name(bytes.fromhex(raw), encoding) for letter, raw in sent[encoding].items()}
        assert {letter for letter, name in read.items() if letter != name} == RARE.get(encoding, set()), encoding
        letter = max(sent[encoding])
        assert readable(bytes.fromhex(sent[encoding][letter]).decode("utf-8", "surrogateescape"), encoding) == letter


def test_koi8(postgres18: EmbeddedPostgres, tmp_path: Path) -> None:
    """A database in KOI8R, with Cyrillic names of a table and of its owner: shown, compared with the live one,
    written out, restored."""
    name = "hub_koi8"
    hub = for_server(postgres18, name, tmp_path)
    postgres18.create_database(name, options="TEMPLATE template0 ENCODING 'KOI8R' LOCALE 'C'")
    try:
        made = 'CREATE ROLE "бригадир"; CREATE TABLE "таблица" (id int PRIMARY KEY, "имя" text);'
        filled = """INSERT INTO "таблица" VALUES (1, 'кран'); ALTER TABLE "таблица" OWNER TO "бригадир";"""
        hub.psql(made + filled, database=name)
        good = fingerprint(hub.psql, name)
        file = hub.backup().name
        done = hub.run("show", file, "--table", "таблица")
        assert done.code == 0, done.said
        assert "кран" in done.out or "имя" in done.out
        written = tmp_path / "written"
        done = hub.run("extract", file, "--table", "таблица", "--output", str(written))
        assert done.code == 0, done.said
        assert written.read_bytes().decode("koi8-r") == "id,имя\n1,кран\n"
        done = hub.run("recover", "таблица", "--from", file, "--json")
        assert done.code == 0, done.said
        assert done.document["missing"] == 0
        done = hub.run("restore", "--latest", "--yes")
        assert done.code == 0, done.said
        assert diff(good, fingerprint(hub.psql, name)) == []
    finally:
        hub.drop(*hub.derived("before"))
        hub.psql('DROP OWNED BY "бригадир"; DROP ROLE "бригадир";', database=name)
        hub.drop(name)


@pytest.mark.parametrize(
    ("encoding", "word"), [("SQL_ASCII", b"\xe9t\xe9"), ("EUC_TW", b"\xc6\xd3"), ("EUC_TW", b"t")]
)
def test_unreadable_encodings(postgres18: EmbeddedPostgres, tmp_path: Path, encoding: str, word: bytes) -> None:
    """Where nothing tells which letters a name's bytes are, its bytes come back: of a table, of its owner, and of
    what a database has beside its dump."""
    name = "hub_bytes"
    hub = for_server(postgres18, name, tmp_path, BACKUP_GLOBALS="false")
    postgres18.create_database(name, options=f"TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")

    def psql(sql: bytes) -> bytes:
        argv = [str(postgres18.bin_dir / "psql"), "-XAqtv", "ON_ERROR_STOP=1", name]
        env = postgres18.env() | {"PGCLIENTENCODING": encoding}
        return subprocess.run(argv, input=sql.replace(b"WORD", word), env=env, check=True, capture_output=True).stdout

    facts = b"""
        SELECT shobj_description(d.oid, 'pg_database'), datdba::regrole, relname, relowner::regrole, setconfig, datacl
        FROM pg_database d LEFT JOIN pg_db_role_setting ON setdatabase = d.oid, pg_class
        WHERE datname = current_database() AND relnamespace = 'public'::regnamespace;"""
    psql(b"""CREATE ROLE "WORD"; CREATE TABLE "WORD" (n int); ALTER TABLE "WORD" OWNER TO "WORD";
        ALTER DATABASE hub_bytes OWNER TO "WORD"; ALTER ROLE "WORD" IN DATABASE hub_bytes SET work_mem TO '8MB';
        ALTER DATABASE hub_bytes SET shop.title TO 'WORD'; COMMENT ON DATABASE hub_bytes IS 'a \\ WORD';
        GRANT CREATE ON DATABASE hub_bytes TO "WORD";""")
    try:
        good = psql(facts)
        assert good.count(word) > 5
        hub.backup()
        done = hub.run("restore", "--latest", "--yes", "--json")
        assert done.code == 0, done.said
        assert done.document["remarks"] == []
        assert psql(facts) == good
    finally:
        hub.drop(*hub.derived("before"))
        psql(b'ALTER DATABASE hub_bytes OWNER TO CURRENT_USER; DROP OWNED BY "WORD"; DROP ROLE "WORD";')
        hub.drop(name)


def test_roles_in_several_encodings(postgres18: EmbeddedPostgres, tmp_path: Path) -> None:
    """Roles whose names no encoding has all of are left out of the backup, and what to do about that is said;
    pg_dumpall has tried it from `postgres` and from the database itself, once each."""
    names = {"hub_utf8": "UTF8", "hub_latin1": "LATIN1"}
    tools = tmp_path / "tools"
    tools.mkdir()
    calls = tmp_path / "calls"
    real = postgres18.bin_dir / "pg_dumpall"
    (tools / "pg_dumpall").write_text(f'#!/bin/sh\necho called >> {calls}\nexec {real} "$@"\n')
    (tools / "pg_dumpall").chmod(0o755)
    hub = for_server(postgres18, "hub_utf8", tmp_path)
    hub = hub.but(PATH=f"{tools}:{hub.settings['PATH']}")
    for name, encoding in names.items():
        postgres18.create_database(name, options=f"TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
        hub.psql('CREATE ROLE "été";', database=name)
    try:
        done = hub.run("backup")
        assert done.code == 3, done.said
        failed = done.event("globals.failed")
        assert "no roles in the backup: the server's roles have names in several encodings" in failed["message"]
        assert failed["remedy"].startswith("rename those that are not in the encoding of the others")
        assert calls.read_text().count("called") == 2
        hub.psql('DROP ROLE "été"', database="hub_latin1")
        done = hub.run("backup", "--json")
        assert done.code == 0, done.said
        assert 'CREATE ROLE "été"' in hub.manifest(done.document["name"]).globals_sql
    finally:
        hub.psql('DROP ROLE IF EXISTS "été"', database="hub_latin1")
        hub.psql('DROP ROLE IF EXISTS "été"', database="hub_utf8")
        hub.drop(*names)
