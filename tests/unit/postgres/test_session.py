"""Sessions of ours: command lines without secrets, and who they are for the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from hubbackup.postgres import session
from hubbackup.postgres.session import Connection
from hubbackup.runners import Exit, Process, Runner

CONNECTION = Connection("hub", "canari-7f3a", "db.example", 5433, "require", "20260208T030000-1a2b3c")
DATABASE = "hub_chantier"


@dataclass
class Said:
    """A process that takes everything and says nothing."""

    stdin: bytes = b""

    def chunks(self) -> Iterator[memoryview]:
        return iter(())

    def write(self, data: bytes | memoryview) -> None:
        self.stdin += data

    def close_stdin(self) -> None: ...

    def running(self) -> bool:
        return False

    def wait(self) -> Exit:
        return Exit(0, "")


@dataclass
class Recorder:
    """A runner that only notes what it is to start."""

    name: str = "docker"
    identity: str = "recorder"
    argv: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    process: Said = field(default_factory=Said)

    def detached(self) -> Runner:
        return self

    @contextmanager
    def start(
        self, argv: Sequence[str], env: Mapping[str, str], *, stdin: bool = False, bulk: bool = False
    ) -> Iterator[Process]:
        self.argv, self.env = list(argv), dict(env)
        yield self.process


def sql(runner: Runner) -> None:
    session.sql(runner, CONNECTION, DATABASE, "SELECT 1")


def psql(runner: Runner) -> None:
    with session.open_psql(runner, CONNECTION, DATABASE):
        pass


def dump(runner: Runner) -> None:
    with session.open_dump(runner, CONNECTION, DATABASE, ["--format=plain"], bulk=True):
        pass


def roles(runner: Runner) -> None:
    session.dump_globals(runner, CONNECTION, DATABASE, ["--no-role-passwords"])


SESSIONS = {sql: "psql", psql: "psql", dump: "pg_dump", roles: "pg_dumpall"}


@pytest.mark.parametrize("begin", SESSIONS)
def test_a_session_names_its_server_in_the_environment(begin: Callable[[Runner], None]) -> None:
    """Everything that names or unlocks the server travels there, and nothing of it in argv; never asking."""
    recorder = Recorder()
    begin(recorder)
    env = recorder.env
    assert (env["PGDATABASE"], env["PGUSER"], env["PGPASSWORD"]) == (DATABASE, "hub", "canari-7f3a")
    assert (env["PGHOST"], env["PGPORT"], env["PGSSLMODE"]) == ("db.example", "5433", "require")
    assert env["PGAPPNAME"] == "hubbackup-20260208T030000-1a2b3c"
    assert recorder.argv[0] == SESSIONS[begin]
    assert "--no-password" in recorder.argv
    assert not any(value in word for value in (DATABASE, "canari", "db.example") for word in recorder.argv)


@pytest.mark.parametrize("begin", [sql, psql])
def test_psql_is_told_our_settings_first(begin: Callable[[Runner], None]) -> None:
    """No setting of the role ends a long load or count."""
    recorder = Recorder()
    begin(recorder)
    assert recorder.process.stdin.startswith(session.PREAMBLE.encode())


def test_a_connection_is_never_shown_with_its_password() -> None:
    """Not by accident either."""
    assert "canari-7f3a" not in repr(CONNECTION)


def test_an_application_name_fits_postgresql() -> None:
    """PostgreSQL cuts application_name at 63 bytes; ours must be found again."""
    assert len(CONNECTION.env("x")["PGAPPNAME"]) < 64
