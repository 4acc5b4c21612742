"""Roles and databases with what a restore could trip over late: libraries, parameters, long lists, subscriptions."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hubbackup.postgres.databases import Databases
from hubbackup.postgres.session import Connection
from hubbackup.runners.direct import DirectRunner
from hubbackup.streams.cancel import Cancel
from tests.support.backups import plain_of, unproven
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.moments import locked_table
from tests.support.program import DATABASE, Done, Program, for_server


@pytest.fixture(scope="module", params=[16, 18])
def server(request: pytest.FixtureRequest) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(request.param, configuration={"wal_level": "logical", "max_wal_senders": "2"}) as found:
        yield found


@pytest.fixture
def hub(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    server.create_database(DATABASE)
    made = for_server(server, DATABASE, tmp_path_factory.mktemp("odd"))
    yield made
    for name in made.databases():
        if name.startswith(DATABASE):
            release = "ALTER SUBSCRIPTION feed DISABLE; ALTER SUBSCRIPTION feed SET (slot_name = NONE);"
            if server.psql("SELECT count(*) FROM pg_subscription WHERE subname = 'feed'", database=name) != "0":
                server.psql(f"{release} DROP SUBSCRIPTION feed;", database=name)
            server.drop_database(name)


def ended_well(done: Done) -> Done:
    assert done.code == 0, done.said
    return done


def library(server: EmbeddedPostgres, directory: Path) -> Path:
    """A library that the server can load, as long as it is there."""
    (found,) = list(server.bin_dir.parent.rglob("plpgsql.so"))[:1]
    directory.chmod(0o755)
    copy = Path(shutil.copy(found, directory / "soon gone.so"))
    copy.chmod(0o755)
    return copy


def test_a_library_that_is_not_here(hub: Program, server: EmbeddedPostgres) -> None:
    """A setting that loads one would close the database, or lock the role out: it is left out, and said; one that
    is here is set."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        gone = library(server, Path(directory))
        server.psql(
            "CREATE ROLE reporter LOGIN; CREATE ROLE watcher LOGIN;"
            f"ALTER ROLE reporter SET session_preload_libraries TO plpgsql, '{gone}';"
            "ALTER ROLE watcher SET session_preload_libraries TO plpgsql;"
            f"ALTER DATABASE \"{DATABASE}\" SET session_preload_libraries TO '{gone}'"
        )
        name = hub.backup().name
    server.drop_database(DATABASE)
    server.psql("DROP ROLE reporter; DROP ROLE watcher;")
    done = ended_well(hub.run("restore", name, "--globals", "--yes", "--json"))
    remarks = "\n".join(done.document["remarks"])
    assert "the setting session_preload_libraries of reporter: could not access file" in remarks
    assert "the setting session_preload_libraries: could not access file" in remarks
    assert server.psql("SELECT 1", database=DATABASE) == "1"
    roles = "SELECT rolname, rolconfig FROM pg_roles WHERE rolname IN ('reporter', 'watcher') ORDER BY 1"
    assert server.psql(roles) == "reporter|\nwatcher|{session_preload_libraries=plpgsql}"
    server.psql("DROP ROLE reporter; DROP ROLE watcher;")


def test_rights_on_parameters(hub: Program, server: EmbeddedPostgres) -> None:
    """GRANT … ON PARAMETER comes back with a role that is made; of one that is here the statement is told, once it
    lacks the right."""
    server.psql(
        "CREATE ROLE tuner; CREATE ROLE stays; GRANT SET, ALTER SYSTEM ON PARAMETER log_statement TO tuner"
        " WITH GRANT OPTION; GRANT SET ON PARAMETER log_statement TO stays; GRANT SET ON PARAMETER"
        " plpgsql.extra_errors TO PUBLIC; CREATE ROLE team; GRANT team TO stays;"
    )
    name = hub.backup().name
    server.psql("REVOKE ALL ON PARAMETER log_statement FROM tuner, stays; DROP ROLE tuner; REVOKE team FROM stays")
    done = ended_well(hub.run("restore", name, "--globals", "--yes", "--json"))
    remarks = "\n".join(done.document["remarks"])
    rights = "SELECT has_parameter_privilege(r, 'log_statement', 'SET') FROM unnest(ARRAY['tuner', 'stays']) r"
    assert server.psql(rights) == "t\nf"
    assert 'GRANT SET ON PARAMETER "log_statement" TO "stays";' in remarks
    assert "stays exists and is not a member of team" in remarks
    server.psql(
        "REVOKE ALL ON PARAMETER log_statement FROM tuner; REVOKE ALL ON PARAMETER plpgsql.extra_errors"
        " FROM PUBLIC; DROP ROLE tuner; DROP ROLE stays; DROP ROLE team"
    )


