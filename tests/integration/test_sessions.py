"""Sessions of ours are pinned and inert: no environment, setting or trigger of the database decides for them."""

from __future__ import annotations

import gzip
import secrets
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hubbackup.errors import ToolError
from hubbackup.postgres import client, pins, session
from hubbackup.postgres.messages import explain
from hubbackup.postgres.session import Connection
from hubbackup.runners import run, tool_error
from hubbackup.runners.direct import DirectRunner
from hubbackup.streams.cancel import Cancel
from tests.support import psql_through
from tests.support.backups import plain_of, unproven
from tests.support.containers import USER, postgres_container
from tests.support.embedded_postgres import EmbeddedPostgres, installed_versions
from tests.support.libpq_variables import LIBPQ
from tests.support.moments import locked_table
from tests.support.program import DATABASE, Done, Program, for_container, for_server

WRITES_BY_ITSELF = """
CREATE TABLE audit (at timestamptz DEFAULT clock_timestamp(), what text);
CREATE FUNCTION note_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO public.audit (what) SELECT object_identity FROM pg_event_trigger_ddl_commands(); END $$;
CREATE FUNCTION frozen() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'schema frozen'; END $$;
CREATE TABLE parents (id int PRIMARY KEY, name text);
CREATE TABLE children (parent int REFERENCES parents);
INSERT INTO parents SELECT i, 'p' || i FROM generate_series(1, 50) i;
INSERT INTO children SELECT 1 + i % 50 FROM generate_series(1, 500) i;
CREATE MATERIALIZED VIEW totals AS SELECT parent, count(*) FROM children GROUP BY parent;
CREATE ROLE gone_one;
CREATE TABLE theirs (i int);
ALTER TABLE theirs OWNER TO gone_one;
CREATE EVENT TRIGGER note ON ddl_command_end EXECUTE FUNCTION note_ddl();
CREATE TABLE after_the_trigger (i int);
CREATE EVENT TRIGGER keep ON ddl_command_start EXECUTE FUNCTION frozen();
"""
NOTES_LOGINS = """
SET event_triggers = off;
CREATE FUNCTION note_login() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO public.audit (what) SELECT name FROM current_setting('application_name') name WHERE name <> 'psql';
END $$;
CREATE EVENT TRIGGER logins ON login EXECUTE FUNCTION note_login();
ALTER EVENT TRIGGER logins ENABLE ALWAYS;
"""
"""A row more for every session but the tests' own, also for those that count rows."""

HOSTILE_ROLE = """
CREATE SCHEMA evil;
CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql
  AS $$ BEGIN RAISE EXCEPTION 'evil.set_config was called'; END $$;
CREATE FUNCTION evil.current_database() RETURNS name LANGUAGE plpgsql
  AS $$ BEGIN RAISE EXCEPTION 'evil.current_database was called'; END $$;
CREATE TABLE notes (id int PRIMARY KEY, text text, at timestamptz, took interval, share float8, raw bytea);
INSERT INTO notes VALUES (1, 'é à ç Œuvre €', '2026-02-08 03:00+01', '-1 day 02:03', 0.1 + 0.2, '\\xdeadbeef'),
  (2, 'back\\slash ''quote''', '0044-03-15 BC', '1 year -2 days', 1e-300, NULL);
ALTER ROLE {role} SET default_transaction_read_only = on;
ALTER ROLE {role} SET default_transaction_isolation = 'serializable';
ALTER ROLE {role} SET statement_timeout = '1ms';
ALTER ROLE {role} SET lock_timeout = '1ms';
ALTER ROLE {role} SET idle_in_transaction_session_timeout = '1ms';
ALTER ROLE {role} SET client_encoding = 'LATIN1';
ALTER ROLE {role} SET DateStyle = 'German';
ALTER ROLE {role} SET IntervalStyle = 'sql_standard';
ALTER ROLE {role} SET extra_float_digits = -15;
ALTER ROLE {role} SET bytea_output = 'escape';
ALTER ROLE {role} SET standard_conforming_strings = off;
ALTER ROLE {role} SET quote_all_identifiers = on;
ALTER ROLE {role} SET search_path = evil, pg_catalog;
"""


def ended_well(done: Done) -> Done:
    assert done.code == 0, done.said
    return done


def quiet(hub: Program, sql: str, database: str = DATABASE) -> str:
    """What psql prints, with the database's own triggers off, as we mean our own sessions to be."""
    silence = (
        "SELECT CASE WHEN current_setting('server_version_num')::int >= 170000"
        " THEN set_config('event_triggers', 'off', false)"
        " ELSE set_config('session_replication_role', 'replica', false) END \\gset\n"
    )
    return hub.psql(silence + sql, database=database)


