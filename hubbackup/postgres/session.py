"""Sessions of ours: the one place that makes the command line, the environment and the preamble of each.

They are pinned: to the server that is meant, whatever stands in the environment of the database's container; and to
settings that hinder no work, whatever the server, the database or the role has. And they are inert: they fire none
of the database's own triggers (login and event triggers), as far as the role may forbid that.

Connection parameters travel in the environment, never in argv: argv is visible in process lists and in Docker
events, and `PGDATABASE` is taken as a name, where `--dbname` would be parsed as a connection string
(https://www.postgresql.org/docs/current/libpq-envars.html). SQL goes to psql over stdin, so no name in it is ever
part of an argv.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field

from hubbackup.dump.identifiers import connection_string
from hubbackup.errors import HubbackupError, StreamError, ToolError
from hubbackup.postgres import pins
from hubbackup.postgres.messages import SEVERAL_ENCODINGS, explain
from hubbackup.postgres.transport import Tls
from hubbackup.runners import BUFFERED_INPUT, Process, Runner, run

APPLICATION_PREFIX = "hubbackup-"
CONNECT_SECONDS = 10
NOT_CONNECTED = 2
"""psql's exit code where it has no connection, at the start or any more."""
PSQL = ("psql", "--no-psqlrc", "--no-password", "--quiet", "--tuples-only", "--no-align")
STRICT = ("--set=ON_ERROR_STOP=1", "--set=VERBOSITY=verbose")
"""Ending at the first error, which is told with its SQLSTATE."""


@dataclass(frozen=True)
class Connection:
    """How to reach the server. `password` is never shown. `load_path` is the search_path under which a dump is
    loaded there; empty, as pg_dump means it."""

    user: str
    password: str = field(default="", repr=False)
    host: str = ""
    port: int | None = None
    tls: Tls = field(default_factory=Tls)
    run_id: str = ""
    load_path: str = ""
    pass_file: str = ""

    def env(self, database: str) -> dict[str, str]:
        """libpq's variables for a connection to `database`; the tools' own messages in English, as we read them."""
        values = {
            "PGDATABASE": database,
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGHOST": self.host,
            "PGPORT": str(self.port or ""),
            "PGPASSFILE": self.pass_file,
            **self.tls.env(),
            "PGAPPNAME": application_name(self.run_id),
            "PGCONNECT_TIMEOUT": str(CONNECT_SECONDS),
            "LC_ALL": "C",
        }
        return {name: value for name, value in values.items() if value}


def application_name(run_id: str) -> str:
    """By which the server and the next run know the sessions of a run."""
    return f"{APPLICATION_PREFIX}{run_id}"


def sql(
    runner: Runner,
    connection: Connection,
    database: str,
    text: str,
    *,
    encoding: str = "",
    own_settings: bool = False,
) -> str:
    """What psql prints for `text`: bare values, unaligned, without headers. Ends at the first error.

    The text is UTF-8, or the bytes of `encoding` as surrogate escapes. It finds PostgreSQL's own names and formats,
    or with `own_settings` those that the database gives its users. Raises HubbackupError, explained.
    """
    script = (pins.preamble(formats=not own_settings) + text).encode("utf-8", "surrogateescape")
    while True:
        learned = _known(runner, connection)
        env = _env(runner, connection, database, learned, encoding=encoding or "UTF8", formats=not own_settings)
        try:
            answer = run(runner, [*PSQL, *STRICT], env, input_bytes=script).decode("utf-8", "replace")
        except ToolError as error:
            if not refused(error) or not pins.is_refusal(error.stderr, learned):
                raise explain(error, connection.user, database) from error
            _LEARNED[_server(runner, connection)] = learned + 1
        else:
            _LEARNED[_server(runner, connection)] = learned
            return answer


