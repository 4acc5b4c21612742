"""Several hubbackups for one database, each on its host and with its directory: never two at work on it at once."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hubbackup.postgres.run_lock import KEY, RUN
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.forked import Forked
from tests.support.moments import locked_table, wait_until
from tests.support.pooler import pgbouncer
from tests.support.program import Program, finish, for_server

Two = tuple[Program, Program]
LOCKS = (
    f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = {KEY} AND objid = {RUN} AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = :'name')"
)
QUICK_BEAT = """\
import sys
import hubbackup.postgres.run_lock
hubbackup.postgres.run_lock.BEAT_SECONDS = 0.1
sys.argv[0] = "hubbackup"
from hubbackup.__main__ import main
main()
"""


@pytest.fixture
def two(postgres18: EmbeddedPostgres, tmp_path: Path) -> Iterator[Two]:
    """The program as on two hosts: a directory each, one key for the manifests."""
    key = {"BACKUP_MANIFEST_KEY": secrets.token_hex(32)}
    with postgres18.temporary_database() as name:
        postgres18.psql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i", database=name)
        first, second = (for_server(postgres18, name, tmp_path / word, **key) for word in ("first", "second"))
        yield first, second


def locks(program: Program) -> int:
    return int(program.psql(LOCKS, variables={"name": program.database}))


def started(program: Program, *arguments: str) -> Forked:
    """The command, once it holds the lock."""
    run = program.fork(*arguments, output=program.directory / "said")
    wait_until(lambda: locks(program) or run.poll() is not None, "the run lock")
    assert run.poll() is None, (program.directory / "said").read_text()
    return run


def test_a_second_run_from_elsewhere_ends_at_once_and_harms_nothing(two: Two, postgres18: EmbeddedPostgres) -> None:
    """Backup and restore alike: exit code 4, and a sentence that names who is at work and since when; nothing is
    recorded, written or ended, and the run at work ends well."""
    first, second = two
    second.backup()
    before = second.files(), (second.backups / ".hubbackup/history.jsonl").read_text()
    with locked_table(postgres18, first.database, "t"):
        run = started(first, "backup")
        began = time.monotonic()
        for command in (["backup"], ["restore", "--latest", "--yes"]):
            done = second.run(*command)
            assert done.code == 4, done.said
            sentence = " ".join(done.sentences)
            assert f"another run of hubbackup is at work on the database {first.database}: hubbackup-20" in sentence
            assert " backup on " in sentence
            assert ", from 127.0.0.1, since 20" in sentence
        assert time.monotonic() - began < 15
        findings = {one["name"]: one for one in second.run("doctor", "--json").document["findings"]}
        assert "a run is at work" in findings["run lock"]["sentence"]
        assert run.poll() is None
    assert run.wait(60) == 0, (first.directory / "said").read_text()
    assert (second.files(), (second.backups / ".hubbackup/history.jsonl").read_text()) == before
    assert locks(first) == 0
    second.backup()


def test_no_backup_begins_while_a_restore_from_elsewhere_is_at_work(two: Two, postgres18: EmbeddedPostgres) -> None:
    """Neither before the swap nor in it: the restore ends no pg_dump of another's. Afterwards all goes on, also
    back."""
    first, second = two
    postgres18.psql(
        "CREATE FUNCTION wait(i int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
        " WHILE current_database() ~ '_restore_' AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname ="
        " 'go_on') LOOP PERFORM pg_catalog.pg_sleep(0.02); END LOOP; RETURN true; END $$;"
        "CREATE TABLE w (i int CHECK (wait(i))); INSERT INTO w VALUES (1);",
        database=first.database,
    )
    first.backup()
    try:
        run = started(first, "restore", "--latest", "--yes")
        wait_until(lambda: first.derived("restore"), "the new database")
        done = second.run("backup")
        assert done.code == 4, done.said
        assert " restore on " in done.err
        postgres18.psql("CREATE ROLE go_on")
        assert run.wait(60) == 0, (first.directory / "said").read_text()
        assert "lock.lost" not in (first.directory / "said").read_text()
        second.backup()
        done = first.run("restore", "--undo", "--yes")
        assert done.code == 0, done.said
        assert locks(first) == 0
    finally:
        postgres18.psql("DROP ROLE IF EXISTS go_on")
        first.drop(*first.derived("before"), *first.derived("restore"))


def test_no_timeout_ends_the_lock(two: Two, postgres18: EmbeddedPostgres) -> None:
    """Whatever the role has for sessions that wait idly: the run's lasts as long as the run, and holds back no
    vacuum meanwhile."""
    first, _ = two
    name = first.database
    with locked_table(postgres18, name, "t"):
        for setting in ("idle_session_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"):
            postgres18.psql(f'ALTER DATABASE :"name" SET {setting} = 300', variables={"name": name})
        run = started(first, "backup")
        time.sleep(1.5)
        assert locks(first) == 1
        kept = postgres18.psql(
            "SELECT state, backend_xid, backend_xmin FROM pg_stat_activity WHERE application_name ~ ' backup on '"
            f" AND datname = '{name}'"
        )
        assert kept == "idle in transaction||"
    assert run.wait(60) == 0


def test_a_lost_lock_is_said_and_ends_nothing(two: Two, postgres18: EmbeddedPostgres) -> None:
    """Where its session is killed in the middle of the run, the log says so, and the backup is as good as any."""
    first, _ = two
    with locked_table(postgres18, first.database, "t"):
        process = first.start("backup", code=QUICK_BEAT)
        wait_until(lambda: locks(first), "the run lock")
        postgres18.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ ' backup on '"
        )
        wait_until(lambda: not locks(first), "the end of the lock")
        time.sleep(0.5)
    done = finish(process)
    assert done.code == 0, done.said
    lost = done.event("lock.lost")
    assert lost["level"] == "warning"
    assert first.database in lost["message"]
    assert done.event("backup.finished")["exit_code"] == 0


def test_a_killed_run_keeps_nobody_waiting(two: Two, postgres18: EmbeddedPostgres) -> None:
    """Its lock goes with it, though its pg_dump still waits in the server: that is another's, and nobody but a later
    run on the same host ends it."""
    first, second = two
    name = first.database
    dumps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name ~ '^hubbackup'"
    with locked_table(postgres18, name, "t"):
        run = started(first, "backup")
        wait_until(lambda: postgres18.psql(dumps) == "1", "a waiting pg_dump")
        run.kill()
        waiting = second.fork("backup", output=second.directory / "said")
        wait_until(lambda: postgres18.psql(dumps) == "2", "the other pg_dump beside it")
        waiting.send_signal(15)
        assert waiting.wait(30) == 143, (second.directory / "said").read_text()
        assert postgres18.psql(dumps) == "1"  # the first host's
        again = first.fork("backup", output=first.directory / "said")
        wait_until(lambda: "orphans.ended" in (first.directory / "said").read_text(), "the end of the orphan")
    assert again.wait(60) == 0, (first.directory / "said").read_text()


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_a_pooler_does_not_break_the_lock(mode: str, two: Two, postgres18: EmbeddedPostgres) -> None:
    """pgbouncer with `pool_mode=transaction` as well: the lock holds, through it and beside it, and none stays behind
    in its pool."""
    direct, second = two
    with pgbouncer(postgres18, mode) as port:
        pooled = second.but(PGPORT=str(port))
        with locked_table(postgres18, direct.database, "t"):
            run = started(pooled, "backup")
            assert direct.run("backup").code == 4
        assert run.wait(60) == 0, (pooled.directory / "said").read_text()
        assert "lock." not in (pooled.directory / "said").read_text()
        assert locks(direct) == 0
        with locked_table(postgres18, direct.database, "t"):
            run = started(direct, "backup")
            assert pooled.run("backup").code == 4
        assert run.wait(60) == 0


def test_where_there_can_be_no_lock_it_is_said_and_the_run_goes_on(two: Two, postgres18: EmbeddedPostgres) -> None:
    """A role that may not lock, or that has no connection to spare for it: one line in the log, a warning of the
    doctor's with what to do, and a backup as before."""
    first, _ = two
    name = first.database
    postgres18.psql("CREATE ROLE modest LOGIN PASSWORD 'x'; GRANT pg_read_all_data TO modest")
    modest = first.but(POSTGRES_USER="modest", POSTGRES_PASSWORD="x", BACKUP_GLOBALS="false")
    try:
        for forbid, allow, why in (
            (
                "REVOKE EXECUTE ON FUNCTION pg_try_advisory_xact_lock(int, int) FROM PUBLIC",
                "GRANT EXECUTE ON FUNCTION pg_try_advisory_xact_lock(int, int) TO PUBLIC",
                "pg_try_advisory_xact_lock",
            ),
            ("ALTER ROLE modest CONNECTION LIMIT 2", "ALTER ROLE modest CONNECTION LIMIT -1", "only 2 connections"),
        ):
            postgres18.psql(forbid, database=name)
            done = modest.run("backup")
            assert done.code == 0, done.said
            said = done.event("lock.unavailable")
            assert said["level"] == "warning"
            assert why in said["cause"]
            findings = {one["name"]: one for one in modest.run("doctor", "--json").document["findings"]}
            assert findings["run lock"]["status"] == "warn"
            assert why in findings["run lock"]["sentence"]
            postgres18.psql(allow, database=name)
            assert not [one for one in modest.run("backup").events if one["event"].startswith("lock.")]
    finally:
        postgres18.psql("DROP OWNED BY modest", database=name)
        postgres18.psql("DROP ROLE modest")


