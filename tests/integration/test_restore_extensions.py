"""Extensions that a plain load can't bring back: bound to a database's name, or to be told of a restore."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import DATABASE, image_with, postgres_container
from tests.support.fingerprint import diff, fingerprint
from tests.support.program import Program, for_container

CRON = """
CREATE TABLE visits (at timestamptz DEFAULT now(), n int); INSERT INTO visits (n) VALUES (1), (2);
CREATE EXTENSION pg_cron;
SELECT cron.schedule('nightly', '0 3 * * *', 'DELETE FROM visits');
SELECT cron.schedule('weekly', '0 3 * * 0', 'VACUUM');
SELECT cron.unschedule('weekly');
CREATE ROLE clerk; GRANT USAGE ON SCHEMA cron TO clerk;
CREATE VIEW jobs AS SELECT jobname, schedule FROM cron.job;
"""
SETTINGS = {"shared_preload_libraries": "pg_cron", "cron.database_name": DATABASE}
HELD = "SELECT jobid, jobname, schedule, command, database, last_value FROM cron.job, cron.jobid_seq"
DATABASE_CHECKS = ("database", "readable", "restorable", "search path", "left out")
WORKS_IN = "SELECT datname FROM pg_stat_activity WHERE backend_type = 'pg_cron launcher'"
TIMESCALE = {
    "timescaledb.control": "comment = 'stands in for TimescaleDB'\ndefault_version = '2.1'\nrelocatable = false\n",
    "timescaledb--2.1.sql": """
CREATE TABLE hypertables (name text);
CREATE TABLE telemetry (said text);
SELECT pg_extension_config_dump('hypertables', '');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF current_setting('timescaledb.restoring', true) IS DISTINCT FROM 'on' THEN
        RAISE 'this catalog is written by timescaledb itself';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON hypertables FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE FUNCTION timescaledb_pre_restore() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET timescaledb.restoring = on', current_database()); RETURN true;
END $$;
CREATE FUNCTION timescaledb_post_restore() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
    EXECUTE format('ALTER DATABASE %I RESET timescaledb.restoring', current_database()); RETURN true;
END $$;
""",
}


@pytest.fixture(scope="module")
def cron(docker_engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A server with the real pg_cron, at work in the application's database."""
    with postgres_container(image_with("postgres:17", "postgresql-17-cron"), settings=SETTINGS) as name:
        hub = for_container(name, tmp_path_factory.mktemp("cron"))
        hub.psql(CRON, database=DATABASE)
        yield hub


def test_pg_cron_comes_back_with_its_jobs(cron: Program) -> None:
    """pg_cron can only be made in the database that it is bound to: a restore beside it brings back its jobs, its
    rights and what users made of it; it works on in the restored database, and the kept one runs no job."""
    good, held = fingerprint(cron.psql, DATABASE), cron.psql(HELD, database=DATABASE)
    cron.backup()
    cron.psql("DELETE FROM visits; SELECT cron.unschedule('nightly')", database=DATABASE)
    done = cron.run("restore", "--latest", "--yes")
    assert done.code == 0, done.said
    assert diff(good, fingerprint(cron.psql, DATABASE)) == []
    assert cron.psql(HELD, database=DATABASE) == held
    assert "contrib_regression" not in cron.databases()
    assert cron.psql(WORKS_IN) == DATABASE, "ended by the swap, it came back by itself"
    assert "pg_cron has stopped" not in done.said
    assert cron.run("backup").code == 0


def test_pg_cron_elsewhere_says_that_it_rests(cron: Program) -> None:
    """Restored under another name the jobs are there, and it is said that they don't run."""
    cron.backup()
    done = cron.run("restore", "--latest", "--into", "copy_of_it", "--yes")
    assert done.code == 0, done.said
    assert f"pg_cron works in the database {DATABASE} only (cron.database_name)" in done.said
    assert cron.psql(HELD, database="copy_of_it") == cron.psql(HELD, database=DATABASE)
    cron.drop("copy_of_it")


def test_pg_cron_passes_a_drill(cron: Program) -> None:
    """The throwaway server loads the same libraries."""
    cron.backup()
    done = cron.run("drill")
    assert done.code == 0, done.said


def test_what_a_restore_of_pg_cron_takes_is_said_before_anything(cron: Program) -> None:
    """The name that it needs for a moment is taken: exit 1, and nothing was made."""
    cron.backup()
    cron.psql("CREATE DATABASE contrib_regression")
    try:
        before = cron.databases()
        done = cron.run("restore", "--latest", "--yes")
        assert done.code == 1, done.said
        assert "pg_cron can only be made in a database named contrib_regression" in done.err
        assert cron.databases() == before
    finally:
        cron.drop("contrib_regression")


def test_an_older_pg_cron_that_stays_away_is_told(docker_engine: str, tmp_path: Path) -> None:
    """Before 1.6 its launcher, ended by the swap, stays away until the server is restarted: that is a remark."""
    with postgres_container(image_with("postgres:15", "postgresql-15-cron"), settings=SETTINGS) as name:
        hub = for_container(name, tmp_path)
        hub.psql(CRON, database=DATABASE)
        hub.backup()
        done = hub.run("restore", "--latest", "--yes")
        assert done.code == 0, done.said
        assert "pg_cron has stopped with the old database: restart the server" in done.said
        assert hub.psql(WORKS_IN) == ""
        found = hub.run("doctor", "--json").document["findings"]
        assert {finding["status"] for finding in found if finding["name"] in DATABASE_CHECKS} == {"ok"}
        hub.psql("UPDATE pg_database SET datcollversion = '1' WHERE datcollversion IS NOT NULL")
        found = hub.run("doctor", "--json").document["findings"]
        (restorable,) = [finding for finding in found if finding["name"] == "restorable"]
        assert "text is sorted otherwise than when this database was made" in restorable["sentence"]
        assert "REFRESH COLLATION VERSION" in restorable["remedy"]


@pytest.fixture(scope="module")
def timescale(docker_engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A server with an extension that has TimescaleDB's name, its two functions, and rows that only they let in."""
    files = {f"/usr/share/postgresql/17/extension/{name}": text for name, text in TIMESCALE.items()}
    with postgres_container(image_with("postgres:17", files=files)) as name:
        hub = for_container(name, tmp_path_factory.mktemp("timescale"))
        hub.psql("CREATE EXTENSION timescaledb;", database=DATABASE)
        hub.psql("SET timescaledb.restoring = on; INSERT INTO hypertables VALUES ('metrics');", database=DATABASE)
        yield hub


def test_timescaledb_is_told_of_a_restore(timescale: Program) -> None:
    """timescaledb_pre_restore() comes before the load and timescaledb_post_restore() after it, in a drill as well."""
    good = fingerprint(timescale.psql, DATABASE)
    timescale.psql("INSERT INTO telemetry VALUES ('once')", database=DATABASE)
    found = timescale.run("doctor", "--json").document["findings"]
    (left_out,) = [finding["sentence"] for finding in found if finding["name"] == "left out"]
    assert "of tables that extensions keep to themselves no row is in a backup: public.telemetry" in left_out
    timescale.backup()
    done = timescale.run("restore", "--latest", "--yes")
    assert done.code == 0, done.said
    assert diff(good, fingerprint(timescale.psql, DATABASE)) == []
    assert timescale.psql("SELECT * FROM hypertables", database=DATABASE) == "metrics"
    assert timescale.run("drill").code == 0
