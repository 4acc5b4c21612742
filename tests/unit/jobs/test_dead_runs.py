"""Which runs are known to be dead: those that held our own lock, and no other."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hubbackup.errors import HubbackupError, StoppedError
from hubbackup.jobs.current import FILE_NAME, RunFile, read
from hubbackup.jobs.dead_runs import DeadRuns
from hubbackup.jobs.history import History
from hubbackup.jobs.leftovers import Leftovers, remove_leftovers
from hubbackup.jobs.run import Outcome, Run, guarded, new_run_id
from hubbackup.logs.setup import get_logger
from hubbackup.streams.cancel import Cancel
from tests.support.jobs import Doing, done

NOW = datetime(2026, 2, 8, 3, 0, tzinfo=UTC)


def killed_run(directory: Path) -> str:
    """The file of a run that was killed; returns its id."""
    run_id = new_run_id(NOW)
    RunFile(directory / FILE_NAME, "backup", run_id, NOW).stage("dump")
    return run_id


def run_once(directory: Path) -> list[str]:
    """What a run under the lock finds to be dead."""
    seen: list[str] = []

    def body(run: Run) -> Outcome[Any]:
        seen.extend(run.dead_runs.ids)
        return done()

    history = History(directory / "history.jsonl")
    guarded(Doing(body), lock=directory / "lock", cancel=Cancel(), log=get_logger(), history=history)
    return seen


def test_a_killed_run_is_known_until_it_is_forgotten(tmp_path: Path) -> None:
    """Whichever run comes next, and the ones after it; a run that ended by itself is never among them."""
    run_id = killed_run(tmp_path)
    assert run_once(tmp_path) == [run_id]
    assert run_once(tmp_path) == [run_id]
    DeadRuns(tmp_path).forget([run_id])
    assert run_once(tmp_path) == []
    assert DeadRuns(None).ids == []


def test_a_run_of_another_machine_may_still_be_at_work(tmp_path: Path) -> None:
    """A lock does not reach every host that shares a directory: only a day's silence proves it dead."""
    run_id = killed_run(tmp_path)
    found = read(tmp_path / FILE_NAME)
    assert found is not None
    for age, known in ((timedelta(hours=1), []), (timedelta(days=2), [run_id])):
        said_at = (datetime.now(UTC) - age).isoformat()
        (tmp_path / FILE_NAME).write_text(json.dumps(asdict(replace(found, machine="other", updated_at=said_at))))
        assert run_once(tmp_path) == known


def test_a_name_that_is_not_a_run_is_not_noted(tmp_path: Path) -> None:
    """What a file says goes into SQL: only what we write ourselves."""
    DeadRuns(tmp_path).note("x' OR true --")
    DeadRuns(tmp_path).note("../x")
    (tmp_path / "dead-%").touch()
    assert DeadRuns(tmp_path).ids == []


def test_each_kind_of_leftover_has_one_event() -> None:
    """What was removed is counted and named; what can't be removed is told and holds nothing up."""
    log = Told()

    def refuses() -> list[str]:
        raise HubbackupError("no answer")

    kinds = [
        Leftovers(lambda: ["a", "b"], event="x.removed", message="{count}: {names}", fields={"store": "s3"}),
        Leftovers(refuses, failed="x.unknown", failed_level=logging.DEBUG),
        Leftovers(list),
        Leftovers(lambda: ["c"]),
    ]
    remove_leftovers(log, kinds)  # type: ignore[arg-type]
    assert [(level, event) for level, event, _ in log.lines] == [
        (logging.INFO, "x.removed"),
        (logging.DEBUG, "x.unknown"),
        (logging.INFO, "leftovers.removed"),
    ]
    assert log.lines[0][2] == {"message": "2: a, b", "count": 2, "names": ["a", "b"], "store": "s3"}

    def stopped() -> list[str]:
        raise StoppedError

    with pytest.raises(StoppedError):
        remove_leftovers(log, [Leftovers(stopped)])  # type: ignore[arg-type]


class Told:
    """What was logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, str, dict[str, object]]] = []

    def log(self, level: int, event: str, **fields: object) -> None:
        self.lines.append((level, event, fields))
