"""What an operator sees before a restore, and what must be typed; and that nobody's silence is consent."""

from __future__ import annotations

import re
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hubbackup.postgres.claims import KEY
from tests.integration.test_restore_faults import inside
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.fingerprint import Fingerprint, diff, fingerprint
from tests.support.program import DATABASE, Program, for_server
from tests.support.sample import SMALL
from tests.support.terminal import Terminal, at_terminal

PROMPT = f"Type the database's name ({DATABASE}) to go on: "


@pytest.fixture(scope="module")
def hub(postgres16: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    hub = for_server(postgres16, DATABASE, tmp_path_factory.mktemp("backups"))
    before = hub.databases()
    postgres16.create_database(DATABASE)
    hub.psql(SMALL, database=DATABASE)
    hub.backup()
    yield hub
    hub.drop(*(hub.databases() - before))


def terminal(hub: Program, *arguments: str) -> AbstractContextManager[Terminal]:
    return at_terminal(hub, "restore", *arguments)


@contextmanager
def nothing_done(hub: Program) -> Iterator[Fingerprint]:
    databases, live = hub.databases(), fingerprint(hub.psql, DATABASE)
    yield live
    assert hub.databases() == databases
    assert diff(live, fingerprint(hub.psql, DATABASE)) == []


@pytest.mark.parametrize(
    "arguments", [["--latest"], ["--undo"], ["--latest", "--into", "new_one"], ["--latest", "--json"]]
)
def test_without_a_terminal_and_without_yes(hub: Program, arguments: list[str]) -> None:
    """Nobody is there to agree: exit 2, before anything is looked for, with what to do."""
    with nothing_done(hub):
        done = hub.run("restore", *arguments)
    assert done.code == 2, done.said
    assert "nobody is there to confirm this" in done.err
    assert "add --yes" in done.err


def test_another_restore_of_the_same_second(hub: Program, postgres16: EmbeddedPostgres) -> None:
    """Begun on another host in the very same second, it has the name already: ours ends, and leaves it alone."""
    with terminal(hub, "--latest") as operator:
        operator.wait_for(PROMPT)
        soon = [datetime.now(UTC) + timedelta(seconds=number) for number in range(8)]
        theirs = [f"{DATABASE}_restore_{moment:%Y%m%d_%H%M%S}" for moment in soon]
        for name in theirs:
            hub.psql(f"CREATE DATABASE {name}")
        claims = ", ".join(f"pg_advisory_lock({KEY}, hashtext('{name}'))" for name in theirs)
        with inside(postgres16, f"SELECT {claims}", "postgres"):
            operator.type(f"{DATABASE}\n")
            assert operator.end() == 1, operator.said
    assert "another restore is at work on the database" in operator.said
    assert hub.databases() >= set(theirs)
    hub.drop(*theirs)


@pytest.mark.parametrize("typed", ["yes\n", "HUB_CHANTIER\n", "\x04"])
def test_a_wrong_name_does_nothing(hub: Program, typed: str) -> None:
    """Whatever is typed instead of the name, or the end of the input: exit 2, and nothing was done."""
    with nothing_done(hub), terminal(hub, "--latest") as operator:
        operator.wait_for(PROMPT)
        operator.type(typed)
        assert operator.end() == 2, operator.said
        assert "not confirmed, nothing was done" in operator.said


def test_a_name_that_is_taken_meanwhile_stays_with_whoever_has_it(hub: Program) -> None:
    """Between the look and the swap somebody makes a database of the name that `--into` was to give: it keeps that
    name, and the restore fails."""
    with nothing_done(hub):
        with terminal(hub, "--latest", "--into", "mine") as operator:
            operator.wait_for("to go on: ")
            hub.psql("CREATE DATABASE mine; COMMENT ON DATABASE mine IS 'somebody else''s'")
            operator.type("mine\n")
            assert operator.end() == 1, operator.said
        assert "there is a database mine by now" in operator.said
        found = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'mine'"
        assert hub.psql(found) == "somebody else's"
        hub.drop("mine")


def test_control_c_at_the_question(hub: Program) -> None:
    """It ends at once with 130, and nothing was done."""
    with nothing_done(hub), terminal(hub, "--latest") as operator:
        operator.wait_for(PROMPT)
        operator.type("\x03")
        assert operator.end() == 130, operator.said


def test_what_is_shown_and_what_follows(hub: Program, postgres16: EmbeddedPostgres) -> None:
    """Backup, proof, age and size; database, size and live connections; then the name is typed, and it is done."""
    command = ["psql", "-X", "-q", "-d", DATABASE]
    with subprocess.Popen(command, env=postgres16.env(), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as session:
        while hub.psql(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{DATABASE}'") != "1":
            time.sleep(0.05)
        with terminal(hub, "--latest") as operator:
            operator.wait_for(PROMPT)
            shown = re.sub(r"\s+", " ", operator.said)
            assert re.search(
                r"backup \S+\.sql\.gz from \S+: proven, \d+ min old, [0-9.]+ kB, 2 tables, 3000 rows", shown
            )
            assert re.search(rf"database {DATABASE} \([0-9.]+ MB\) will be replaced; 1 live connections", shown), (
                shown
            )
            assert "hubbackup restore --undo" in shown
            operator.type(f"{DATABASE}\n")
            assert operator.end() == 0, operator.said
        assert session.stdin is not None
        session.stdin.close()
    assert "is now the database hub_chantier" in operator.said
    with terminal(hub, "--undo") as operator:
        operator.wait_for(PROMPT)
        operator.type(f"{DATABASE}\n")
        assert operator.end() == 0, operator.said


def test_a_stop_while_the_question_waits_leaves_the_lock_free(hub: Program) -> None:
    """SIGTERM at the question is exit 143, and the next run is not held up."""
    with nothing_done(hub), terminal(hub, "--latest") as operator:
        operator.wait_for(PROMPT)
        operator.process.terminate()
        assert operator.end() == 143, operator.said
    assert not Path(f"/proc/{operator.process.pid}/stat").exists()
    assert hub.run("backup").code == 0


@pytest.mark.parametrize("ahead", [f"{DATABASE}\n", f"{DATABASE}\n" * 3, "\n\n"])
def test_what_was_typed_before_the_question_does_not_answer_it(hub: Program, ahead: str) -> None:
    """A pasted line, even the name itself, is thrown away: what is typed at the question counts."""
    with nothing_done(hub), terminal(hub, "--latest") as operator:
        operator.type(ahead)
        operator.wait_for(PROMPT)
        assert not select.select([operator.descriptor], [], [], 0.5)[0], "it has gone on"
        assert operator.process.poll() is None
        operator.type("no\n")
        assert operator.end() == 2, operator.said
