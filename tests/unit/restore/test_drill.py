"""Whose turn a drill is: each target restores in its time, whatever became of the drills before."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from hubbackup.catalog.target import Target
from hubbackup.jobs.history import History
from hubbackup.restore.drill import whose_turn
from hubbackup.stores.memory import MemoryStore
from tests.support.backups import target_of


def target(name: str) -> Target:
    return target_of(MemoryStore(name, remote=name != "local"))


@pytest.mark.parametrize(
    ("names", "turns"),
    [
        (["local"], ["local", "local"]),
        (["local", "s3"], ["s3", "local", "s3", "local"]),
        (["local", "s3", "mirror"], ["s3", "mirror", "local", "s3"]),
    ],
)
@pytest.mark.parametrize("failed", [False, True])
def test_the_targets_take_turns(tmp_path: Path, names: list[str], turns: list[str], failed: bool) -> None:
    """The remote ones first; a drill that failed, whose record names no store, has had its turn as well."""
    history = History(tmp_path / "history.jsonl")
    targets = [target(name) for name in names]
    for expected in turns:
        chosen = whose_turn(targets, history.runs())
        assert chosen.name == expected
        facts = {"cause": "no role"} if failed else {"store": chosen.name}
        history.add("backup", "run", datetime.now(UTC), 1.0, 0, {"store": "local"})
        history.add("drill", "run", datetime.now(UTC), 1.0, int(failed), facts)


def test_a_target_that_is_gone_had_its_turn(tmp_path: Path) -> None:
    """The round begins anew where the last drill's store is not configured any more."""
    history = History(tmp_path / "history.jsonl")
    history.add("drill", "run", datetime.now(UTC), 1.0, 0, {"store": "mirror"})
    assert whose_turn([target("local"), target("s3")], history.runs()).name == "s3"