@contextmanager
def open_psql(
    runner: Runner, connection: Connection, database: str, *, buffers_input: bool = False, bulk: bool = False
) -> Iterator[Process]:
    """A psql that reads SQL from its stdin for as long as it is written; it ends at the first error.

    `buffers_input`: it reads as much of it at once as a pipe holds, where psql itself reads 4 KiB. `bulk`: much is
    to come; raises NoDataConnectionError where there is no cheap way for it (`Runner.start`).

    It keeps the encoding, the search_path and the formats that the database gives it: the text to come was made to
    be read like that, and names its own encoding.
    """
    env = _env(runner, connection, database, _known(runner, connection), formats=False)
    buffered = BUFFERED_INPUT if buffers_input else ()
    with runner.start([*buffered, *PSQL, *STRICT], env, stdin=True, bulk="input" if bulk else "") as process:
        with suppress(StreamError):  # a psql that can't connect is gone already: its reader hears the reason
            process.write(pins.preamble(formats=False).encode())
        yield process


def open_dump(
    runner: Runner,
    connection: Connection,
    database: str,
    options: Sequence[str],
    *,
    encoding: str = "",
    bulk: bool = False,
) -> AbstractContextManager[Process]:
    """A pg_dump of `database` to stdout, never asking for a password; `bulk` as `Runner.start` has it.

    `encoding` is what the dump is written in: the database's own, so that nothing is converted.
    """
    env = _env(runner, connection, database, _known(runner, connection), encoding=encoding, formats=True)
    return runner.start(["pg_dump", "--no-password", *options], env, bulk="output" if bulk else "")


def dump_globals(runner: Runner, connection: Connection, database: str, options: Sequence[str]) -> str:
    """What pg_dumpall prints of what belongs to the server: roles, memberships, tablespaces.

    It looks into the database `postgres` or `template1`; where it gets into neither, or some names are not in their
    encoding, into `database`. Raises HubbackupError, explained.
    """
    env = _env(runner, connection, database, _known(runner, connection), encoding="UTF8", formats=True)
    argv = ["pg_dumpall", "--globals-only", "--no-password", "--encoding=UTF8", *options]
    problem: HubbackupError | None = None
    # A name is bytes in the encoding of the session that wrote it: mostly of `postgres`, else of the database.
    for where in ([], [f"--database={connection_string(database)}"]):
        try:
            return run(runner, [*argv, *where], env).decode()
        except ToolError as error:
            problem = problem or explain(error, connection.user)
        except UnicodeDecodeError:
            problem = problem or HubbackupError(SEVERAL_ENCODINGS.sentence, remedy=SEVERAL_ENCODINGS.remedy)
    assert problem is not None  # noqa: S101 - both have failed
    raise problem


def refused(error: ToolError) -> bool:
    """Whether psql got no connection at all, so that nothing of its script was carried out."""
    said = error.stderr.lstrip()
    lost_later = "connection to server was lost" in said
    return error.exit_code_of_tool == NOT_CONNECTED and said.startswith("psql: error: ") and not lost_later


_LEARNED: dict[tuple[str, str, str, str, int | None], int] = {}
"""The rung of `pins.LADDER` on which each role may connect to each server: found once, as it costs a connection."""


def _server(runner: Runner, connection: Connection) -> tuple[str, str, str, str, int | None]:
    return runner.place, runner.identity, connection.user, connection.host, connection.port


def _known(runner: Runner, connection: Connection) -> int:
    return _LEARNED.get(_server(runner, connection), pins.first_guess(runner.inherited.get("PG_MAJOR", "")))


def _env(
    runner: Runner, connection: Connection, database: str, learned: int, *, encoding: str = "", formats: bool
) -> dict[str, str | None]:
    """The environment of a session; None for what is there and must not be."""
    env: dict[str, str | None] = dict(connection.env(database))
    if encoding:
        env["PGCLIENTENCODING"] = encoding
    options = pins.options(learned, formats=formats)
    if options:
        env["PGOPTIONS"] = options
    in_container = runner.name != "direct"
    for name, value in runner.inherited.items():
        if name not in env and pins.decides(name, value, in_container=in_container):
            env[name] = None
    return env