# ------------------------------------------------------------------------------- the database's own triggers


@pytest.fixture(
    params=[
        *(pytest.param(("direct", major), id=f"direct-{major}") for major in (15, 16, 18)),
        pytest.param(("docker", 17), id="docker-17", marks=pytest.mark.docker),
    ]
)
def writing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    """The program, and a database that notes what is done to its schema, and forbids it."""
    runner, major = request.param
    with ExitStack() as stack:
        if runner == "docker":
            made = for_container(stack.enter_context(postgres_container(f"postgres:{major}")), tmp_path)
        elif major not in installed_versions():
            pytest.skip(f"PostgreSQL {major} is not installed here")
        else:
            made = for_server(stack.enter_context(EmbeddedPostgres(major)), DATABASE, tmp_path)
            made.psql(f"CREATE DATABASE {DATABASE}")
        made.psql(WRITES_BY_ITSELF, database=DATABASE)
        if major >= 17:
            made.psql(NOTES_LOGINS, database=DATABASE)
        yield made


def noted(hub: Program) -> str:
    return quiet(hub, "SELECT count(*), max(at), string_agg(what, ',' ORDER BY at) FROM audit;")


def test_triggers_of_the_database_never_fire_for_us(writing: Program) -> None:
    """An audit of DDL and logins has the rows that the dump held, a frozen schema is no obstacle: in a backup, a
    doctor's visit, a drill, a restore, one without owners, and the way back."""
    hub, before = writing, noted(writing)
    hub.backup()
    assert noted(hub) == before
    hub.run("doctor")
    assert noted(hub) == before
    ended_well(hub.run("drill"))
    ended_well(hub.run("restore", "--latest", "--yes"))
    assert noted(hub) == before
    assert quiet(hub, "SELECT count(*), sum(count) FROM totals;") == "50|500"
    ended_well(hub.run("restore", "--undo", "--yes"))
    assert noted(hub) == before

    hub.drop(*hub.derived("before"))
    quiet(hub, "REASSIGN OWNED BY gone_one TO CURRENT_USER; DROP OWNED BY gone_one; DROP ROLE gone_one;")
    ended_well(hub.run("restore", "--latest", "--no-owner", "--yes"))
    assert noted(hub) == before
    assert (
        quiet(hub, "SELECT pg_get_userbyid(relowner) = current_user FROM pg_class WHERE relname = 'theirs';") == "t"
    )


def test_foreign_keys_are_checked_all_the_same(writing: Program) -> None:
    """Rows without their parent are refused: no trigger fires, and the constraint is tried when it is added."""
    plain = plain_of(writing.backup())
    head, copy, rows = plain.partition(b"COPY public.children (parent) FROM stdin;\n")
    assert copy
    file = unproven(writing.directory, head + copy + b"4711\n" + rows)
    done = writing.run("restore", str(file), "--yes")
    assert done.code == 1, done.said
    assert "violates foreign key constraint" in done.err
    assert "DETAIL: Key (parent)=(4711) is not present" in done.err


# ----------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("major", [16, 18])
def test_settings_of_the_role_and_a_missing_maintenance_database(major: int, tmp_path: Path) -> None:
    """Timeouts of a millisecond, read-only, another encoding and other formats on the role, functions of its own
    before PostgreSQL's, and a server without a database `postgres`: all works, and every value is the same."""
    with EmbeddedPostgres(major) as server:
        server.create_database(DATABASE)
        server.psql("CREATE ROLE boss SUPERUSER LOGIN PASSWORD 'x'")
        more = "ALTER ROLE {role} SET transaction_timeout = '1ms';" if major >= 17 else ""
        server.psql((HOSTILE_ROLE + more).format(role="boss"), database=DATABASE)
        server.psql("DROP DATABASE postgres", database="template1")
        hub = for_server(server, DATABASE, tmp_path, POSTGRES_USER="boss", POSTGRES_PASSWORD="x")
        values = "SELECT md5(string_agg(n::text, '' ORDER BY id)) FROM notes n;"
        before = server.psql(values, database=DATABASE)
        ended_well(hub.run("backup"))
        (file,) = hub.backups.glob("*.sql.gz")
        assert "SET client_encoding = 'UTF8'" in gzip.decompress(file.read_bytes()).decode()
        assert "boss" in hub.manifest(file.name).globals_sql
        ended_well(hub.run("drill"))
        ended_well(hub.run("restore", "--latest", "--yes"))
        assert server.psql(values, database=DATABASE) == before
        ended_well(hub.run("restore", "--undo", "--yes"))
        doctor = hub.run("doctor", "--json").document
        assert {one["status"] for one in doctor["findings"] if one["name"] in ("login", "database", "readable")} == {
            "ok"
        }


