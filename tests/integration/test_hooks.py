"""BACKUP_PRE_EXEC and BACKUP_POST_EXEC: commands of the operator's around a backup, which never outlive it."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import postgres_container
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.moments import wait_until
from tests.support.program import Program, for_container, for_server

ALL = "env | grep ^HUBBACKUP_ | sort > {file}"
SLEEPS = "sleep 4321"


def here(script: str) -> str:
    return f"local:sh -c {shlex.quote(script)}"


@pytest.fixture(scope="module")
def small(postgres18: EmbeddedPostgres) -> Iterator[str]:
    with postgres18.temporary_database("hooked") as name:
        postgres18.psql("CREATE TABLE t AS SELECT 1 AS i", database=name)
        yield name


@pytest.fixture
def program(postgres18: EmbeddedPostgres, small: str, tmp_path: Path) -> Program:
    return for_server(postgres18, small, tmp_path)


def told(path: Path) -> dict[str, str]:
    lines = (line.partition("=") for line in path.read_text().splitlines())
    return {name.removeprefix("HUBBACKUP_"): value for name, _, value in lines}


def asleep() -> bool:
    """Whether one of our hooks still runs, by its words."""
    return subprocess.run(["pgrep", "-f", f"^{SLEEPS}$"], capture_output=True).returncode == 0


def gone_in(seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while asleep() and time.monotonic() < deadline:
        time.sleep(0.1)
    return not asleep()


def test_hooks_stand_around_a_backup(program: Program, tmp_path: Path) -> None:
    """Each is told the run, the database and, afterwards, the result; no secret is in its environment; what it prints
    is in the log, bounded, without secrets."""
    before, after = tmp_path / "before", tmp_path / "after"
    password = program.settings["POSTGRES_PASSWORD"]
    done = program.but(
        BACKUP_PRE_EXEC=here(f"env > {before}.all; {ALL.format(file=before)}; echo hello; echo 'a b' >&2"),
        BACKUP_POST_EXEC=here(f"{ALL.format(file=after)}; ls {program.backups}; cat {tmp_path}/secret"),
    )
    (tmp_path / "secret").write_text(password + "\n" + "x" * 100_000)
    made = done.run("backup", "--json")
    assert made.code == 0, made.said
    first, last = told(before), told(after)
    run_id = made.event("backup.finished")["run_id"]
    assert first == {"HOOK": "pre", "RUN_ID": run_id, "DATABASE": program.database}
    assert last["RESULT"] == "success"
    assert last["EXIT_CODE"] == "0"
    assert last["BACKUP_NAME"] == made.document["name"]
    assert password not in Path(f"{before}.all").read_text()
    outputs = {event["hook"]: event["output"] for event in made.events if event["event"] == "hook.finished"}
    assert outputs["BACKUP_PRE_EXEC"] == "hello\na b\n"
    assert made.document["name"] in outputs["BACKUP_POST_EXEC"]
    assert password not in made.err
    assert len(outputs["BACKUP_POST_EXEC"]) < 5000


def test_a_failure_decides_as_documented(program: Program, tmp_path: Path) -> None:
    """Where the one before fails there is no backup, exit 1, and the one after is run all the same, and told so.
    Where that fails, the backup stands, and the run is degraded."""
    after = tmp_path / "after"
    failing = program.but(
        BACKUP_PRE_EXEC=here("echo no room here; exit 3"), BACKUP_POST_EXEC=here(ALL.format(file=after))
    )
    done = failing.run("backup", "--json")
    assert done.code == 1
    assert "BACKUP_PRE_EXEC ended with exit code 3: no room here" in done.event("backup.failed")["cause"]
    assert program.files() == {}
    assert told(after)["RESULT"] == "failed"
    assert "no room here" in told(after)["CAUSE"]
    missing = program.but(BACKUP_POST_EXEC="local:no_such_program --now")
    done = missing.run("backup", "--json")
    assert done.code == 3, done.said
    assert any("BACKUP_POST_EXEC was not found" in one for one in done.document["problems"])
    assert done.document["name"] in program.files()


def test_a_hook_never_outlives_its_time_or_its_run(program: Program, tmp_path: Path) -> None:
    """By a timeout, a stop or the death of hubbackup the command ends with all that it has started; after a stop the
    one after is run, too."""
    after = tmp_path / "after"
    slow = program.but(BACKUP_PRE_EXEC=here(f"{SLEEPS}; true"), BACKUP_POST_EXEC=here(ALL.format(file=after)))
    done = slow.but(BACKUP_EXEC_TIMEOUT_SECONDS="1").run("backup")
    assert done.code == 1
    assert "BACKUP_PRE_EXEC was ended after 1 s" in done.event("backup.failed")["cause"]
    assert gone_in(1)
    for number, code in ((signal.SIGTERM, 143), (signal.SIGKILL, None)):
        after.unlink(missing_ok=True)
        running = slow.fork("backup", output=tmp_path / "log")
        while not asleep():
            time.sleep(0.1)
        began = time.monotonic()
        running.send_signal(number)
        assert running.wait(10) is not None
        assert gone_in(5)
        assert time.monotonic() - began < 9, "of the ten seconds that docker stop leaves"
        if code is not None:
            assert told(after)["RESULT"] == "stopped"
            assert told(after)["EXIT_CODE"] == str(code)
    assert program.files() == {}


def test_what_can_not_be_run_is_refused(program: Program) -> None:
    """Without a container only `local:` commands can be run; what is no command is refused: exit 2, nothing done."""
    for value, sentence in (
        ("psql -c CHECKPOINT", "there is no container of the database"),
        ("local:sh -c 'x", "a quote without its other one"),
        ("local:", "names no program"),
    ):
        done = program.but(BACKUP_POST_EXEC=value).run("backup")
        assert done.code == 2, done.said
        assert "BACKUP_POST_EXEC" in done.err
        assert sentence in done.err
    assert program.files() == {}
    said = program.but(BACKUP_PRE_EXEC="local:no_such_program").run("doctor", "--json").out
    found = {one["name"]: one for one in json.loads(said)["findings"]}["hooks"]
    assert found["status"] == "fail"
    assert "BACKUP_PRE_EXEC: no_such_program is not a program" in found["sentence"]


@pytest.mark.docker
def test_in_the_databases_container(docker_engine: str, tmp_path: Path) -> None:
    """There it has the container's own environment, and its psql; a timeout ends it there, too."""
    with postgres_container() as container:
        program = for_container(container, tmp_path)
        script = 'echo $POSTGRES_USER; psql -U $POSTGRES_USER $POSTGRES_DB -c "CREATE TABLE h ()"'
        hook = program.but(
            BACKUP_PRE_EXEC=f"sh -c {shlex.quote(script)}",
            BACKUP_POST_EXEC="sh -c 'sleep 4322'",
            BACKUP_EXEC_TIMEOUT_SECONDS="6",
        )
        made = hook.run("backup", "--json")
        assert made.code == 3, made.said
        assert program.manifest(made.document["name"]).rows == {"public.h": 0}
        assert made.event("hook.finished")["output"].startswith("hubchantier\n")
        assert "BACKUP_POST_EXEC was ended after 6 s" in made.document["problems"][0]
        top = ["docker", "top", container, "-eo", "pid,args"]
        assert "postgres" in subprocess.run(top, capture_output=True, text=True).stdout
        wait_until(
            lambda: "sleep 4322" not in subprocess.run(top, capture_output=True, text=True).stdout,
            "the command's end",
        )
