"""PostgreSQL's own: command lines without secrets, and errors in sentences that name what is wrong."""

from __future__ import annotations

import pytest

from hubbackup.backup.dump_methods import DumpMethod, dump_argv, dump_methods, refuses_method
from hubbackup.errors import NotProvenError, ToolError
from hubbackup.postgres.client import Connection, check_versions, explain, major_of

CONNECTION = Connection("hub", "canari-7f3a", "db.example", 5433, "require", "20260208T030000-1a2b3c")


def tool_error(stderr: str, tool: str = "pg_dump") -> ToolError:
    return ToolError(f"{tool} ended with exit code 1: {stderr.splitlines()[-1]}", stderr=stderr)


def test_the_connection_is_libpqs_environment() -> None:
    """Everything that names or unlocks the server travels in the environment, an empty value not at all."""
    env = CONNECTION.env("hub_chantier")
    assert env["PGDATABASE"] == "hub_chantier"
    assert (env["PGHOST"], env["PGPORT"], env["PGUSER"]) == ("db.example", "5433", "hub")
    assert env["PGPASSWORD"] == "canari-7f3a"
    assert env["PGAPPNAME"] == "hubbackup-20260208T030000-1a2b3c"
    assert "PGHOST" not in Connection("hub").env("x")
    assert "canari-7f3a" not in repr(CONNECTION)


@pytest.mark.parametrize("way", dump_methods(zstd_level=3))
def test_the_command_line_has_nothing_to_hide(way: DumpMethod) -> None:
    """No database, user or password in argv; never asking for a password, never waiting forever."""
    argv = dump_argv(way, lock_wait_seconds=1.5)
    assert argv[0] == "pg_dump"
    assert set(argv[1:]) == {
        "--format=plain",
        "--no-password",
        "--lock-wait-timeout=1500",
        f"--compress={way.compress}",
    }


def test_a_way_of_dumping_is_there_for_every_pg_dump() -> None:
    """Without a data connection, zstd or zlib: the last way asks for nothing, and no way comes twice."""
    ways = dump_methods(zstd_level=3)
    assert ways[-1] == DumpMethod("0")
    assert len(set(ways)) == len(ways)
    assert [way.compress for way in ways if way.kept] == ["zstd:3"]


def test_an_application_name_fits_postgresql() -> None:
    """PostgreSQL cuts application_name at 63 bytes; ours must be found again."""
    assert len(CONNECTION.env("x")["PGAPPNAME"]) < 64


# Each text as the tool really wrote it.
SAID = [
    (
        'pg_dump: error: connection to server at "db", port 5432 failed: FATAL:  password authentication failed for'
        ' user "hub"',
        "the server refuses the password of the role hub",
    ),
    ("psql: error: connection to server failed: fe_sendauth: no password supplied", "refuses the password"),
    ('psql: error: FATAL:  role "nobody" does not exist', "the role nobody does not exist"),
    ('pg_dump: error: FATAL:  database "a\nb" does not exist', "the database a\nb does not exist"),
    (
        "pg_dump: error: query failed: ERROR:  permission denied for table salaires\n"
        "pg_dump: detail: Query was: LOCK TABLE public.salaires IN ACCESS SHARE MODE",
        "may not read table salaires",
    ),
    (
        "pg_dump: error: query failed: ERROR:  canceling statement due to lock timeout\n"
        "pg_dump: detail: Query was: LOCK TABLE public.a, public.b IN ACCESS SHARE MODE",
        "stayed locked for longer",
    ),
    (
        "pg_dump: error: aborting because of server version mismatch\n"
        "pg_dump: detail: server version: 18.0; pg_dump version: 16.9",
        "pg_dump 16.9 is older than the server 18.0;",
    ),
    (
        'pg_dump: error: Dumping the contents of table "a" failed: PQgetResult() failed.\n'
        "pg_dump: detail: Error message from server: FATAL:  terminating connection due to administrator command",
        "ended the connection in the middle",
    ),
    (
        'psql: error: connection to server on socket "/tmp/.s.PGSQL.5432" failed: No such file or directory\n'
        "\tIs the server running locally and accepting connections on that socket?",
        "does not accept connections",
    ),
    (
        'psql: error: connection to server at "127.0.0.1", port 1 failed: Connection refused',
        "does not accept connections",
    ),
    ("psql: error: FATAL:  the database system is starting up", "does not accept connections"),
    (
        'OCI runtime exec failed: exec failed: unable to start container process: exec: "pg_dump": executable file'
        " not found in $PATH: unknown",
        "the database's container has no pg_dump",
    ),
    ("bash: line 5: exec: pg_dump: not found", "the database's container has no pg_dump"),
    ("stdbuf: failed to run command 'pg_dump': No such file or directory", "the database's container has no pg_dump"),
]


@pytest.mark.parametrize(("stderr", "sentence"), SAID)
def test_an_error_is_explained(stderr: str, sentence: str) -> None:
    """The sentence names the database and what is wrong, ends with the tool's own words, and has a remedy."""
    explained = explain(tool_error(stderr), CONNECTION, "hub_chantier")
    assert str(explained).startswith("database hub_chantier: ")
    assert sentence.rstrip(";") in str(explained)
    assert explained.remedy
    assert explained.stderr == stderr


def test_an_unknown_error_keeps_its_words() -> None:
    """What has no sentence of its own is passed on, once."""
    explained = explain(tool_error("pg_dump: error: something new"), CONNECTION, "hub")
    assert str(explained) == "database hub: pg_dump ended with exit code 1: pg_dump: error: something new"


@pytest.mark.parametrize(
    ("stderr", "refused"),
    [
        ('pg_dump: error: unrecognized compression algorithm: "zstd"', True),
        ("pg_dump: error: this build does not support compression with zstd", True),
        ('pg_dump: error: invalid value "zstd:1" for option -Z/--compress', True),
        ("pg_dump: error: compression level must be in range 0..9", True),
        ("pg_dump: error: query failed: ERROR:  permission denied for table compression_log", False),
        ('pg_dump: error: FATAL:  password authentication failed for user "hub"', False),
    ],
)
def test_only_a_refused_way_is_tried_again(stderr: str, refused: bool) -> None:
    """The next way of compressing is tried where pg_dump does not know this one, not where it failed."""
    assert refuses_method(tool_error(stderr)) is refused


@pytest.mark.parametrize(
    ("version", "major"), [("17.6 (Debian 17.6-1)", 17), ("18beta1", 18), ("17devel", 17), ("9.6.24", 9), ("", 0)]
)
def test_majors(version: str, major: int) -> None:
    """The major version is the number that the version starts with."""
    assert major_of(version) == major


def test_an_older_pg_dump_is_refused() -> None:
    """A pg_dump below the server's major could miss what it does not know; a newer one is fine."""
    check_versions(pg_dump_version="18.0", server_version="16.9")
    check_versions(pg_dump_version="17.1", server_version="17.6")
    with pytest.raises(NotProvenError, match=r"pg_dump 16\.9 is older than the server 17\.6"):
        check_versions(pg_dump_version="16.9", server_version="17.6")
