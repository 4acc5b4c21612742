"""A dump that pg_dump itself writes is taken, whatever it was asked to write and however."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from hubbackup.dump.census import Census, DumpFacts
from hubbackup.errors import NotProvenError
from tests.support.embedded_postgres import EmbeddedPostgres, installed_versions

EVERYTHING = r"""
CREATE ROLE "it's \ ""me x";
CREATE SCHEMA s AUTHORIZATION "it's \ ""me x";
CREATE TYPE s.mood AS ENUM ('a', 'it''s', E'back\\slash', ';');
CREATE TYPE s.pair AS (a int, b text COLLATE "C");
CREATE TYPE s.span AS RANGE (subtype = int);
CREATE DOMAIN s.positive AS int DEFAULT 1 CHECK (VALUE > 0);
CREATE COLLATION s.plain FROM "C";
CREATE FUNCTION s.lang(t text) RETURNS text LANGUAGE sql IMMUTABLE BEGIN ATOMIC
  SELECT CASE WHEN t = ';' THEN 'end' ELSE 'begin' END; END;
CREATE FUNCTION s.old() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN
  -- \! echo
  RETURN NEW; END $f$;
CREATE PROCEDURE s.proc(INOUT a int DEFAULT 1) LANGUAGE plpgsql AS 'BEGIN a := 2; END';
CREATE AGGREGATE s.total (int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE OPERATOR s.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq, COMMUTATOR = OPERATOR(s.===));
CREATE CAST (s.mood AS bigint) WITH INOUT;
CREATE OPERATOR CLASS s.ops FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=,
  OPERATOR 5 >, FUNCTION 1 btint4cmp(int, int);
CREATE TEXT SEARCH DICTIONARY s.dict (TEMPLATE = simple, stopwords = 'english');
CREATE TEXT SEARCH CONFIGURATION s.conf (COPY = french);
CREATE SEQUENCE s.seq START 7;
CREATE TABLE s.t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, m s.mood, d s.positive, b bytea, j jsonb,
  f float8, n numeric, t text DEFAULT E'\\;--', at timestamptz, i interval, g int GENERATED ALWAYS AS (1) STORED,
  a text[], x xml, bits bit(4), "Quoted ""col; --" text, EXCLUDE USING btree (d WITH =), CHECK (t <> E'x\n\\.\n'));