def test_a_policy_for_very_many_roles(hub: Program, server: EmbeddedPostgres) -> None:
    """The last of many long names in one list is missed beforehand, as the first."""
    names = [f"é{number:02}" + '"' * 30 for number in range(25)]
    quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    assert len(quoted) > 1500
    server.psql(f"CREATE ROLE {quoted.replace(', ', '; CREATE ROLE ')};")
    server.psql(f"CREATE TABLE t (a int); CREATE POLICY p ON t TO {quoted};", database=DATABASE)
    name = hub.backup().name
    server.drop_database(DATABASE)
    server.psql(f"DROP ROLE {quoted}")
    done = hub.run("restore", name, "--yes")
    assert done.code == 1, done.said
    assert names[0] in done.err
    assert names[-1] in done.err
    ended_well(hub.run("restore", name, "--no-owner", "--yes"))


def test_a_session_as_somebody_else(hub: Program, server: EmbeddedPostgres) -> None:
    """pg_dump --use-set-session-authorization writes names as strings: they are roles like others."""
    server.psql(
        'CREATE ROLE "it\'s me"; CREATE TABLE t (a int); ALTER TABLE t OWNER TO "it\'s me"', database=DATABASE
    )
    plain = plain_of(hub.backup())
    assert b'ALTER TABLE public.t OWNER TO "it\'s me";' in plain
    plain = plain.replace(b'ALTER TABLE public.t OWNER TO "it\'s me";', b"")
    plain = plain.replace(b"CREATE TABLE", b"SET SESSION AUTHORIZATION 'it''s me';\n\nCREATE TABLE", 1)
    file = unproven(hub.directory, plain)
    server.psql('DROP OWNED BY "it\'s me"; DROP ROLE "it\'s me"', database=DATABASE)
    done = hub.run("restore", str(file), "--yes")
    assert done.code == 1, done.said
    assert "these roles do not exist on this server: it's me" in done.err


def test_sessions_that_we_may_not_see(hub: Program, server: EmbeddedPostgres) -> None:
    """A role without rights sees nothing of others' sessions but that they are there: that is what counts."""
    server.psql("CREATE ROLE clerk LOGIN PASSWORD 'x'")
    runner = DirectRunner(cancel=Cancel(), path=server.env()["PATH"])
    seen = Databases(runner, Connection("clerk", "x", server.host, server.port), DATABASE)
    server.psql("CREATE TABLE t (a int)", database=DATABASE)
    assert seen.look().databases[DATABASE].sessions == 0
    with locked_table(server, DATABASE, "t"):
        assert seen.look().databases[DATABASE].sessions == 1
    server.psql("DROP ROLE clerk")


def test_a_subscription_in_a_load_that_fails(hub: Program, server: EmbeddedPostgres) -> None:
    """A database with a subscription can't be dropped: what is half-filled gives its own up, and goes; a drill, too,
    leaves nothing. The publisher's slot is never asked for."""
    subscription = "CREATE SUBSCRIPTION feed CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false"
    server.psql(f"CREATE TABLE t (a int); {subscription}, slot_name = 'theirs');", database=DATABASE)
    file = hub.backup()
    before = hub.databases()
    ended_well(hub.run("drill"))
    assert hub.databases() == before
    broken = unproven(
        hub.directory,
        plain_of(file).replace(
            b"\n--\n-- PostgreSQL database dump complete",
            b"\nALTER TABLE public.nowhere OWNER TO nobody_knows;\n\n--\n-- PostgreSQL database dump complete",
        ),
    )
    server.psql("CREATE ROLE nobody_knows")
    done = hub.run("restore", str(broken), "--yes")
    server.psql("DROP ROLE nobody_knows")
    assert done.code == 1, done.said
    assert "nowhere" in done.err
    assert hub.databases() == before
