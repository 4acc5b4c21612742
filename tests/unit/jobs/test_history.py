"""The record of past runs: it survives crashes, stays bounded, and never fails a run."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hubbackup.jobs.history import KEEP_LINES, History

START = datetime(2026, 2, 8, 3, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.jsonl"


def add(history: History, run_id: str, kind: str = "backup", **facts: object) -> None:
    history.add(kind, run_id, START, 1.5, 0, dict(facts))


def ids(history: History) -> list[str]:
    return [run["run_id"] for run in history.runs()]


def test_runs_come_back_in_order(path: Path) -> None:
    """What was added is read back, oldest first, with its facts."""
    history = History(path)
    add(history, "one", name="é\n")
    add(history, "two", kind="prune")
    assert ids(history) == ["one", "two"]
    last = history.last("backup")
    assert last is not None
    assert (last["run_id"], last["name"], last["started_at"]) == ("one", "é\n", START.isoformat())
    assert history.last("restore") is None


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_line_costs_no_other_run(path: Path, cut: int) -> None:
    """A crash in the middle of a line loses that run only: neither the one before nor the one after."""
    history = History(path)
    add(history, "before")
    add(history, "torn")
    path.write_bytes(path.read_bytes()[:-cut])
    add(history, "after")
    found = ids(history)
    assert found[0] == "before"
    assert found[-1] == "after"
    assert "torn" not in found or cut == 1  # without its newline alone, the line is whole


@pytest.mark.parametrize("line", [b"\0\0\0", b"[1]", b"null", b"{}", b"\xff\xfe", b'{"kind": "backup"}'])
def test_a_foreign_line_is_passed_over(path: Path, line: bytes) -> None:
    """Nobody who reads a run has to ask whether it has a time."""
    history = History(path)
    add(history, "before")
    with path.open("ab") as stream:
        stream.write(line + b"\n")
    add(history, "after")
    assert ids(history) == ["before", "after"]


def test_the_history_bounds_itself(path: Path) -> None:
    """A daemon of ten years keeps the newest thousand runs."""
    history = History(path, trim_bytes=130_000)
    for number in range(KEEP_LINES + 300):
        add(history, f"run{number}")
    found = ids(history)
    assert KEEP_LINES <= len(found) < KEEP_LINES + 300
    assert found[-1] == f"run{KEEP_LINES + 299}"
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_no_history_is_no_error(tmp_path: Path) -> None:
    """Where nothing can be read or written, a run goes on without a record."""
    (tmp_path / "file").write_text("")
    history = History(tmp_path / "file" / "history.jsonl")
    add(history, "lost")
    assert ids(history) == []
    assert history.last("backup") is None