INSERT INTO s.t (m, d, b, j, f, n, t, at, i, a, bits, "Quoted ""col; --")
  SELECT 'it''s', n, decode('5c27002e0a', 'hex'), '{"a": "\\"}', 'NaN', 1e100, p, '0044-03-15 BC', '-1 mon 2 days',
    ARRAY[p, '"', NULL], B'1010', p
  FROM unnest(ARRAY[E'\\.', E'\n\\.\n', E'a\\', '''', E'\r\n', E'\t', ';', '$$', 'é', E'\\! x', '/*', '--', ':x',
    E'\u2028', '']) WITH ORDINALITY AS given (p, n);
CREATE TABLE s.parent (a int, b text) PARTITION BY LIST (b);
CREATE TABLE s.part PARTITION OF s.parent FOR VALUES IN ('a;', E'b\\');
CREATE TABLE s.rest PARTITION OF s.parent DEFAULT;
INSERT INTO s.parent VALUES (1, 'a;'), (2, 'z');
CREATE UNLOGGED TABLE s.fast (a int) WITH (fillfactor = 50);
INSERT INTO s.fast VALUES (1);
CREATE TABLE s.nothing ();
INSERT INTO s.nothing DEFAULT VALUES;
CREATE INDEX ON s.t USING gin (j);
CREATE INDEX ON s.t (lower(t), (d + 1)) WHERE t IS NOT NULL;
CREATE STATISTICS s.stat (dependencies) ON d, f FROM s.t;
CREATE VIEW s.v WITH (security_barrier) AS SELECT id, t || E'\\;' AS t FROM s.t WITH LOCAL CHECK OPTION;
CREATE VIEW s.circle AS SELECT 1 AS a;
CREATE MATERIALIZED VIEW s.m AS SELECT count(*) FROM s.t;
CREATE RULE r AS ON UPDATE TO s.v DO INSTEAD (INSERT INTO s.fast VALUES (1); SELECT ';');
CREATE TRIGGER tr BEFORE UPDATE OF t ON s.t FOR EACH ROW WHEN (NEW.t <> ';') EXECUTE FUNCTION s.old();
ALTER TABLE s.t DISABLE TRIGGER tr;
ALTER TABLE s.t ENABLE ROW LEVEL SECURITY;
CREATE POLICY "p; TO x" ON s.t AS RESTRICTIVE FOR SELECT TO "it's \ ""me x", pg_monitor USING (t <> 'end');
ALTER TABLE s.fast ADD FOREIGN KEY (a) REFERENCES s.t NOT VALID;
CREATE FUNCTION s.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER ev ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION s.on_ddl();
ALTER EVENT TRIGGER ev DISABLE;
CREATE FOREIGN DATA WRAPPER w OPTIONS (a 'it''s');
CREATE SERVER srv TYPE 'x' FOREIGN DATA WRAPPER w OPTIONS (host E'\\');
CREATE USER MAPPING FOR PUBLIC SERVER srv OPTIONS (password ';');
CREATE FOREIGN TABLE s.far (a int OPTIONS (b 'c')) SERVER srv;
CREATE PUBLICATION pub FOR TABLE s.t (id, t) WHERE (t <> ';');
CREATE SUBSCRIPTION sub CONNECTION 'host=nowhere password=''x''' PUBLICATION p
  WITH (connect = false, slot_name = NONE);
CREATE TRANSFORM FOR s.pair LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal));
SELECT lo_from_bytea(0, E'\\x5c27');
GRANT SELECT (id, t), UPDATE ON s.t TO "it's \ ""me x" WITH GRANT OPTION;
GRANT ALL ON ALL FUNCTIONS IN SCHEMA s TO "it's \ ""me x";
ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT SELECT ON TABLES TO PUBLIC;
ALTER TABLE s.t OWNER TO "it's \ ""me x";
COMMENT ON TABLE s.t IS E'a\\b;\n\\! x';
COMMENT ON DATABASE postgres IS 'it''s';
ALTER DATABASE :"name" SET search_path TO s, "$user";
ANALYZE;
"""
OPTIONS = (
    "--inserts",
    "--column-inserts",
    "--inserts --rows-per-insert=7",
    "--column-inserts --on-conflict-do-nothing",
    "--no-owner",
    "--no-privileges",
    "--no-comments",
    "--no-owner --no-acl --no-comments --no-publications --no-subscriptions --no-security-labels",
    "--clean",
    "--clean --if-exists",
    "--create",
    "--create --clean --if-exists",
    "--quote-all-identifiers",
    "--quote-all-identifiers --inserts",
    "--schema-only",
    "--data-only",
    "--data-only --disable-triggers",
    "--section=pre-data",
    "--section=post-data",
    "--schema=s",
    "--table=s.t",
    "--exclude-table-data=s.t",
    "--no-tablespaces --no-table-access-method --no-toast-compression",
    "--no-unlogged-table-data",
    "--load-via-partition-root",
    "--use-set-session-authorization",
    "--disable-dollar-quoting",
    "--enable-row-security",
    "--extra-float-digits=0",
    "--encoding=SQL_ASCII",
    "--no-blobs",
    "--strict-names --schema=s",
    "--verbose",
)
SINCE_18 = ("--statistics", "--statistics-only", "--no-policies", "--sequence-data --schema-only", "--no-statistics")


@pytest.fixture(scope="module", params=sorted({15, 16, 18} & installed_versions().keys()))
def server(request: pytest.FixtureRequest) -> Iterator[EmbeddedPostgres]:
    configuration = {"wal_level": "logical", "max_wal_senders": "2"}
    with EmbeddedPostgres(request.param, configuration=configuration) as found:
        found.create_database("it's")
        found.psql(EVERYTHING, database="it's", variables={"name": "it's"})
        yield found


def dumped(server: EmbeddedPostgres, options: str) -> bytes:
    argv = [server.bin_dir / "pg_dump", "--format=plain", *options.split(), "dbname='it\\'s'"]
    done = subprocess.run(argv, env=server.env(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def census(text: bytes) -> DumpFacts:
    counted = Census()
    counted.feed(text)
    return counted.finish()


def test_every_way_to_dump_is_taken(server: EmbeddedPostgres) -> None:
    """One database with each kind of object, by some forty sets of options: none is refused, rows are all there."""
    wrong = {}
    for options in ("", *OPTIONS, *(SINCE_18 if server.major >= 18 else ())):
        try:
            facts = census(dumped(server, options))
        except (AssertionError, NotProvenError) as error:
            wrong[options] = str(error)[:300]
            continue
        has_rows = facts.rows.get('"s"."t"' if "quote-all" in options else "s.t", 0)
        whole = not set(options.split()) & {
            "--inserts",
            "--column-inserts",
            "--schema-only",
            "--section=pre-data",
            "--section=post-data",
            "--exclude-table-data=s.t",
            "--statistics-only",
        }
        if whole and has_rows != 15:
            wrong[options] = f"{has_rows} rows of s.t"
    assert wrong == {}
    assert len(OPTIONS) >= 20
