"""What was changed in the settings since the last start, told without showing a secret."""

from __future__ import annotations

import contextlib
from pathlib import Path

from hubbackup.config.changes import Change, compare
from hubbackup.config.load import load_settings
from hubbackup.config.urls import secret_parts, split_urls
from hubbackup.jobs.state_file import read_json, write_json
from hubbackup.shown_text import mask


def changed(path: Path, environ: dict[str, str]) -> list[Change]:
    """As the daemon does at each start: compare with what is kept in `path`, and keep the new."""
    changes, kept = compare(read_json(path), load_settings(environ).values())
    with contextlib.suppress(OSError):
        write_json(path, kept)
    return changes


def test_changes_are_told_once(tmp_path: Path) -> None:
    """Before and now of each variable; at the first start, and at the next without a change, nothing."""
    path = tmp_path / "state" / "settings.json"
    assert changed(path, {"BACKUP_RETENTION_DAYS": "7"}) == []
    changes = changed(path, {"BACKUP_RETENTION_DAYS": "3", "BACKUP_ON_START": "true"})
    assert changes == [Change("BACKUP_ON_START", "false", "true"), Change("BACKUP_RETENTION_DAYS", "7", "3")]
    assert changed(path, {"BACKUP_RETENTION_DAYS": "3", "BACKUP_ON_START": "true"}) == []


def test_a_secret_is_seen_to_change_and_not_shown(tmp_path: Path) -> None:
    """Neither in the changes nor in the file, which keeps a salted digest."""
    path = tmp_path / "settings.json"
    secrets = ["", "canary-one", "canary-two", "canary-two", ""]
    seen = [changed(path, {"POSTGRES_PASSWORD": value}) for value in secrets]
    assert seen == [
        [],
        [Change("POSTGRES_PASSWORD", "", "********")],
        [Change("POSTGRES_PASSWORD", "********", "********")],
        [],
        [Change("POSTGRES_PASSWORD", "********", "")],
    ]
    changed(path, {"POSTGRES_PASSWORD": "canary-one"})
    assert "canary" not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_broken_memory_is_a_first_start(tmp_path: Path) -> None:
    """Half a file, or a place that can't be written: nothing is told, nothing fails."""
    path = tmp_path / "settings.json"
    for text in ("", "[]", '{"TZ": 3}'):
        path.write_text(text)
        assert changed(path, {}) == []
    assert changed(path / "below" / "a file", {}) == []


def test_urls_are_split_where_a_new_one_begins() -> None:
    """By commas and white space; a comma inside a URL separates nothing."""
    text = " mailtos://u:p@h?to=a@x.fr,b@y.fr,json://h:1/x\n slack://A/B/C, "
    assert split_urls(text) == ["mailtos://u:p@h?to=a@x.fr,b@y.fr", "json://h:1/x", "slack://A/B/C"]
    assert split_urls("  , ") == []


def test_what_is_secret_in_a_url() -> None:
    """Passwords, tokens and the whole; not the addresses and hosts that a message may have to name."""
    parts = secret_parts("mailtos://user:pa%20ss@mail.example.org?to=admin-address@example.org&from=q@example.org")
    assert {"pa%20ss", "pa ss"} <= set(parts)
    assert not {"mail.example.org", "admin-address@example.org"} & set(parts)
    uuid = "3f1c2b6e-0000-4000-8000-abcdefabcdef"
    assert uuid in secret_parts(f"https://hc-ping.com/{uuid}")
    assert {"T0000000000000", "B0000000000000"} <= set(secret_parts("slack://T0000000000000/B0000000000000/x"))
    load_settings({"HEARTBEAT_URL": f"https://hc-ping.com/{uuid}"})
    assert mask(f"no {uuid}") == "no ********"