def test_a_role_without_rights_can_not_keep_backups_from_being_made(two: Two, postgres18: EmbeddedPostgres) -> None:
    """Anybody who may connect can take an advisory lock: the run names the role, and goes on without the lock."""
    program = two[0]
    postgres18.psql("CREATE ROLE guest LOGIN PASSWORD 'x'", database=program.database)
    guest = {**postgres18.env(), "PGUSER": "guest", "PGPASSWORD": "x", "PGDATABASE": program.database}
    try:
        with subprocess.Popen(["psql", "-qXAt"], env=guest, stdin=subprocess.PIPE, text=True) as psql:
            assert psql.stdin is not None
            psql.stdin.write(f"BEGIN; DO 'BEGIN PERFORM pg_advisory_xact_lock({KEY}, {RUN}); END';\n")
            psql.stdin.flush()
            wait_until(lambda: locks(program) == 1, "the lock")
            done = program.run("backup")
            psql.communicate()
    finally:
        postgres18.psql("DROP ROLE guest", database=program.database)
    assert done.code == 0, done.said
    said = done.event("lock.unavailable")["message"]
    assert "the role guest, which can't be making backups, holds it (a session that does not tell its name" in said


def test_the_lock_is_of_one_database(two: Two, postgres18: EmbeddedPostgres) -> None:
    """Whatever its name: a run on another one of the same server has nothing to do with it."""
    first, second = two
    odd = 'Lock\'s "é" %s'
    postgres18.create_database(odd)
    try:
        with locked_table(postgres18, first.database, "t"):
            run = started(first, "backup")
            replace(second, settings={**second.settings, "POSTGRES_DB": odd}).backup()
        assert run.wait(60) == 0
    finally:
        postgres18.drop_database(odd)
