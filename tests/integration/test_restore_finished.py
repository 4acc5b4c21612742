"""What holds at the moment a restore says that it is finished: nothing is lost any more, and statistics are there."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hubbackup.dump.identifiers import literal
from hubbackup.load.analyze import LOAD_SUFFIX, WORTH_ROWS, Statistics
from hubbackup.load.analyze_sql import PORTION
from hubbackup.postgres.databases import Databases
from hubbackup.postgres.pins import KEEP_PATH, OUR_PATH, OWN_PATH
from hubbackup.postgres.session import Connection
from hubbackup.runners.direct import DirectRunner
from hubbackup.streams.cancel import Cancel
from tests.support.embedded_postgres import EmbeddedPostgres, installed_versions
from tests.support.fingerprint import diff, fingerprint
from tests.support.moments import wait_until
from tests.support.program import DATABASE, for_server
from tests.support.sample import SMALL

MANY_KINDS = """
CREATE TABLE parts (id int, day date, note text) PARTITION BY RANGE (day);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
INSERT INTO parts SELECT g, date '2026-01-01' + g % 59, 'note ' || g % 7 FROM generate_series(1, 2000) g;
CREATE TABLE parent (id int, kind text);
CREATE TABLE child () INHERITS (parent);
INSERT INTO parent SELECT g, 'parent ' || g % 3 FROM generate_series(1, 1000) g;
INSERT INTO child SELECT g, 'child ' || g % 5 FROM generate_series(1, 1000) g;
CREATE TABLE expressed (id int, nom text);
INSERT INTO expressed SELECT g, 'Nom ' || g FROM generate_series(1, 1000) g;
CREATE INDEX ON expressed (lower(nom));
CREATE TABLE extended (a int, b int);
INSERT INTO extended SELECT g % 10, g % 10 FROM generate_series(1, 1000) g;
CREATE STATISTICS extended_ab (dependencies) ON a, b FROM extended;
CREATE MATERIALIZED VIEW summed AS SELECT a, count(*) AS n FROM extended GROUP BY a;
CREATE TABLE "odd ""name's" (id int);
INSERT INTO "odd ""name's" SELECT generate_series(1, 500);
CREATE TABLE last_of_all (id int, note text);
INSERT INTO last_of_all SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, 60000) g;
"""
STATISTICS = """
SELECT coalesce(string_agg(line, E'\\n' ORDER BY line), '') FROM (
    SELECT format('%s.%s.%s %s %s', schemaname, tablename, attname, inherited, n_distinct) FROM pg_stats
    WHERE schemaname = 'public'
    UNION ALL SELECT format('%s %s', statistics_name, dependencies) FROM pg_stats_ext
    UNION ALL SELECT format('%s %s', oid::regclass, reltuples) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'm', 'p')) AS lines (line)
