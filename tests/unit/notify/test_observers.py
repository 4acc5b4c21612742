"""Looking on a run: observers, and the file that a second terminal reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from hubbackup.errors import HubbackupError, LockHeldError
from hubbackup.jobs.current import FILE_NAME, OLD_SECONDS, AtWork, RunFile, all_alive, read
from hubbackup.jobs.history import History
from hubbackup.jobs.progress import silent
from hubbackup.jobs.run import Outcome, Run, guarded
from hubbackup.notify.heartbeat import Pinger
from hubbackup.streams.cancel import Cancel
from tests.support.jobs import Doing, done


class Observer:
    """Writes down what it is told, and can be broken."""

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken
        self.told: list[Any] = []

    def started(self, run: Run) -> None:
        self.told.append("started")
        if self.broken:
            raise RuntimeError("observer")

    def ended(self, run: Run, ending: Outcome[Any] | HubbackupError) -> None:
        self.told.append(ending)
        if self.broken:
            raise SystemError("observer")


def run(directory: Path, body: Any, *observers: Observer, lines: list[Any] | None = None) -> Outcome[Any]:
    def collect(_logger: Any, _method: str, event: Any) -> Any:
        if lines is not None:
            lines.append(event)
        raise structlog.DropEvent

    log = structlog.wrap_logger(None, processors=[collect], wrapper_class=structlog.stdlib.BoundLogger)
    history = History(directory / "history.jsonl")
    return guarded(
        Doing(body), lock=directory / "lock", cancel=Cancel(), log=log, history=history, observers=observers
    )


def test_observers_are_told_of_both_ends(tmp_path: Path) -> None:
    """Start, and the outcome or the error; with the record of the run already in the history."""
    observer = Observer()
    outcome = run(tmp_path, lambda run: done(), observer)
    error = HubbackupError("no")

    def fail(run: Run) -> Outcome[Any]:
        raise error

    with pytest.raises(HubbackupError):
        run(tmp_path, fail, observer)
    assert observer.told == ["started", outcome, "started", error]


def test_a_broken_observer_changes_nothing(tmp_path: Path) -> None:
    """What it raises is logged; the run, the other observers and the exit code stay as they are."""
    lines: list[Any] = []
    broken, well = Observer(broken=True), Observer()
    outcome = run(tmp_path, lambda run: done("done", "p"), broken, well, lines=lines)
    assert outcome.exit_code == 3
    assert well.told == ["started", outcome]
    assert [line["event"] for line in lines] == ["observer.failed", "backup.finished", "observer.failed"]


def test_a_run_that_found_the_lock_held_is_no_run(tmp_path: Path) -> None:
    """Nobody is told of it, and the file of the run at work stays."""
    outer, inner = Observer(), Observer()

    def body(_: Run) -> Outcome[Any]:
        with pytest.raises(LockHeldError):
            run(tmp_path, lambda run: done("two at once"), inner)
        assert read(tmp_path / FILE_NAME) is not None
        return done()

    run(tmp_path, body, outer)
    assert inner.told == []


def test_a_second_terminal_sees_the_run(tmp_path: Path) -> None:
    """Kind, stage, bytes, total and process while it works; nothing afterwards, however it ended."""
    path = tmp_path / FILE_NAME
    seen = []

    def body(run: Run) -> Outcome[Any]:
        with run.stage("dump"):
            seen.append(read(path))
            with run.progress("dump", 1000) as progress:
                for done in range(0, 1000, 100):
                    progress(done)
        raise HubbackupError("at the end")

    with pytest.raises(HubbackupError):
        run(tmp_path, body)
    (at_work,) = seen
    assert at_work is not None
    assert (at_work.kind, at_work.stage, at_work.pid, at_work.alive) == ("backup", "dump", os.getpid(), True)
    assert read(path) is None


def test_progress_is_written_once_a_second(tmp_path: Path) -> None:
    """However often it is told; with the rate, and from that the time left."""
    path, now = tmp_path / FILE_NAME, [100.0]
    run_file = RunFile(path, "backup", "r1", datetime.now(UTC), clock=lambda: now[0])
    run_file.stage("dump")
    with run_file.recorded(lambda what, total: nullcontext(silent))("dump", 4000) as progress:
        progress(10)
        assert json.loads(path.read_text())["done_bytes"] == 0
        now[0] += 2
        progress(1000)
        progress(1001)
    at_work = read(path)
    assert at_work is not None
    assert (at_work.step, at_work.done_bytes, at_work.bytes_per_second) == ("dump", 1000, 500)
    assert at_work.seconds_left == 6
    run_file.stage("verify")
    at_work = read(path)
    assert at_work is not None
    assert (at_work.stage, at_work.done_bytes, at_work.seconds_left) == ("verify", 0, None)


def test_a_killed_run_is_told_apart(tmp_path: Path) -> None:
    """Its file stays; its process is gone, or its number belongs to another one by now."""
    script = (
        "import sys; from datetime import datetime, UTC; from pathlib import Path\n"
        "from hubbackup.jobs.current import RunFile\n"
        "RunFile(Path(sys.argv[1]), 'backup', 'r1', datetime.now(UTC)).stage('dump')"
    )
    path = tmp_path / FILE_NAME
    subprocess.run([sys.executable, "-c", script, path], check=True)
    at_work = read(path)
    assert at_work is not None
    assert not at_work.alive
    path.write_text(json.dumps({**json.loads(path.read_text()), "pid": os.getpid()}))
    at_work = read(path)
    assert at_work is not None
    assert not at_work.alive


WHOLE = asdict(AtWork("backup", "r1", "2026-02-08T02:00:00+00:00", 1, 1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"kind": "backup"}',
        '{"other": 1}',
        *(
            json.dumps(WHOLE | wrong)
            for wrong in (
                {"kind": None},
                {"stage": ["dump"]},
                {"done_bytes": "1"},
                {"total_bytes": True},
                {"bytes_per_second": 1.5},
                {"started_at": "this morning"},
                {"started_at": "0001-01-01T00:00:00+14:00"},
            )
        ),
    ],
)
def test_a_broken_file_is_no_run(tmp_path: Path, text: str) -> None:
    """Half a file, or one of another version, tells nothing and breaks nothing."""
    (tmp_path / FILE_NAME).write_text(text)
    assert read(tmp_path / FILE_NAME) is None
    assert read(tmp_path / "absent") is None
    (tmp_path / FILE_NAME).write_text(json.dumps(WHOLE))
    assert read(tmp_path / FILE_NAME) == AtWork(**WHOLE)


def test_runs_without_the_lock_are_seen_beside_it(tmp_path: Path) -> None:
    """A verification shows beside a backup; what a killed one left does not, and the next one removes it after a day:
    a younger one may be that of another container, whose processes can't be seen."""
    (tmp_path / "run-1.json").write_text(json.dumps(WHOLE | {"kind": "verify"}))
    (tmp_path / "run-2.json").write_text("{")
    for left in tmp_path.glob("run-*"):
        os.utime(left, (time.time() - OLD_SECONDS - 60,) * 2)
    (tmp_path / "run-3.json").write_text(json.dumps(WHOLE | {"kind": "verify"}))
    RunFile(tmp_path / FILE_NAME, "backup", "r1", datetime.now(UTC)).stage("dump")
    assert [run.kind for run in all_alive(tmp_path)] == ["backup"]
    seen: list[str] = []

    def body(run: Run) -> Outcome[Any]:
        seen.extend(run.kind for run in all_alive(tmp_path))
        return done()

    guarded(
        Doing(body, "verify", needs_lock=False),
        lock=tmp_path / "lock",
        cancel=Cancel(),
        log=structlog.stdlib.get_logger(),
        history=History(tmp_path / "history.jsonl"),
    )
    assert not (tmp_path / "lock").exists()
    assert seen == ["backup", "verify"]
    assert sorted(path.name for path in tmp_path.glob("run*")) == ["run-3.json", FILE_NAME]
    assert all_alive(tmp_path / "absent") == []


def test_a_file_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    """A full or read-only directory is not a reason to fail a run."""
    (tmp_path / "file").write_text("")
    run_file = RunFile(tmp_path / "file" / FILE_NAME, "backup", "r1", datetime.now(UTC))
    run_file.stage("dump")
    run_file.remove()


def test_what_is_behind_a_proxy_is_not_tried_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where HTTPS_PROXY carries the pings, an address that is out of direct reach is no failure; NO_PROXY counts."""
    pinger = Pinger("https://127.0.0.1:1/ping", structlog.stdlib.get_logger())
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert pinger.probe() == "Connection refused"
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert pinger.probe() is None
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert pinger.probe() == "Connection refused"
