"""Health: a fresh heartbeat is healthy, anything else says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubbackup.health import MAX_AGE_SECONDS, PATH_VARIABLE, beat, check_beat, health_path
from hubbackup.jobs.state_file import write_json

NOW = 1_770_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "health.json"


def test_a_fresh_beat_is_healthy(path: Path) -> None:
    """The sentence tells the next run."""
    write_json(path, beat("2026-02-09T03:00:00+01:00", NOW - 30))
    healthy, sentence = check_beat(path, NOW)
    assert healthy
    assert "2026-02-09T03:00:00+01:00" in sentence
    assert "30 s ago" in sentence


@pytest.mark.parametrize("age", [MAX_AGE_SECONDS + 1, 86_400 * 30, -MAX_AGE_SECONDS - 1])
def test_an_old_beat_is_not(path: Path, age: float) -> None:
    """A beat that is too old, or from a clock that was far ahead, is a stuck daemon."""
    write_json(path, beat("soon", NOW - age))
    assert check_beat(path, NOW)[0] is False


def test_no_beat_is_no_daemon(path: Path) -> None:
    """Without the file the daemon has not started, or was stopped."""
    assert check_beat(path, NOW) == (False, "the daemon has not started: it has written no heartbeat")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"time": "x", "next_run": ""}', '{"time": null}', "\udcff"])
def test_a_broken_beat_is_told(path: Path, text: str) -> None:
    """A file that is not a heartbeat is unhealthy, and no traceback in the health log."""
    path.parent.mkdir()
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    healthy, sentence = check_beat(path, NOW)
    assert not healthy
    assert "can't be read" in sentence


def test_daemon_and_command_line_agree_on_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One variable of the image moves the file for both."""
    monkeypatch.setenv(PATH_VARIABLE, str(tmp_path))
    assert health_path() == tmp_path / "health.json"
    monkeypatch.delenv(PATH_VARIABLE)
    assert str(health_path()) == "/tmp/hubbackup/health.json"
