"""Marks beside a backup: put once, whatever goes on in the directory meanwhile."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hubbackup.catalog.backup import BackupName, Mark
from hubbackup.catalog.marks import put_mark
from hubbackup.errors import StoreError
from hubbackup.stores.local import LocalDraft, LocalStore

NOW = datetime(2026, 2, 8, 3, tzinfo=UTC)
NAME = BackupName("hub", datetime(2026, 2, 7, 3))


class Swept(LocalStore):
    """A directory from which another run removes each draft that it finds, `times` times."""

    def __init__(self, directory: Path, times: int) -> None:
        super().__init__(directory)
        self.times = times

    def create(self, name: str, metadata: object = None, **options: object) -> LocalDraft:
        draft = super().create(name)
        if self.times > 0:
            self.times -= 1
            draft.path.unlink()
        return draft


def test_a_mark_outlives_a_run_that_tidies_up(tmp_path: Path) -> None:
    """A backup that begins while a damaged copy is being marked takes the draft: the mark is put all the same."""
    put_mark(Swept(tmp_path, 1), NAME, Mark.BAD, why="its bytes changed", now=NOW)
    note = json.loads((tmp_path / NAME.mark(Mark.BAD)).read_bytes())
    assert (note["backup"], note["why"]) == (str(NAME), "its bytes changed")


def test_a_mark_that_can_not_be_put_is_an_error(tmp_path: Path) -> None:
    """Once more, and not forever."""
    with pytest.raises(StoreError):
        put_mark(Swept(tmp_path, 9), NAME, Mark.BAD, why="its bytes changed", now=NOW)
    assert not (tmp_path / NAME.mark(Mark.BAD)).exists()


def test_a_mark_that_is_there_stays(tmp_path: Path) -> None:
    """Marking again changes nothing: what was noted first stays."""
    store = LocalStore(tmp_path)
    put_mark(store, NAME, Mark.PINNED, why="first", now=NOW)
    put_mark(store, NAME, Mark.PINNED, why="second", now=NOW)
    assert json.loads((tmp_path / NAME.mark(Mark.PINNED)).read_bytes())["why"] == "first"