def test_no_database_to_work_from_but_another_application(postgres16: EmbeddedPostgres, tmp_path: Path) -> None:
    """Neither `postgres` nor `template1` lets us in: a restore works from whichever database the live one names."""
    with EmbeddedPostgres(16) as server:
        for name in (DATABASE, "neighbour"):
            server.create_database(name)
        server.psql("CREATE TABLE t AS SELECT 1 AS i", database=DATABASE)
        server.psql("DROP DATABASE postgres", database=DATABASE)
        server.psql("ALTER DATABASE template1 ALLOW_CONNECTIONS false", database=DATABASE)
        hub = for_server(server, DATABASE, tmp_path)
        ended_well(hub.run("backup", "--json"))
        ended_well(hub.run("restore", "--latest", "--yes"))


# ----------------------------------------------------------------------------------- the environment of the container


@contextmanager
def surrounded(other_address: str) -> Iterator[str]:
    """A container whose server is well and whose environment speaks of another server in every way that there is."""
    name = f"hub-test-{secrets.token_hex(6)}"
    service = f"[other]\nhost={other_address}\ndbname={DATABASE}\n"
    environment = {
        "PGHOST": other_address,
        "PGHOSTADDR": other_address,
        "PGSERVICE": "other",
        "PGSERVICEFILE": "/tmp/services",
        "PGDATABASE": "template1",
        "PGUSER": "nobody",
        "PGPASSWORD": "x",
        "PGOPTIONS": "-c search_path=nowhere -c default_transaction_read_only=on -c statement_timeout=1",
        "PGTARGETSESSIONATTRS": "standby",
        "PGCHANNELBINDING": "require",
        "PGSSLMODE": "verify-full",
        "PGREQUIREAUTH": "none",
        "PGCLIENTENCODING": "LATIN1",
        "PGTZ": "Asia/Tokyo",
        "PGDATESTYLE": "German",
        "PGPORT": "5544",
        "PG_COLOR": "always",
    }
    with postgres_container("postgres:17", network="bridge") as first:
        docker("stop", "--time", "20", first)
        options = [word for item in environment.items() for word in ("--env", "=".join(item))]
        docker(
            "run",
            "--detach",
            "--network=bridge",
            f"--name={name}",
            f"--volumes-from={first}",
            *options,
            "postgres:17",
        )
        try:
            docker("exec", name, "bash", "-c", f"printf %s '{service}' > /tmp/services")
            deadline = time.monotonic() + 60
            while subprocess.run(["docker", "exec", name, *CLEAN, "pg_isready", "-h127.0.0.1", "-p5544"]).returncode:
                assert time.monotonic() < deadline, "the server does not come up"
                time.sleep(0.2)
            yield name
        finally:
            subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True)


CLEAN = ("env", "-i", "PATH=/usr/lib/postgresql/17/bin:/usr/bin:/bin")


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.docker
@pytest.mark.parametrize("data_connection", ["true", "false"])
def test_the_containers_environment_leads_to_no_other_server(tmp_path: Path, data_connection: str) -> None:
    """PGHOST, PGSERVICE, PGOPTIONS and the rest of another server: what is dumped, drilled and swapped is the
    container's own, and the other server, which has a database of that name, is as it was."""
    with postgres_container("postgres:17", network="bridge") as other:
        address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", other)
        on_other = psql_through("docker", "exec", "-i", other, "psql", "-U", USER)
        on_other("CREATE TABLE wrong (i int)", database=DATABASE)
        before = on_other("SELECT string_agg(datname || oid, ',' ORDER BY oid) FROM pg_database")
        with surrounded(address) as name:
            psql = psql_through("docker", "exec", "-i", name, *CLEAN, "psql", "-p", "5544", "-U", USER)
            psql("CREATE TABLE mine AS SELECT 7 AS i", database=DATABASE)
            hub = for_container(name, tmp_path, DB_DATA_CONNECTION=data_connection)
            made = ended_well(hub.run("backup", "--json")).document["name"]
            assert hub.manifest(made).rows == {"public.mine": 1}
            assert {
                one["name"] for one in hub.run("doctor", "--json").document["findings"] if one["status"] == "fail"
            } == (set())
            ended_well(hub.run("drill"))
            psql("DELETE FROM mine", database=DATABASE)
            ended_well(hub.run("restore", "--latest", "--yes"))
            assert psql("SELECT i FROM mine", database=DATABASE) == "7"
        assert on_other("SELECT string_agg(datname || oid, ',' ORDER BY oid) FROM pg_database") == before
        assert on_other("SELECT count(*) FROM wrong", database=DATABASE) == "0"


