"""Sessions of ours: command lines without secrets, pinned settings, and nothing that is decided by what is there."""

from __future__ import annotations

import ast
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hubbackup.errors import ToolError
from hubbackup.postgres import pins, session
from hubbackup.postgres.session import Connection
from hubbackup.postgres.transport import Tls
from hubbackup.runners import Exit, Process, Runner
from hubbackup.runners.environment import inherited
from hubbackup.streams.cancel import Cancel
from tests.support.libpq_variables import GONE, KEPT, LIBPQ, OURS

CONNECTION = Connection("hub", "canari-7f3a", "db.example", 5433, Tls("require"), "20260208T030000-1a2b3c")
DATABASE = "hub_chantier"


@dataclass
class Said:
    """A process that takes everything, and ends as it is told to."""

    end: Exit = field(default_factory=lambda: Exit(0, ""))
    stdin: bytes = b""

    def chunks(self) -> Iterator[memoryview]:
        return iter(())

    def write(self, data: bytes | memoryview) -> None:
        self.stdin += data

    def close_stdin(self) -> None: ...

    def running(self) -> bool:
        return False

    def wait(self) -> Exit:
        return self.end


@dataclass
class Recorder:
    """A runner that only notes what it is to start. `refuses`: a word in PGOPTIONS that its server does not like."""

    name: str = "docker"
    identity: str = "recorder"
    place: str = field(default_factory=lambda: secrets.token_hex(8))
    inherited: Mapping[str, str] = field(default_factory=dict)
    refuses: tuple[str, ...] = ()
    argv: list[str] = field(default_factory=list)
    env: dict[str, str | None] = field(default_factory=dict)
    options: list[str] = field(default_factory=list)
    process: Said = field(default_factory=Said)

    def detached(self) -> Runner:
        return self

    def under(self, cancel: Cancel) -> Runner:
        return self

    @contextmanager
    def start(
        self, argv: Sequence[str], env: Mapping[str, str | None], *, stdin: bool = False, bulk: bool = False
    ) -> Iterator[Process]:
        self.argv, self.env = list(argv), dict(env)
        self.options.append(env.get("PGOPTIONS") or "")
        refused = [word for word in self.refuses if word in self.options[-1]]
        said = f"psql: error: connection to server failed: FATAL:  paramètre « {''.join(refused)} » refusé"
        self.process = Said(Exit(2, said)) if refused else Said()
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
    """No setting of the role ends a long load or count; our own questions are asked in PostgreSQL's names alone."""
    recorder = Recorder()
    begin(recorder)
    assert recorder.process.stdin.startswith(pins.preamble(formats=begin is sql).encode())
    assert ("search_path" in recorder.process.stdin.decode()) == (begin is sql)
    assert "--set=VERBOSITY=verbose" in recorder.argv


HOSTILE = {
    "PGHOST": "elsewhere",
    "PGHOSTADDR": "10.9.9.9",
    "PGSERVICE": "other",
    "PGSERVICEFILE": "/x",
    "PGOPTIONS": "-c search_path=evil",
    "PGDATABASE": "other",
    "PGUSER": "other",
    "PGPASSWORD": "other",
    "PGTARGETSESSIONATTRS": "standby",
    "PGLOADBALANCEHOSTS": "random",
    "PGCLIENTENCODING": "LATIN1",
    "PGDATESTYLE": "German",
    "PGTZ": "Asia/Tokyo",
    "PGAPPNAME": "other",
    "PGSOMETHINGNEW": "1",
    "PG_COLOR": "always",
}
OF_THE_WAY = {
    "PGSSLROOTCERT": "/ca.pem",
    "PGSSLMODE": "verify-full",
    "PGPASSFILE": "/p",
    "PGCHANNELBINDING": "require",
}


@pytest.mark.parametrize("begin", SESSIONS)
@pytest.mark.parametrize("name", ["docker", "direct"])
def test_what_is_in_the_environment_decides_nothing(begin: Callable[[Runner], None], name: str) -> None:
    """Each variable of libpq that is there is ours or is taken out; how the way is secured stays the operator's."""
    recorder = Recorder(
        name=name, inherited=HOSTILE | OF_THE_WAY | {"PATH": "/bin", "PGDATA": "/d", "PG_MAJOR": "17"}
    )
    begin(recorder)
    for variable, value in HOSTILE.items():
        assert variable in recorder.env
        assert recorder.env[variable] != value
    assert not {"PATH", "PGDATA", "PG_MAJOR"} & recorder.env.keys()
    kept = set(OF_THE_WAY) - recorder.env.keys()
    assert kept == (set(OF_THE_WAY) - {"PGSSLMODE"} if name == "direct" else set())
    assert recorder.env["PGSSLMODE"] == "require"


