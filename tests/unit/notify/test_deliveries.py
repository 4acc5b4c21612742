"""Whether alerts arrive, as it is remembered for the page: the last that was taken, the last that was not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hubbackup.notify.deliveries import Deliveries
from hubbackup.status.snapshot import AlertFacts

NOW = datetime(2026, 2, 8, 3, tzinfo=UTC)


def facts(deliveries: Deliveries) -> AlertFacts:
    return deliveries.facts(("mailtos#1", "slack#2"), heartbeat=False, waiting=0)


def test_the_last_of_each_is_known_to_another_process(tmp_path: Path) -> None:
    """An attempt that one sink took and another did not counts as both; a later success mends it."""
    path = tmp_path / ".hubbackup" / "alerts.json"
    assert not facts(Deliveries(path)).failing
    Deliveries(path).note("ALERTE: one", {"mailtos#1": "", "slack#2": "no answer"}, NOW)
    known = facts(Deliveries(path))
    assert (known.sent_at, known.sent) == (NOW, "ALERTE: one")
    assert (known.failed_at, known.failure, known.failing) == (NOW, "slack#2: no answer", False)
    Deliveries(path).note("ALERTE: two", {"mailtos#1": "refused", "slack#2": "refused"}, NOW + timedelta(hours=1))
    known = facts(Deliveries(path))
    assert (known.sent, known.failure, known.failing) == ("ALERTE: one", "mailtos#1: refused", True)
    Deliveries(path).note("OK: three", {"mailtos#1": "", "slack#2": ""}, NOW + timedelta(hours=2))
    known = facts(Deliveries(path))
    assert (known.sent, known.failing) == ("OK: three", False)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"sent_at": 3, "failed_at": "x"}', '{"sent_at": "2026-02-08"}'])
def test_nonsense_is_as_good_as_nothing(tmp_path: Path, text: str) -> None:
    """The file is on the operators' disk."""
    path = tmp_path / "alerts.json"
    path.write_text(text)
    assert facts(Deliveries(path)).failed_at is None
    Deliveries(path).note("title", {"slack#1": ""}, NOW)
    assert facts(Deliveries(path)).sent == "title"


def test_a_disk_that_is_full_changes_nothing(tmp_path: Path) -> None:
    """What can't be kept is not known; the message has gone out all the same."""
    (tmp_path / "file").touch()
    Deliveries(tmp_path / "file" / "alerts.json").note("title", {"slack#1": ""}, NOW)