def test_our_own_environment_leads_to_no_other_server(postgres18: EmbeddedPostgres, tmp_path: Path) -> None:
    """The same over libpq, where hubbackup's own environment has such names."""
    services = tmp_path / "services"
    services.write_text("[other]\nhost=192.0.2.1\n")
    hostile = {
        "PGHOSTADDR": "192.0.2.1",
        "PGSERVICE": "other",
        "PGSERVICEFILE": str(services),
        "PGOPTIONS": "-c default_transaction_read_only=on -c search_path=nowhere",
        "PGTARGETSESSIONATTRS": "standby",
        "PGDATABASE": "template1",
        "PGUSER": "nobody",
        "PGCLIENTENCODING": "LATIN1",
        "PGTZ": "Asia/Tokyo",
    }
    with postgres18.temporary_database() as name:
        postgres18.psql("CREATE TABLE mine AS SELECT 'é' AS t", database=name)
        hub = for_server(postgres18, name, tmp_path, **hostile)
        ended_well(hub.run("backup"))
        ended_well(hub.run("drill"))
        ended_well(hub.run("restore", "--latest", "--yes"))
        assert postgres18.psql("SELECT t FROM mine", database=name) == "é"
        hub.drop(*hub.derived("before"))


SECURING = {
    "PGCHANNELBINDING": "require",
    "PGREQUIREAUTH": "gss",
    "PGREQUIREPEER": "nobody-such",
    "PGGSSENCMODE": "require",
    "PGSSLNEGOTIATION": "nonsense",
    "PGSSLCERTMODE": "nonsense",
    "PGSSLMINPROTOCOLVERSION": "nonsense",
    "PGSSLMAXPROTOCOLVERSION": "nonsense",
    "PGMINPROTOCOLVERSION": "nonsense",
}
"""Demands that no connection to a server without TLS can meet."""


