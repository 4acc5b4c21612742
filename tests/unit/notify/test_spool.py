"""The spool: messages wait in files of their own, survive a restart, and are bounded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hubbackup.notify.spool import LONGEST_RETRY, MAX_AGE, MAX_MESSAGES, Message, Spool

NOW = datetime(2026, 2, 9, 3, 0, tzinfo=UTC)


def test_a_message_survives_a_restart(tmp_path: Path) -> None:
    """What one process adds, the next one finds, with how far it has come."""
    added = Spool(tmp_path / "spool").add(Message("failure", "title\nété", "body", created_at=NOW))
    spool = Spool(tmp_path / "spool")
    assert spool.waiting() == [added]
    tried = added.tried(("mailto#1",), NOW)
    spool.update(tried)
    assert Spool(tmp_path / "spool").waiting() == [tried]
    (path,) = (tmp_path / "spool").glob("*.json")
    assert path.stat().st_mode & 0o777 == 0o600
    spool.remove(tried)
    assert list((tmp_path / "spool").iterdir()) == []


def test_attempts_come_at_growing_distances() -> None:
    """Half a minute, a minute, … half an hour; and after a thousand attempts still half an hour."""
    message = Message("failure", "t", "b")
    waits = []
    for _ in range(1000):
        message = message.tried((), NOW)
        assert message.next_try_at is not None
        waits.append((message.next_try_at - NOW).total_seconds())
    assert waits[:4] == [30, 60, 120, 240]
    assert waits[-1] == LONGEST_RETRY.total_seconds()
    assert not message.is_due(NOW)
    assert message.is_due(NOW + LONGEST_RETRY)
    assert message.is_due(NOW - timedelta(days=1)), "a clock that was set back must not delay it forever"


def test_it_is_bounded(tmp_path: Path) -> None:
    """Beyond a hundred the oldest are given up, and whatever is older than three days."""
    spool = Spool(tmp_path)
    old = spool.add(Message("failure", "old", "b", created_at=NOW - MAX_AGE - timedelta(seconds=1)))
    assert spool.overdue(NOW) == [old]
    spool.remove(old)
    for number in range(MAX_MESSAGES + 2):
        spool.add(Message("failure", str(number), "b" * 20_000, created_at=NOW + timedelta(seconds=number)))
    assert [message.title for message in spool.overdue(NOW)] == ["0", "1"]
    assert max(path.stat().st_size for path in tmp_path.iterdir()) < 10_000


def test_without_a_place_to_write_it_stays_in_memory(tmp_path: Path) -> None:
    """A full disk is what a message may have to tell of."""
    (tmp_path / "file").write_text("")
    spool = Spool(tmp_path / "file" / "spool")
    added = spool.add(Message("failure", "disk full", "b"))
    assert spool.waiting() == [added]
    with spool.exclusive() as mine:
        assert mine
    spool.remove(added)
    assert spool.waiting() == []


def test_what_is_no_message_is_removed(tmp_path: Path) -> None:
    """Half a file hinders no other message."""
    spool = Spool(tmp_path)
    good = spool.add(Message("failure", "t", "b"))
    for name, text in (("a.json", '{"kind": "fai'), ("b.json", "[]"), ("c.json", '{"created_at": 3}')):
        (tmp_path / name).write_text(text)
    assert spool.waiting() == [good]
    assert [path.stem for path in tmp_path.glob("*.json")] == [good.id]


def test_one_process_delivers(tmp_path: Path) -> None:
    """Daemon and command line don't send the same message twice."""
    with Spool(tmp_path).exclusive() as first, Spool(tmp_path).exclusive() as second:
        assert (first, second) == (True, False)
    with Spool(tmp_path).exclusive() as again:
        assert again
