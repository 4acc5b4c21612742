"""Every session of ours that a server sees is one of postgres/session.py's: by name, by first words, and inert."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from hubbackup.app import App
from hubbackup.config.load import load_settings
from hubbackup.logs.setup import get_logger
from hubbackup.postgres.session import open_psql
from hubbackup.runners import sockets
from hubbackup.streams.cancel import Cancel
from tests.support.containers import postgres_container
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import DATABASE, Program, for_container, for_server

TELLING = {"log_connections": "on", "log_statement": "all", "log_line_prefix": "%p|%u|%d|%a|"}
AUTHORIZED = re.compile(r"LOG:  connection authorized: .* application_name=(\S+)")
LINE = re.compile(r"(?P<pid>\d+)\|(?P<user>[^|]*)\|(?P<database>[^|]*)\|[^|]*\|(?P<said>(?:LOG|FATAL):  .*)")
PREAMBLE = "SELECT pg_catalog.count(pg_catalog.set_config(known.name, pinned.value, false)) AS pinned"
OF_PG_DUMP = "SELECT pg_catalog.set_config('search_path', '', false)"
FIRED = """
CREATE FUNCTION tell() RETURNS event_trigger LANGUAGE plpgsql AS
  $$ BEGIN RAISE LOG 'login trigger fired, statement_timeout %', current_setting('statement_timeout'); END $$;
CREATE EVENT TRIGGER logins ON login EXECUTE FUNCTION tell();
ALTER EVENT TRIGGER logins ENABLE ALWAYS;
"""
"""What PGOPTIONS pins is pinned before it: where it fires for a superuser, nothing of them came along."""

COMMANDS = {
    ("backup",): 3,
    ("status",): 1,
    ("check",): 0,
    ("list",): 0,
    ("doctor",): 3,
    ("drill",): 4,
    ("restore", "--latest", "--yes"): 6,
    ("restore", "--latest", "--yes", "--no-owner", "--globals"): 6,
    ("restore", "--undo", "--yes"): 2,
    ("verify", "--latest"): 0,
    ("prune",): 0,
}
"""Each command, and how many sessions it has at least."""
OF_A_RESTORE = 14
"""Which tools the server wants; what is there; the run lock; the claim; the new database; its properties; statistics
beside the load, and of what it leaves, by a second one after a load by several; the load; the counts; indexes and
constraints; the databases' oids; who ends the live one's sessions; the swap."""


@dataclass
class Session:
    """What the server's log tells of one."""

    user: str
    database: str
    name: str = ""
    said: list[str] = field(default_factory=list)


def sessions_in(log: str) -> dict[str, Session]:
    """Those that connected, by their process ids."""
    found: dict[str, Session] = {}
    for line in log.splitlines():
        match = LINE.match(line)
        if match is None:
            continue
        if match["said"].startswith("LOG:  connection authorized"):
            named = AUTHORIZED.match(match["said"])
            found[match["pid"]] = Session(match["user"], match["database"], named[1] if named else "")
        if (session := found.get(match["pid"])) is not None:
            session.said.append(match["said"])
    return found


def log_of(container: str) -> str:
    done = subprocess.run(["docker", "logs", container], check=True, capture_output=True, text=True)
    return done.stdout + done.stderr


Case = tuple[Program, Callable[[], str]]


@pytest.fixture(
    params=[
        pytest.param(("direct", "postgres"), id="direct"),
        pytest.param(("direct", DATABASE), id="direct-logins-noted"),
        pytest.param(("docker", DATABASE), id="docker", marks=pytest.mark.docker),
    ]
)
def telling(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """The program, and what its server's log says; one of the databases tells each login that fires a trigger."""
    runner, noted = request.param
    with ExitStack() as stack:
        if runner == "docker":
            name = stack.enter_context(postgres_container("postgres:17", settings=TELLING))
            hub = for_container(name, tmp_path, DRILL_TARGET="database")
            log = partial(log_of, name)
        else:
            server = stack.enter_context(EmbeddedPostgres(18, configuration=TELLING))
            server.create_database(DATABASE)
            hub = for_server(server, DATABASE, tmp_path)
            log = partial(getattr, server, "log")
        hub.psql(
            "CREATE TABLE t AS SELECT generate_series(1, 9) AS i; CREATE ROLE theirs; ALTER TABLE t OWNER TO theirs;"
            "CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM t; SELECT lo_create(42);",
            database=DATABASE,
        )
        hub.psql(FIRED, database=noted)
        yield hub, log


def test_every_session_is_one_of_ours(telling: Case) -> None:
    """Of a backup, a doctor's visit, a drill, restores, the way back and all that only looks: each has our name,
    begins with the preamble or is pg_dump's, and fires nothing, but for a drill's own role, which can't forbid it."""
    hub, log = telling
    for command, at_least in COMMANDS.items():
        before = len(log())
        done = hub.run(*command)
        assert command == ("doctor",) or done.code == 0, done.said
        seen = sessions_in(log()[before:])
        assert len(seen) >= at_least, (command, seen)
        for session in seen.values():
            assert session.name.startswith("hubbackup-"), (command, session)
            if session.said[-1].startswith("FATAL:  permission denied to set parameter"):
                continue  # a setting that a role may not have is asked for once, and left out from then on
            first = next((said for said in session.said if said.startswith("LOG:  statement: ")), "nothing")
            assert any(word in first for word in (PREAMBLE, OF_PG_DUMP)), (command, session)
            fired = [said for said in session.said if said.startswith("LOG:  login trigger fired")]
            assert not fired or session.user.startswith("hubbackup_loader_"), (command, session)
            assert all(said.endswith("statement_timeout 0") for said in fired), (command, session)


def test_a_restore_has_no_session_that_another_could_do_with(telling: Case) -> None:
    """Each costs a twentieth of a second, and with a small database that is most of a restore."""
    hub, log = telling
    hub.backup()
    before = len(log())
    done = hub.run("restore", "--latest", "--yes")
    assert done.code == 0, done.said
    assert len(sessions_in(log()[before:])) <= OF_A_RESTORE


@pytest.mark.docker
def test_an_answer_is_there_when_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a psql that goes on reading has answered is heard at once: nobody waits for more to fill a buffer with,
    which here would take ten minutes."""
    monkeypatch.setattr(sockets, "TICK_SECONDS", 600.0)
    with postgres_container("postgres:17") as name:
        hub = for_container(name, tmp_path)
        app = App(load_settings(hub.env()), cancel=Cancel(), log=get_logger())
        runner = app.server.open_restore_runner(app.cancel)
        with open_psql(runner, app.server.connection("test"), DATABASE) as process:
            answers = process.chunks()
            for number in range(3):
                process.write(f"SELECT {number};\n".encode())
                assert bytes(next(answers)) == f"{number}\n".encode()