"""


@pytest.mark.parametrize("major", sorted(installed_versions()))
def test_the_statistics_are_those_of_analyze(major: int, tmp_path: Path) -> None:
    """Of every kind of table, with its expressions and extended statistics: ANALYZE by hand adds nothing."""
    with EmbeddedPostgres(major) as server:
        hub = for_server(server, DATABASE, tmp_path)
        server.create_database(DATABASE)
        hub.psql(SMALL + MANY_KINDS, database=DATABASE)
        hub.backup()
        done = hub.run("restore", "--latest", "--yes")
        assert done.code == 0, done.said
        restored = hub.psql(STATISTICS, database=DATABASE)
        hub.psql("ANALYZE", database=DATABASE)
        assert restored.splitlines() == hub.psql(STATISTICS, database=DATABASE).splitlines()
        assert len(restored.splitlines()) > 30


@pytest.mark.parametrize("waits", ["on", "off"])
def test_a_crash_right_after_the_end_loses_nothing(waits: str, tmp_path: Path) -> None:
    """Even where the server does not wait for its disk at a COMMIT; and its own settings are as they were."""
    settings = (
        "SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings WHERE source <> 'client'"
    )
    slow = {"synchronous_commit": waits, "wal_writer_delay": "10s", "wal_writer_flush_after": "1GB"}
    with EmbeddedPostgres(16, configuration=slow) as server:
        hub = for_server(server, DATABASE, tmp_path)
        server.create_database(DATABASE)
        hub.psql(SMALL, database=DATABASE)
        hub.backup()
        live, configured = fingerprint(hub.psql, DATABASE), hub.psql(settings)
        hub.psql("DELETE FROM utilisateurs", database=DATABASE)
        done = hub.run("restore", "--latest", "--yes")
        server.kill()
        assert done.code == 0, done.said
        server.start()
        assert diff(live, fingerprint(hub.psql, DATABASE)) == []
        assert hub.psql(settings) == configured


# ------------------------------------------------------------------------------------------------ beside the load


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(16) as server:
        server.create_database(DATABASE)
        server.psql(
            "CREATE TABLE first AS SELECT generate_series(1, 1000) AS id;"
            "CREATE TABLE second AS SELECT generate_series(1, 1000) AS id; CREATE TABLE third (id int);",
            database=DATABASE,
        )
        yield server


ROWS = {"public.first": 1000, "public.second": 1000, "public.third": 1000}


@contextmanager
def loading(server: EmbeddedPostgres, sql: str) -> Iterator[subprocess.Popen[str]]:
    """A session as the one that loads, inside a transaction after `sql`; it goes on with what is written to it."""
    environment = {**server.env(), "PGDATABASE": DATABASE, "PGAPPNAME": f"hubbackup-run{LOAD_SUFFIX}"}
    argv = ["psql", "-qXAt", "--set=ON_ERROR_STOP=1"]
    with subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as psql:
        assert psql.stdin is not None
        assert psql.stdout is not None
        psql.stdin.write(f"BEGIN; {sql}; SELECT 'ready';\n")
        psql.stdin.flush()
        assert psql.stdout.readline() == "ready\n"
        yield psql


def gathering(server: EmbeddedPostgres, rows: dict[str, int], *, is_told: bool = False) -> Statistics:
    """What a restore starts beside its load."""
    connection = Connection(server.user, server.password, server.host, server.port, run_id="run")
    runner = DirectRunner(cancel=Cancel(), path=server.env()["PATH"])
    databases = Databases(runner, connection, DATABASE)
    statistics = Statistics(databases, DATABASE, rows, "UTF8", server.major, is_told=is_told)
    statistics.start()
    return statistics


def analyzed(server: EmbeddedPostgres) -> set[str]:
    """The tables that have statistics."""
    found = server.psql("SELECT tablename FROM pg_stats WHERE schemaname = 'public'", database=DATABASE)
    return set(found.splitlines())


def wait_for(server: EmbeddedPostgres, tables: set[str]) -> None:
    deadline = time.monotonic() + 20
    while analyzed(server) != tables:
        assert time.monotonic() < deadline, analyzed(server)
        time.sleep(0.05)


def test_what_is_full_is_analyzed_while_the_load_goes_on(server: EmbeddedPostgres) -> None:
    """And what is being filled when it is full, at the latest after the load."""
    with loading(server, "INSERT INTO third SELECT generate_series(1, 1000)") as psql:
        statistics = gathering(server, ROWS)
        wait_for(server, {"first", "second"})
        assert psql.poll() is None
        psql.communicate("COMMIT;\n", timeout=20)
    statistics.loaded()
    statistics.wait(Cancel())
    assert analyzed(server) == {"first", "second", "third"}


def test_what_a_parallel_load_leaves_is_analyzed_by_two_sessions(server: EmbeddedPostgres) -> None:
    """Each table by one of them, the catalogs too: all that ANALYZE without a name takes."""
    having = "SELECT schemaname, tablename FROM pg_stats WHERE schemaname IN ('public', 'pg_catalog') GROUP BY 1, 2"
    server.psql("INSERT INTO third VALUES (1); ANALYZE", database=DATABASE)
    every = server.psql(f"{having} ORDER BY 1, 2", database=DATABASE)
    server.psql("DELETE FROM pg_statistic", database=DATABASE)
    statistics = gathering(server, ROWS, is_told=True)
    statistics.loaded()
    statistics.wait(Cancel())
    assert server.psql(f"{having} ORDER BY 1, 2", database=DATABASE) == every
    assert every.startswith("pg_catalog|pg_aggregate\n")


def test_what_is_at_work_when_the_load_ends_holds_up_no_other(server: EmbeddedPostgres) -> None:
    """The others are analyzed beside it, and nothing is left out."""
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with loading(server, "LOCK TABLE first IN SHARE UPDATE EXCLUSIVE MODE") as psql:
        statistics = gathering(server, {**ROWS, "public.first": WORTH_ROWS}, is_told=True)
        statistics.full("public.first")
        wait_until(lambda: server.psql(waiting, database=DATABASE) != "", "an ANALYZE that waits")
        at_work = server.psql(waiting, database=DATABASE)
        statistics.loaded()
        wait_for(server, {"second"})
        assert server.psql(waiting, database=DATABASE) == at_work
        psql.communicate("COMMIT;\n", timeout=20)
    statistics.wait(Cancel())
    assert analyzed(server) == {"first", "second"}


@pytest.mark.parametrize("is_told", [True, False])
@pytest.mark.parametrize("third", [True, False], ids=["one-to-come", "all-seen"])
def test_a_session_that_is_ended_during_the_load_costs_no_statistics(
    server: EmbeddedPostgres, is_told: bool, third: bool
) -> None:
    """By an operator who ends idle sessions, say: the rest is analyzed by another one."""
    rows = ROWS if third else {table: ROWS[table] for table in ("public.first", "public.second")}
    statistics = gathering(server, {**rows, "public.first": WORTH_ROWS if is_told else 1000}, is_told=is_told)
    statistics.full("public.first")
    wait_for(server, {"first"} if is_told else {"first", "second"})
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hubbackup-run'"
    assert "t" in server.psql(f"{ended} AND datname = '{DATABASE}'")
    server.psql("INSERT INTO third VALUES (1)", database=DATABASE)
    statistics.loaded()
    statistics.wait(Cancel())
    assert analyzed(server) == {"first", "second", "third"}


def test_a_table_that_is_dropped_meanwhile_costs_the_others_nothing(server: EmbeddedPostgres) -> None:
    """Between the list and its turn: it is passed over."""
    number = server.psql("SELECT 'first'::regclass::oid", database=DATABASE)
    body = PORTION.format(numbers=f"4294967295, {number}", own=OWN_PATH, ours=OUR_PATH)
    server.psql(f"{KEEP_PATH}DO {literal(body)}", database=DATABASE)
    assert analyzed(server) == {"first"}


def test_partitions_are_not_locked_all_at_once() -> None:
    """A server with room for few locks analyzes a thousand of them."""
    few = {"max_locks_per_transaction": "10", "max_connections": "20", "max_prepared_transactions": "0"}
    with EmbeddedPostgres(16, configuration=few) as server:
        server.create_database(DATABASE)
        server.psql(
            "SELECT format('CREATE TABLE p%s (i int) PARTITION BY LIST (i)', n)"
            " FROM generate_series(1, 25) n \\gexec\n"
            "SELECT format('CREATE TABLE p%s_%s PARTITION OF p%1$s FOR VALUES IN (%2$s)', n, m)"
            " FROM generate_series(1, 25) n, generate_series(1, 40) m \\gexec\n"
            "SELECT format('INSERT INTO p%s SELECT generate_series(1, 40)', n) FROM generate_series(1, 25) n \\gexec",
            database=DATABASE,
        )
        statistics = gathering(server, {}, is_told=True)
        statistics.loaded()
        statistics.wait(Cancel())
        assert len(analyzed(server)) == 25 * 41


def test_the_load_is_not_held_up_by_a_lock_that_it_holds(server: EmbeddedPostgres) -> None:
    """A table that the load has for itself is passed over, and analyzed in the end; no deadlock comes of it."""
    with loading(server, "LOCK TABLE first") as psql:
        statistics = gathering(server, ROWS)
        wait_for(server, {"second"})
        psql.communicate("LOCK TABLE second; ALTER TABLE second ADD PRIMARY KEY (id); COMMIT;\n", timeout=20)
        assert psql.returncode == 0
    statistics.loaded()
    statistics.wait(Cancel())
    assert analyzed(server) == {"first", "second"}


def test_a_table_that_was_not_seen_whole_is_analyzed_again(server: EmbeddedPostgres) -> None:
    """Its rows must be about as many as the dump held; that many were added after it had been analyzed."""
    with loading(server, "INSERT INTO third VALUES (1)") as psql:
        statistics = gathering(server, {**ROWS, "public.first": 5000})
        wait_for(server, {"first", "second"})
        psql.communicate("COMMIT; INSERT INTO first SELECT generate_series(1001, 5000);\n", timeout=20)
    statistics.loaded()
    statistics.wait(Cancel())
    rows = server.psql("SELECT reltuples FROM pg_class WHERE relname = 'first'", database=DATABASE)
    assert rows.strip() == "5000"