@pytest.mark.parametrize("variable", LIBPQ)
def test_each_variable_of_libpq_has_its_fate(variable: str) -> None:
    """Of the database's container nothing decides where or how; of our own environment only what secures the way,
    and that gets to the tool, in both runners alike for every tool."""
    here = {variable: "theirs", "PATH": "/bin", "S3_SECRET_KEY": "x", "PG_MAJOR": "17"}
    for position, name in enumerate(("docker", "direct")):
        direct = name == "direct"
        recorder = Recorder(name=name, inherited=inherited(here) if direct else here)
        connection = CONNECTION if direct else Connection("hub", "canari", run_id="r")
        session.dump_globals(recorder, connection, DATABASE, [])
        got = {**recorder.inherited, **recorder.env}.get(variable)
        assert {None: GONE, "theirs": KEPT}.get(got, OURS) == LIBPQ[variable][position], (name, got)


def test_the_containers_own_port_and_socket_stay() -> None:
    """The server in the container heeds PGPORT as well, and a directory of sockets leads to no other host."""
    recorder = Recorder(inherited={"PGPORT": "5433", "PGHOST": "/sockets"})
    session.sql(recorder, Connection("hub"), DATABASE, "SELECT 1")
    assert not {"PGPORT", "PGHOST"} & recorder.env.keys()


def test_a_refused_setting_is_left_out_and_remembered() -> None:
    """By a server before 17, a role that is no superuser, a pooler: whatever language it speaks; asked once."""
    for refuses, tried in (
        ((), 1),
        (("event_triggers",), 2),
        (("event_triggers", "lc_messages"), 3),
        (("statement_timeout",), 5),
    ):
        recorder = Recorder(refuses=refuses)
        sql(recorder)
        assert len(recorder.options) == tried
        dump(recorder)
        sql(recorder)
        assert len(recorder.options) == tried + 2
        assert not any(word in recorder.options[-1] for word in refuses)
    assert recorder.options[-1] == ""
    older = Recorder(inherited={"PG_MAJOR": "16"}, refuses=("event_triggers",))
    sql(older)
    assert len(older.options) == 1
    assert "session_replication_role=replica" in older.options[0]


def test_another_refusal_is_not_tried_again() -> None:
    """A wrong password is asked for once: servers lock out who tries too often."""
    recorder = Recorder(refuses=("-c",))
    with pytest.raises(ToolError, match="refusé"):
        sql(recorder)
    assert len(recorder.options) == 1


TOOLS = {"psql", "pg_dump", "pg_dumpall", "pg_restore"}


def tools_started(source: str) -> list[str]:
    """The database's tools that a module starts by a command line of its own, but for `--version`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.List | ast.Tuple) and node.elts:
            words = [word.value for word in node.elts if isinstance(word, ast.Constant)]
            if words and words[0] in TOOLS and "--version" not in words and not set(words[1:]) & TOOLS:
                found.append(str(words[0]))
    return found


def test_no_session_comes_from_elsewhere() -> None:
    """One module writes the command lines of the tools that log in to a server."""
    package = Path(session.__file__).parents[1]
    started = {
        str(path.relative_to(package)): tools
        for path in package.rglob("*.py")
        if (tools := tools_started(path.read_text(encoding="utf-8")))
    }
    assert sorted(started.pop("postgres/session.py")) == ["pg_dump", "pg_dumpall", "psql"]
    assert started == {}


def test_a_connection_is_never_shown_with_its_password() -> None:
    """Not by accident either."""
    assert "canari-7f3a" not in repr(CONNECTION)


def test_an_application_name_fits_postgresql() -> None:
    """PostgreSQL cuts application_name at 63 bytes; ours must be found again."""
    assert len(CONNECTION.env("x")["PGAPPNAME"]) < 64
