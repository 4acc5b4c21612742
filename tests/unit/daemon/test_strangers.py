"""The alert of backups that nobody's run has made: once for each, whatever restarts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hubbackup.app import App
from hubbackup.catalog.origin import SigningKey
from hubbackup.config.load import load_settings
from hubbackup.daemon.strangers import Strangers
from hubbackup.logs import setup as logs
from hubbackup.notify.spool import Message
from hubbackup.streams.cancel import Cancel
from tests.support.backups import put_backup

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def app(tmp_path: Path) -> App:
    loaded = load_settings({"BACKUP_DIR": str(tmp_path), "POSTGRES_DB": "hub"})
    made = App(loaded, cancel=Cancel(), log=logs.get_logger())
    made.manifest_key.make()
    return made


def put(app: App, age: timedelta, key: SigningKey | None = None) -> str:
    name = put_backup(app.local.store, "hub", (NOW - age).replace(tzinfo=None))
    manifest = app.local.manifest(name).manifest
    signed = manifest.signed(key or app.manifest_key.make())
    app.local.store.replace(name.manifest, signed.to_json())
    return str(name)


def test_a_stranger_is_reported_once(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it is and what to do; again only for another one, or where it went and came back."""
    sent: list[Message] = []
    monkeypatch.setattr(app.notifier, "send", sent.append)
    put(app, timedelta(hours=5))
    Strangers().look(app, NOW)
    assert sent == []
    planted = put(app, timedelta(hours=1), SigningKey(b"somebody else's key"))
    Strangers().look(app, NOW)
    assert len(sent) == 1
    assert planted in sent[0].body
    assert "signed under another key" in sent[0].body
    watch = Strangers()  # after a restart
    watch.look(app, NOW)
    assert len(sent) == 1
    another = put(app, timedelta(minutes=30), SigningKey(b"somebody else's key"))
    watch.look(app, NOW + timedelta(minutes=59))
    assert len(sent) == 1
    watch.look(app, NOW + timedelta(minutes=61))
    assert len(sent) == 2
    assert another in sent[1].body
    assert planted not in sent[1].body


def test_older_ones_and_those_of_ours_are_no_news(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would not be the newest anyway is for list, status and doctor."""
    sent: list[Message] = []
    monkeypatch.setattr(app.notifier, "send", sent.append)
    put(app, timedelta(hours=40), SigningKey(b"somebody else's key"))
    put(app, timedelta(hours=1))
    Strangers().look(app, NOW)
    assert sent == []
