"""Functions that name things without a schema: a dump is loaded with an empty search_path, and they fail there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.fingerprint import diff, fingerprint
from tests.support.program import DATABASE, Done, Program, for_server

HELPERS = """
CREATE SCHEMA tools;
CREATE FUNCTION tools.plain(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';
CREATE TABLE tools.rates (rate int); INSERT INTO tools.rates VALUES (3);
CREATE TYPE tools.word AS (w text);
ALTER DATABASE :"name" SET search_path = public, tools;
"""
SQL_BODY = "LANGUAGE sql IMMUTABLE AS 'SELECT plain($1)'"
PLPGSQL_BODY = "LANGUAGE plpgsql IMMUTABLE AS 'BEGIN /* plain() */ RETURN plain($1); END'"
NESTED = "LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN public.inner_one($1); END'"
TABLE_BODY = "LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN (SELECT max(rate)::text || $1 FROM rates); END'"
TYPE_BODY = "LANGUAGE plpgsql IMMUTABLE AS 'DECLARE x word; BEGIN x.w := $1; RETURN x.w; END'"
CAST_BODY = "LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN (ROW($1)::word).w; END'"
GOOD = {
    "qualified": "LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN tools.plain(upper($1)); END'",
    "with its own path": "LANGUAGE plpgsql IMMUTABLE SET search_path = tools AS 'BEGIN RETURN plain($1); END'",
    "with a common table of that name": "LANGUAGE plpgsql IMMUTABLE AS"
    " 'BEGIN RETURN (WITH rates AS (SELECT 1 AS rate) SELECT max(rate)::text || $1 FROM rates); END'",
    "SQL-standard": "IMMUTABLE RETURN plain($1)",
}
GENERATED = "CREATE TABLE t (a text, b text GENERATED ALWAYS AS (f(a)) STORED)"
CHECKED = "CREATE TABLE t (a text CHECK (f(a) <> ''))"
DOMAIN = "CREATE DOMAIN slug AS text CHECK (f(VALUE) <> ''); CREATE TABLE t (a slug)"
INDEXED = "CREATE TABLE t (a text); CREATE INDEX i ON t (f(a))"
PARTITIONED = "CREATE TABLE t (a text) PARTITION BY HASH (f(a)); CREATE TABLE t0 PARTITION OF t FOR VALUES WITH"
PARTITIONED += " (MODULUS 1, REMAINDER 0); CREATE TABLE n (a text CHECK (f(a) <> ''))"
VIEW = "CREATE TABLE t (a text); CREATE VIEW v AS SELECT f(a) AS f FROM t; CREATE MATERIALIZED VIEW m AS TABLE v"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A server with a database that each test makes anew; before 17 every use of a function has the user's path."""
    with EmbeddedPostgres(16) as server:
        yield for_server(server, DATABASE, tmp_path_factory.mktemp("path"))


def fill(hub: Program, *scripts: str) -> None:
    hub.drop(*(name for name in hub.databases() if name.startswith(DATABASE)))
    hub.psql(f'CREATE DATABASE "{DATABASE}"')
    for script in scripts:
        hub.psql(script, database=DATABASE, variables={"name": DATABASE})


def function(name: str, body: str) -> str:
    return f"CREATE FUNCTION {name}(text) RETURNS text {body};"


def row(done: Done, name: str) -> dict[str, str]:
    """One of the doctor's findings."""
    (found,) = [finding for finding in done.document["findings"] if finding["name"] == name]
    return dict(found)


def predicted(hub: Program, **settings: str) -> dict[str, str]:
    return row(hub.run("doctor", "--json", **settings), "search path")


@pytest.mark.parametrize(
    ("body", "use", "missing"),
    [
        (SQL_BODY, INDEXED, "function plain(text) does not exist"),
        (SQL_BODY, GENERATED, "function plain(text) does not exist"),
        (PLPGSQL_BODY, GENERATED, "names plain without a schema"),
        (PLPGSQL_BODY, CHECKED, "names plain"),
        (PLPGSQL_BODY, DOMAIN, "names plain"),
        (PLPGSQL_BODY, INDEXED, "names plain"),
        (PLPGSQL_BODY, VIEW, "names plain"),
        (PLPGSQL_BODY, PARTITIONED, "names plain"),
        (TABLE_BODY, CHECKED, "names rates"),
        (TYPE_BODY, GENERATED, "names word"),
        (CAST_BODY, GENERATED, "names word"),
        (NESTED, GENERATED, "public.inner_one(text) for the generated column b of"),
    ],
)
def test_what_a_load_will_break_at_is_predicted(hub: Program, body: str, use: str, missing: str) -> None:
    """What the doctor says beforehand is what happens: the load fails, says why and what to do; and what it says to
    do restores every row."""
    inner = function("public.inner_one", PLPGSQL_BODY)
    fill(hub, HELPERS, inner + function("public.f", body), f"{use}; INSERT INTO t VALUES ('A'), ('B');")
    if use is VIEW:
        hub.psql("REFRESH MATERIALIZED VIEW m", database=DATABASE)
    found = predicted(hub)
    assert found["status"] == "warn"
    assert missing in found["sentence"]
    assert "SET search_path" in found["remedy"]
    hub.backup()
    done = hub.run("restore", "--latest", "--yes")
    assert done.code == 1, done.said
    assert "finds what it names by the search_path" in done.err
    assert "set RESTORE_SEARCH_PATH to the schemas that it looks in" in done.err
    mended = hub.but(RESTORE_SEARCH_PATH="public, tools")
    done = mended.run("restore", "--latest", "--yes")
    assert done.code == 0, done.said
    assert hub.psql("SELECT string_agg(a, ',' ORDER BY a) FROM t", database=DATABASE) == "A,B"


def test_the_setting_satisfies_the_doctor(hub: Program) -> None:
    """With RESTORE_SEARCH_PATH a restore succeeds, and the doctor says for what."""
    fill(hub, HELPERS, function("public.f", SQL_BODY), GENERATED)
    found = predicted(hub, RESTORE_SEARCH_PATH="public, tools")
    assert found["status"] == "ok"
    assert "restores look in public, tools (RESTORE_SEARCH_PATH)" in found["sentence"]
    assert "public.f(text)" in found["sentence"]


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD)
def test_what_needs_no_search_path_is_not_blamed(hub: Program, body: str) -> None:
    """Names in full, a path of its own, names that only look alike: no warning, and a restore succeeds."""
    fill(hub, HELPERS, function("public.f", body), f"{GENERATED}; INSERT INTO t VALUES ('A');")
    assert predicted(hub) == {
        "name": "search path",
        "status": "ok",
        "sentence": "no function that a restore runs needs a search_path",
        "remedy": "",
    }
    hub.backup()
    assert hub.run("drill").code == 0


