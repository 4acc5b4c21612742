"""What `hubbackup diff --json` holds back until it is whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubbackup.cli import diff

ROWS = [{"change": "changed", "before": {"a": "é\n"}, "after": {"a": None}}] * 100


def test_few_rows_come_to_no_disk(tmp_path: Path) -> None:
    """A sealed backup's rows stay in memory as long as there is room for them there."""
    with diff._kept(ROWS, tmp_path / "absent") as items:
        assert list(items) == ROWS


def test_many_rows_are_in_a_file_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else can open it, and it needs no removal."""
    monkeypatch.setattr(diff, "HELD_BYTES", 1000)
    with diff._kept(ROWS, tmp_path) as items:
        assert list(tmp_path.iterdir()) == []
        assert [Path(f"/proc/self/fd/{fd}").readlink().parent for fd in descriptors(tmp_path)] == [tmp_path]
        assert list(items) == ROWS


def descriptors(directory: Path) -> list[str]:
    """Of this process, those of files in the directory."""
    links = {path.name: path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
    return [name for name, path in links.items() if str(path.readlink()).startswith(f"{directory}/")]
