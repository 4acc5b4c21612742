"""A command whose output nobody reads: what it did stands, it ends by itself, and a signal is heeded."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.moments import full_pipe, wait_until
from tests.support.program import Program, for_server


@pytest.fixture(scope="module")
def program(postgres18: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with postgres18.temporary_database("unread") as name:
        postgres18.psql("CREATE TABLE a AS SELECT generate_series(1, 10) i;", database=name)
        yield for_server(postgres18, name, tmp_path_factory.mktemp("unread"))


def start(program: Program, *words: str, stdout: int, stderr: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "hubbackup", *words],
        env=program.env(),
        cwd=program.directory,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
    )


def manifests(program: Program) -> set[Path]:
    return set(program.backups.glob("*.manifest.json"))


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_full_pipe_ends_no_backup_and_holds_none_up(program: Program, form: str) -> None:
    """Stdout and stderr are full and unread: the backup is there, and the command ends by itself, with its code."""
    before = manifests(program)
    with full_pipe() as writer:
        words = ["backup", *(["--json"] if form == "json" else [])]
        process = start(program, *words, stdout=writer, stderr=writer)
        assert process.wait(timeout=90) == 0
    assert len(manifests(program) - before) == 1


@pytest.mark.parametrize("closed", ["reader", "descriptor", "all descriptors", "full disk"])
def test_closed_output_changes_no_exit_code(program: Program, closed: str) -> None:
    """Whoever read it has gone, there is no stdout at all, or its disk is full: exit code 0, and no file of ours is
    written to by mistake."""
    before = manifests(program)
    how = {
        "reader": "{ hubbackup backup; echo $? > code; } | true",
        "descriptor": "hubbackup backup >&-; echo $? > code",
        "all descriptors": "hubbackup backup <&- >&- 2>&-; echo $? > code",
        "full disk": "hubbackup backup > /dev/full; echo $? > code",
    }[closed]
    script = f'hubbackup() {{ "{sys.executable}" -m hubbackup "$@"; }}\n{how}'
    done = subprocess.run(
        ["sh", "-c", script], env=program.env(), cwd=program.directory, capture_output=True, text=True, check=False
    )
    assert (program.directory / "code").read_text().strip() == "0", done.stderr
    assert len(manifests(program) - before) == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert program.run("verify", "--all").code == 0


def test_a_list_waits_for_its_reader_and_heeds_a_signal(program: Program) -> None:
    """A pager may pause for as long as it likes; SIGTERM ends the command all the same."""
    program.backup()
    with full_pipe() as writer:
        process = start(program, "list", stdout=writer)
        wait_until(lambda: handles_sigterm(process.pid), "it handles signals")
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 143


def test_a_signal_ends_the_wait_of_a_run_that_is_done(program: Program) -> None:
    """Its result stands."""
    before = manifests(program)
    with full_pipe() as writer:
        process = start(program, "backup", "--json", stdout=writer)
        run_file = program.backups / ".hubbackup" / "run.json"
        wait_until(lambda: manifests(program) - before and not run_file.exists(), "the run is done")
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) in (0, 143)
    assert len(manifests(program) - before) == 1


def test_a_list_that_can_not_be_written_is_an_error(program: Program) -> None:
    """The list is all there is: exit 1, and a sentence."""
    script = f'"{sys.executable}" -m hubbackup list > /dev/full'
    done = subprocess.run(
        ["sh", "-c", script], env=program.env(), cwd=program.directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "the answer could not be written: No space left on device" in done.stderr


def handles_sigterm(pid: int) -> bool:
    """Whether a handler of its own is there: until then a signal just kills it."""
    (mask,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt")]
    return bool(int(mask.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
