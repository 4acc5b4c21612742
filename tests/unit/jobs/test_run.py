"""A guarded run: one lock, one closing line, one record, whatever happens inside."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from hubbackup.errors import HubbackupError, LockHeldError, NotProvenError, StoppedError
from hubbackup.jobs.current import FILE_NAME, RunFile
from hubbackup.jobs.history import History
from hubbackup.jobs.lock import locked
from hubbackup.jobs.results import Result
from hubbackup.jobs.run import Outcome, Run, guarded, new_run_id
from hubbackup.streams.cancel import Cancel
from tests.support.jobs import Doing, a_backup, done


class Fixture:
    """A place to run in, and what is left of the runs."""

    def __init__(self, directory: Path) -> None:
        self.lock = directory / "state" / "lock"
        self.history = History(directory / "state" / "history.jsonl")
        self.cancel = Cancel()
        self.lines: list[dict[str, Any]] = []

    def run(self, body: Any) -> Outcome[Any]:
        def collect(_logger: Any, method: str, event: dict[str, Any]) -> Any:
            self.lines.append({**event, "level": method})
            raise structlog.DropEvent

        log = structlog.wrap_logger(None, processors=[collect], wrapper_class=structlog.stdlib.BoundLogger)
        return guarded(Doing(body), lock=self.lock, cancel=self.cancel, log=log, history=self.history)

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.lock.parent / "history.jsonl").read_text().splitlines()]


@pytest.fixture
def place(tmp_path: Path) -> Fixture:
    return Fixture(tmp_path)


def test_success_has_one_closing_line(place: Fixture) -> None:
    """A run that ends well is told once, with its facts, and recorded once."""
    outcome = place.run(lambda run: a_backup(rows=3))
    assert outcome.exit_code == 0
    (line,) = place.lines
    assert (line["event"], line["level"], line["message"]) == ("backup.finished", "info", "Backup termine")
    assert (line["rows"], line["exit_code"]) == (3, 0)
    (record,) = place.records()
    assert (record["run_id"], record["exit_code"], record["rows"]) == (line["run_id"], 0, 3)


def test_degraded_is_a_warning(place: Fixture) -> None:
    """A run with problems is exit 3, and its closing line has them."""
    outcome = place.run(lambda run: a_backup(problems=("no copy in s3: x",)))
    assert outcome.exit_code == 3
    (line,) = place.lines
    assert (line["event"], line["level"], line["problems"]) == ("backup.finished", "warning", ["no copy in s3: x"])
    assert place.records()[0]["exit_code"] == 3


@pytest.mark.parametrize(
    ("error", "code"), [(NotProvenError("cut", remedy="again"), 1), (StoppedError(15), 143), (StoppedError(2), 130)]
)
def test_failure_has_one_closing_line_with_its_stage(place: Fixture, error: HubbackupError, code: int) -> None:
    """A run that fails names the stage, the cause and the exit code, once, and the error goes on to the caller."""

    def body(run: Run) -> Outcome[Any]:
        with run.stage("prepare"):
            pass
        with run.stage("dump"):
            raise error

    with pytest.raises(type(error)):
        place.run(body)
    (line,) = place.lines
    assert (line["event"], line["level"], line["stage"]) == ("backup.failed", "error", "dump")
    assert (line["cause"], line["remedy"], line["exit_code"]) == (str(error), error.remedy, code)
    assert place.records()[0]["stage"] == "dump"


def test_a_second_run_leaves_nothing(place: Fixture) -> None:
    """While a run is at work another raises at once: no closing line, no record, and the first one's lock holds."""

    def body(run: Run) -> Outcome[Any]:
        for _ in range(2):
            with pytest.raises(LockHeldError, match=f"process {os.getpid()}") as caught:
                place.run(lambda run: pytest.fail("two runs at once"))
            assert caught.value.exit_code == 4
        assert place.lines == []
        return done()

    place.run(body)
    assert len(place.lines) == len(place.records()) == 1


def test_a_prune_is_waited_for(place: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon starts one by itself at an edit; whoever types a command at that moment is not sent away."""
    held = contextlib.ExitStack()
    held.enter_context(locked(place.lock))
    RunFile(place.lock.with_name(FILE_NAME), "prune", "20260208T030000-1a2b3c", datetime.now(UTC)).stage("prune")
    monkeypatch.setattr(Cancel, "wait", lambda self, seconds: held.close())
    place.run(lambda run: done())
    assert len(place.lines) == 1


def test_the_lock_ends_with_its_process(place: Fixture) -> None:
    """A process that was killed leaves no stale lock: the file stays, and means nothing."""
    script = (
        "import sys, time; from pathlib import Path; from hubbackup.jobs.run import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, place.lock], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(LockHeldError, match=f"process {holder.pid}"), locked(place.lock):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait(timeout=10)
    holder.stdout.close()
    with locked(place.lock):
        assert place.lock.read_text() == f"{os.getpid()}\n"


def test_the_lock_file_follows_no_symlink(place: Fixture, tmp_path: Path) -> None:
    """Whoever can write to the directory must not make us truncate another file."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    place.lock.parent.mkdir()
    place.lock.symlink_to(victim)
    with pytest.raises(HubbackupError, match="lock file"), locked(place.lock):
        pass
    assert victim.read_text() == "precious"


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system without a free byte."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system takes root")
    directory = tmp_path / "full"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", directory], check=True)
    try:
        (directory / "filling").write_bytes(bytes(4096))
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


def test_a_full_disk_does_not_break_the_lock(full_disk: Path) -> None:
    """Without room for the holder's number the lock still keeps a second run out."""
    lock = full_disk / "lock"
    with locked(lock), pytest.raises(LockHeldError, match="process unknown"), locked(lock):
        pass


def test_a_stage_is_not_entered_after_a_stop(place: Fixture) -> None:
    """A stop that came in one stage is told with the next one's name, before it did anything."""

    def body(run: Run) -> Outcome[Any]:
        with run.stage("dump"):
            run.cancel.set(15)
        with run.stage("verify"):
            pytest.fail("the stage was entered")

    with pytest.raises(StoppedError):
        place.run(body)
    assert place.lines[0]["stage"] == "verify"


def test_run_ids_sort_by_time() -> None:
    """A run id is short, unique, and sorts as the runs came."""
    early, late = datetime(2026, 2, 8, 3, 0, 0, tzinfo=UTC), datetime(2026, 2, 8, 3, 0, 1, tzinfo=UTC)
    assert re.fullmatch(r"20260208T030000-[0-9a-f]{6}", new_run_id(early))
    assert new_run_id(early) < new_run_id(late)
    assert new_run_id(early) != new_run_id(early)


def test_records_are_json(place: Fixture) -> None:
    """A fact that JSON does not know, such as a path or a time, costs no record."""

    @dataclass(frozen=True)
    class Odd(Result):
        where: Path
        when: datetime

    place.run(lambda run: Outcome("done", Odd(Path("/x"), datetime(2026, 1, 1, tzinfo=UTC))))
    assert place.records()[0]["where"] == "/x"
