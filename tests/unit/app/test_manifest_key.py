"""The key of the manifests: made once, whoever is first; never half, never lost without a word."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hubbackup.app.manifest_key import KEY_FILE, SINCE_FILE, KeyFileError, ManifestKey

ROOT = Path(__file__).parents[3]


def key_in(directory: Path, given: str = "", *, has_backups: bool = False) -> ManifestKey:
    return ManifestKey(directory / ".hubbackup", given, has_backups=lambda: has_backups)


def test_a_key_is_made_once_and_kept(tmp_path: Path) -> None:
    """Private, found again by the next process, and in no text that could be shown."""
    made = key_in(tmp_path).make()
    path = tmp_path / ".hubbackup" / KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key_in(tmp_path).make() == made
    assert key_in(tmp_path).trust().key == made
    assert path.read_text().strip() not in repr((made, key_in(tmp_path).trust()))
    assert sorted(one.name for one in path.parent.iterdir()) == [KEY_FILE, SINCE_FILE]


def test_reading_makes_nothing(tmp_path: Path) -> None:
    """Who only looks leaves no key, and no directory."""
    trust = key_in(tmp_path).trust()
    assert (trust.key, trust.since) == (None, None)
    assert list(tmp_path.iterdir()) == []


def test_backup_dir_itself_is_never_made(tmp_path: Path) -> None:
    """A disk that is not mounted must not be taken for an empty one."""
    gone = tmp_path / "not mounted"
    assert key_in(gone, "a key from the settings").trust().since is not None
    with pytest.raises(KeyFileError, match="can't be made"):
        key_in(gone).make()
    assert not gone.exists()


def test_the_setting_goes_before_the_file(tmp_path: Path) -> None:
    """A key that was carried over as a setting signs as the file did that it was read from."""
    made = key_in(tmp_path).make()
    text = (tmp_path / ".hubbackup" / KEY_FILE).read_text().strip()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert key_in(elsewhere, text).trust().key == made
    assert key_in(tmp_path, "another key of some length").trust().key != made


def test_since_when_is_kept(tmp_path: Path) -> None:
    """It is told once, when the first key is in hand, whatever key comes later."""
    before = datetime.now(UTC)
    key_in(tmp_path, has_backups=True).make()
    first = key_in(tmp_path).trust()
    assert first.since is not None
    assert before <= first.since <= datetime.now(UTC)
    assert first.at_home
    assert key_in(tmp_path, "another key of some length").trust().since == first.since
    assert not key_in(tmp_path / "new").trust().at_home


def test_a_key_that_comes_later_is_seen(tmp_path: Path) -> None:
    """A daemon that found none, and finds one at its next backup, believes by that from then on."""
    daemon = key_in(tmp_path)
    assert daemon.trust().key is None
    made = key_in(tmp_path).make()
    assert daemon.trust().key == made
    (tmp_path / ".hubbackup" / KEY_FILE).write_text("ab" * 32)
    assert daemon.trust().key == made
    assert daemon.make() == daemon.trust().key != made


MANY = """
import sys
from pathlib import Path
from hubbackup.app.manifest_key import ManifestKey
print("ready", flush=True)
sys.stdin.readline()
print(ManifestKey(Path(sys.argv[1]), "", has_backups=lambda: False).make().secret.decode())
"""


def test_many_at_once_get_one_key(tmp_path: Path) -> None:
    """However many processes start at the same moment: one key, and no rest of the others'."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", MANY, str(tmp_path / ".hubbackup")],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    keys = {process.communicate("\n", timeout=60)[0] for process in started}
    assert len(keys) == 1
    assert keys.pop().strip() == (tmp_path / ".hubbackup" / KEY_FILE).read_text().strip()
    assert sorted(one.name for one in (tmp_path / ".hubbackup").iterdir()) == [KEY_FILE, SINCE_FILE]


@pytest.mark.parametrize("harm", ["empty", "cut", "words", "binary", "directory", "link", "fifo", "unreadable"])
def test_a_key_of_no_use_is_said_and_left_alone(harm: str, tmp_path: Path) -> None:
    """One sentence that names the file and a way on; nothing is believed, and no new key takes its place."""
    path = tmp_path / ".hubbackup" / KEY_FILE
    path.parent.mkdir()
    texts = {"empty": b"", "cut": b"ab" * 20, "words": b"x" * 64, "binary": bytes(range(64))}
    if harm == "directory":
        path.mkdir()
    elif harm == "link":
        (tmp_path / "elsewhere").write_text("ab" * 32)
        path.symlink_to(tmp_path / "elsewhere")
    elif harm == "fifo":
        os.mkfifo(path)
    elif harm == "unreadable":
        path.write_text("ab" * 32)
        path.chmod(0)
        if os.geteuid() == 0:  # root reads everything: a link to itself can't be read by anybody
            path.unlink()
            path.symlink_to(path)
    else:
        path.write_bytes(texts[harm])
    before = sorted(one.name for one in path.parent.iterdir())
    with pytest.raises(KeyFileError, match=str(path)) as raised:
        key_in(tmp_path).make()
    assert "BACKUP_MANIFEST_KEY" in raised.value.remedy
    trust = key_in(tmp_path).trust()
    assert trust.key is None
    assert str(path) in trust.problem
    assert sorted(one.name for one in path.parent.iterdir()) == before


def test_where_none_can_be_made(tmp_path: Path) -> None:
    """A file where the directory should be: said, with what to do."""
    (tmp_path / ".hubbackup").write_text("")
    with pytest.raises(KeyFileError, match=r"can't be (made|read): Not a directory"):
        key_in(tmp_path).make()


@pytest.mark.parametrize("text", ["", "[]", '{"since": 1}', '{"since": "never", "at_home": true}', "\0"])
def test_a_damaged_beginning_begins_anew(text: str, tmp_path: Path) -> None:
    """Then nothing of before is lost: what was made up to now counts as earlier."""
    key_in(tmp_path).make()
    (tmp_path / ".hubbackup" / SINCE_FILE).write_text(text)
    since = key_in(tmp_path).trust().since
    assert since is not None
    assert (datetime.now(UTC) - since).total_seconds() < 60