def test_a_function_that_no_load_runs_is_not_blamed(hub: Program) -> None:
    """A default, a trigger, a view and a policy are not run while a dump is loaded."""
    unused = "CREATE TABLE t (a text DEFAULT f('x')); CREATE VIEW v AS SELECT f(a) FROM t;"
    unused += "ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (f(a) = 'x');"
    fill(hub, HELPERS, function("public.f", PLPGSQL_BODY), unused + "INSERT INTO t VALUES ('A');")
    assert predicted(hub)["status"] == "ok"
    good = fingerprint(hub.psql, DATABASE)
    hub.backup()
    assert hub.run("restore", "--latest", "--yes").code == 0
    assert diff(good, fingerprint(hub.psql, DATABASE)) == []


def test_the_doctor_runs_no_function(hub: Program) -> None:
    """A body that would leave a trace leaves none, and no setting of the session is changed for good."""
    trap = "LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE EXCEPTION ''run''; END'"
    fill(hub, HELPERS, function("public.f", trap), INDEXED)
    assert predicted(hub)["status"] == "ok"


def test_our_own_counts_and_statistics_have_the_databases_path(hub: Program) -> None:
    """What psql takes is not refused by us: the planner and ANALYZE look into functions that name things without a
    schema, here by extended statistics, which no load evaluates."""
    fill(hub, HELPERS, function("public.f", SQL_BODY), "CREATE TABLE t (a text); INSERT INTO t VALUES ('A'), ('B');")
    hub.psql("CREATE STATISTICS s ON (f(a)), a FROM t; ANALYZE t;", database=DATABASE)
    hub.backup()
    done = hub.run("restore", "--latest", "--yes", "--json")
    assert done.code == 0, done.said
    assert done.document["remarks"] == []
    gathered = "SELECT count(*) FROM pg_stats_ext_exprs WHERE statistics_name = 's' AND n_distinct IS NOT NULL"
    assert hub.psql(gathered, database=DATABASE) == "1"


@pytest.mark.parametrize("path", ["public; DROP TABLE t", "1, 2", "public,", "'public'", "a b"])
def test_a_malformed_path_is_refused(hub: Program, path: str) -> None:
    """Exit 2, and the setting is named."""
    done = hub.run("doctor", RESTORE_SEARCH_PATH=path)
    assert done.code == 2, done.said
    assert "RESTORE_SEARCH_PATH" in done.err + done.out
