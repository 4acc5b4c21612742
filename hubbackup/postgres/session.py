"""Sessions of ours: the one place that makes the command line, the environment and the preamble of each.

Connection parameters travel in the environment, never in argv: argv is visible in process lists and in Docker
events, and `PGDATABASE` is taken as a name, where `--dbname` would be parsed as a connection string
(https://www.postgresql.org/docs/current/libpq-envars.html). SQL goes to psql over stdin, so no name in it is ever
part of an argv.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field

from hubbackup.errors import StreamError, ToolError
from hubbackup.postgres.messages import explain
from hubbackup.runners import Process, Runner, run

APPLICATION_PREFIX = "hubbackup-"
CONNECT_SECONDS = 10
PREAMBLE = """\
SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
"""
"""A role's own settings must not end our work."""


@dataclass(frozen=True)
class Connection:
    """How to reach the server. `password` is never shown."""

    user: str
    password: str = field(default="", repr=False)
    host: str = ""
    port: int | None = None
    ssl_mode: str = ""
    run_id: str = ""

    def env(self, database: str) -> dict[str, str]:
        """libpq's variables for a connection to `database`; messages in English, since we read them."""
        values = {
            "PGDATABASE": database,
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGHOST": self.host,
            "PGPORT": str(self.port or ""),
            "PGSSLMODE": self.ssl_mode,
            "PGAPPNAME": application_name(self.run_id),
            "PGCONNECT_TIMEOUT": str(CONNECT_SECONDS),
            "LC_ALL": "C",
        }
        return {name: value for name, value in values.items() if value}


def application_name(run_id: str) -> str:
    """By which the server and the next run know the sessions of a run."""
    return f"{APPLICATION_PREFIX}{run_id}"


def sql(runner: Runner, connection: Connection, database: str, text: str, *, encoding: str = "") -> str:
    """What psql prints for `text`: bare values, unaligned, without headers. Ends at the first error.

    The text is UTF-8, or the bytes of `encoding` as surrogate escapes. Raises HubbackupError, explained.
    """
    env = connection.env(database) | {"PGCLIENTENCODING": encoding or "UTF8"}
    script = (PREAMBLE + text).encode("utf-8", "surrogateescape")
    try:
        return run(runner, _psql_argv(), env, input_bytes=script).decode("utf-8", "replace")
    except ToolError as error:
        raise explain(error, connection.user, database) from error


@contextmanager
def open_psql(runner: Runner, connection: Connection, database: str) -> Iterator[Process]:
    """A psql that reads SQL from its stdin for as long as it is written; it ends at the first error.

    It keeps the encoding that the database gives it, as the text to come names its own.
    """
    with runner.start(_psql_argv(), connection.env(database), stdin=True) as process:
        with suppress(StreamError):  # a psql that can't connect is gone already: its reader hears the reason
            process.write(PREAMBLE.encode())
        yield process


def open_dump(
    runner: Runner, connection: Connection, database: str, options: Sequence[str], *, bulk: bool
) -> AbstractContextManager[Process]:
    """A pg_dump of `database` to stdout, never asking for a password; `bulk` as `Runner.start` has it."""
    return runner.start(["pg_dump", "--no-password", *options], connection.env(database), bulk=bulk)


def dump_globals(runner: Runner, connection: Connection, database: str, options: Sequence[str]) -> bytes:
    """What pg_dumpall prints of what belongs to the server: roles, memberships, tablespaces.

    `database` is where it looks them up. Raises HubbackupError.
    """
    argv = ["pg_dumpall", "--globals-only", "--no-password", *options]
    return run(runner, argv, connection.env(database))


def _psql_argv() -> list[str]:
    return ["psql", "--no-psqlrc", "--no-password", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]