@pytest.mark.parametrize("variable", SECURING)
def test_the_operators_demands_on_the_way_are_heard(
    postgres18: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """With `direct`, what our own environment demands of a connection is demanded by psql itself."""
    monkeypatch.setenv(variable, SECURING[variable])
    runner, connection = reach(postgres18, postgres18.user)
    over_socket = replace(connection, host=str(postgres18.home))
    with pytest.raises(ToolError):
        session.sql(runner, over_socket, "template1", "SELECT 1")
    monkeypatch.delenv(variable)
    runner, _ = reach(postgres18, postgres18.user)
    assert session.sql(runner, over_socket, "template1", "SELECT 1") == "1\n"


@pytest.mark.docker
@pytest.mark.parametrize("major", [15, 16, 17, 18])
def test_every_variable_of_libpq_is_known(docker_engine: str, major: int) -> None:
    """Each name that libpq and the tools ask the environment for is set, taken out, or left on purpose."""
    find = "cat $(find / -name 'libpq.so.5' 2>/dev/null) $(pg_config --bindir)/psql $(pg_config --bindir)/pg_dump"
    script = find + " | tr -c '[:print:]' '\\n' | grep -E '^PG[A-Z_]+$' | sort -u"
    asked = docker("run", "--rm", "--entrypoint", "bash", f"postgres:{major}", "-c", script).split()
    names = {name for name in asked if not name.startswith("PGRES_") and len(name) > len("PGDMP")}
    assert {"PGHOST", "PGSERVICE", "PGOPTIONS", "PGSSLMODE"} <= names
    assert {name for name in names if not pins.decides(name, "x", in_container=True)} <= {"PGPORT"}
    assert names <= LIBPQ.keys()


# -------------------------------------------------------------------------------------------- what servers really say


def reach(server: EmbeddedPostgres, user: str) -> tuple[DirectRunner, Connection]:
    runner = DirectRunner(cancel=Cancel(), path=server.env()["PATH"])
    return runner, Connection(user, "x" if user != server.user else server.password, server.host, server.port)


def dump_that_fails(runner: DirectRunner, connection: Connection, database: str, *options: str) -> ToolError:
    session.sql(runner, connection, database, "SELECT 1")
    with session.open_dump(runner, connection, database, options) as process:
        assert b"".join(bytes(chunk) for chunk in process.chunks()) == b""
        return tool_error("pg_dump", process.wait())


def test_a_locked_table_is_named(postgres: EmbeddedPostgres) -> None:
    """The server speaks of a statement timeout, since pg_dump's limit for locks is one; the table is named."""
    with postgres.temporary_database() as name:
        postgres.psql("CREATE TABLE busy (i int)", database=name)
        runner, connection = reach(postgres, postgres.user)
        with locked_table(postgres, name, "busy"):
            error = dump_that_fails(runner, connection, name, "--lock-wait-timeout=300")
            told = client.explain_lock(explain(error, connection.user, name), runner, connection, name)
    assert "statement timeout" in error.stderr
    assert "a table stayed locked for longer than pg_dump waits" in str(told)
    assert str(told).endswith("; locked: public.busy")
    assert "BACKUP_SCHEDULE" in told.remedy


def test_one_denied_table_of_a_thousand_is_named_in_one_sentence(postgres18: EmbeddedPostgres) -> None:
    """pg_dump tells all of them; we tell the one, and the remedy."""
    with postgres18.temporary_database() as name:
        postgres18.psql("CREATE ROLE weak LOGIN PASSWORD 'x'")
        try:
            postgres18.psql(
                "SELECT format('CREATE TABLE some_table_with_a_long_name_%s (i int)', n)"
                " FROM generate_series(1, 1200) n \\gexec\nGRANT SELECT ON ALL TABLES IN SCHEMA public TO weak;\n"
                "REVOKE SELECT ON some_table_with_a_long_name_600 FROM weak;",
                database=name,
            )
            runner, connection = reach(postgres18, "weak")
            told = explain(dump_that_fails(runner, connection, name), "weak", name)
        finally:
            postgres18.psql("DROP OWNED BY weak; DROP ROLE weak;", database=name)
    assert "may not read table some_table_with_a_long_name_600" in str(told)
    assert len(str(told)) < 400
    assert "pg_read_all_data" in told.remedy


def catalog_of(messages: dict[str, str]) -> bytes:
    """A message catalog as gettext reads it (GNU gettext manual, "The Format of GNU MO Files")."""
    pairs = sorted({"": "Content-Type: text/plain; charset=UTF-8\n", **messages}.items())
    keys, values = ([text.encode() for text in column] for column in zip(*pairs, strict=True))
    start = 28 + 16 * len(pairs)
    body, tables = b"", []
    for column in (keys, values):
        table = b""
        for text in column:
            table += struct.pack("<II", len(text), start + len(body))
            body += text + b"\0"
        tables.append(table)
    header = struct.pack("<7I", 0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, start)
    return header + b"".join(tables) + body


@pytest.mark.docker
def test_a_server_that_speaks_french(tmp_path: Path) -> None:
    """The doctor blames the missing database and not the login, in whatever language; a table that may not be read is
    named with the remedy by a role that can't choose the language."""
    words = {
        'database "%s" does not exist': "aucune base « %s » ici",
        "permission denied for table %s": "droit refusé pour la table %s",
        "ERROR": "ERREUR",
        "FATAL": "FATAL",
    }
    with postgres_container("postgres:17") as name:
        (tmp_path / "fr.mo").write_bytes(catalog_of(words))
        docker("exec", name, "mkdir", "-p", "/usr/share/locale/fr/LC_MESSAGES")
        docker("cp", str(tmp_path / "fr.mo"), f"{name}:/usr/share/locale/fr/LC_MESSAGES/postgres-17.mo")
        psql = psql_through("docker", "exec", "-i", name, "psql", "-U", USER)
        psql("CREATE ROLE weak LOGIN PASSWORD 'x'; CREATE TABLE salaries (i int);", database=DATABASE)
        psql("ALTER SYSTEM SET lc_messages = 'fr_FR.utf8'; SELECT pg_reload_conf();")
        time.sleep(0.5)
        hub = for_container(name, tmp_path)
        missing = hub.run("doctor", "--json", POSTGRES_DB="not_there").document["findings"]
        found = {one["name"]: one for one in missing}
        assert "aucune base" in found["database"]["sentence"], found["database"]
        assert (found["login"]["status"], found["database"]["status"]) == ("ok", "fail")
        done = hub.run("backup", POSTGRES_USER="weak")
        assert done.code == 1
        assert "ERREUR" in done.err
        assert "may not read la table salaries" in done.err
        assert "pg_read_all_data" in done.err


def test_a_tool_that_ends_is_told_in_its_own_words(postgres18: EmbeddedPostgres) -> None:
    """SQLSTATE and source line are for us; people get the sentence."""
    runner, connection = reach(postgres18, postgres18.user)
    with pytest.raises(ToolError) as caught:
        session.sql(runner, connection, "template1", "SELECT 1/0")
    assert str(caught.value).endswith("psql ended with exit code 3: ERROR:  division by zero")
    assert "22012" in caught.value.stderr
    assert run(runner, ["psql", "--version"], {}).startswith(b"psql")
