"""The census beside `SELECT count(*)`: the same figure for every table, on databases as people have them."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hubbackup.dump.census import Census, DumpFacts
from hubbackup.dump.identifiers import literal, quoted
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.sample import load_sample

MANY_TABLES = """
SELECT format('CREATE TABLE t%s (id int, note text)', n), format('INSERT INTO t%s SELECT g, ''n'' || g'
    ' FROM generate_series(1, %s) g', n, n % 7) FROM generate_series(1, 2000) n \\gexec
CREATE SCHEMA "Équipes d'été";
CREATE TABLE "Équipes d'été"."select ""from"" stdin;" (id int);
INSERT INTO "Équipes d'été"."select ""from"" stdin;" SELECT generate_series(1, 11);
CREATE TABLE parent (id int);
CREATE TABLE child (extra text) INHERITS (parent);
INSERT INTO parent SELECT generate_series(1, 5);
INSERT INTO child SELECT g, E'a\\nb\\\\.' FROM generate_series(1, 8) g;
CREATE TABLE measures (day date, v int) PARTITION BY RANGE (day);
CREATE TABLE measures_1 PARTITION OF measures FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE measures_rest PARTITION OF measures DEFAULT;
INSERT INTO measures SELECT '2026-01-20'::date + g, g FROM generate_series(1, 40) g;
"""
COUNTS = """
SELECT format('SELECT %L, count(*) FROM ONLY %s',
    encode(convert_to(c.oid::regclass::text, 'UTF8'), 'hex'), c.oid::regclass)
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' \\gexec
"""


def census_of(pg: EmbeddedPostgres, database: str) -> DumpFacts:
    """What the census says of a dump by the server's own pg_dump."""
    census = Census()
    argv = [str(pg.bin_dir / "pg_dump"), "--format=plain"]
    with subprocess.Popen(argv, env=pg.env() | {"PGDATABASE": database}, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while chunk := process.stdout.read(1 << 16):
            census.feed(chunk)
    assert process.returncode == 0
    return census.finish()


def counts_of(pg: EmbeddedPostgres, database: str) -> dict[str, int]:
    """What the server itself counts, by the name in full, quoted as pg_dump does."""
    lines = pg.psql("SET search_path = '';" + COUNTS, database=database).split("\n")
    rows = (line.partition("|") for line in lines if "|" in line)
    return {bytes.fromhex(name).decode(): int(count) for name, _, count in rows}


@pytest.mark.parametrize("kind", ["pgbench", "sample", "2,000 tables"])
def test_every_table_is_counted_as_the_server_counts_it(postgres: EmbeddedPostgres, database: str, kind: str) -> None:
    """Not one row more or less, in any table: partitions, heirs and quoted names each by themselves."""
    if kind == "pgbench":
        argv = [str(postgres.bin_dir / "pgbench"), "--initialize", "--scale=1", "--quiet"]
        subprocess.run(argv, env=postgres.env() | {"PGDATABASE": database}, check=True, capture_output=True)
    elif kind == "sample":
        load_sample(postgres.psql, database, 3)
    else:
        postgres.psql(MANY_TABLES, database=database)
    facts = census_of(postgres, database)
    expected = counts_of(postgres, database)
    assert facts.rows == expected
    assert sum(expected.values()) > 5000


hostile = st.lists(
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)
    | st.sampled_from(
        [
            "\\.",
            "\\.\n",
            "\n\\.\n",
            "\\\\.",
            "\n--\n-- PostgreSQL database dump complete\n--\n",
            "COPY public.t1 (id) FROM stdin;\n1\n\\.\n",
            "\\restrict x\n",
            "$_$",
            "$$;",
            "';",
            '";\n',
            "/*",
            "*/",
            "E'\\'",
            "\r\n",
            "\t\\N\t",
        ]
    ),
    max_size=4,
).map("".join)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.none() | hostile, max_size=4), min_size=1, max_size=3), hostile, hostile)
def test_nothing_in_a_real_dump_misleads_it(
    postgres: EmbeddedPostgres, database: str, tables: list[list[str | None]], said: str, named: str
) -> None:
    """Whatever rows, comments, defaults, function bodies and names hold, as the server's own pg_dump writes them."""
    name = named.encode()[:40].decode(errors="ignore") or "t"
    lines = ["DROP SCHEMA IF EXISTS s CASCADE; CREATE SCHEMA s;"]
    for number, rows in enumerate(tables):
        table = f"s.{quoted(f'{number}{name}')}"
        lines.append(f"CREATE TABLE {table} (a text DEFAULT {literal(said)}, {quoted(f'c{name}')} text);")
        lines.append(f"COMMENT ON TABLE {table} IS {literal(said)};")
        lines += [
            f"INSERT INTO {table} VALUES ({'NULL' if row is None else literal(row)}, {literal(said)});"
            for row in rows
        ]
    lines.append(f"CREATE FUNCTION s.f() RETURNS text LANGUAGE sql AS {literal(f'SELECT {literal(said)}::text')};")
    postgres.psql("\n".join(lines), database=database)
    facts = census_of(postgres, database)
    assert sorted(facts.rows.values()) == sorted(len(rows) for rows in tables)
    assert facts.rows.keys() == counts_of(postgres, database).keys()
    assert facts.table_count == len(tables)
