"""What `hubbackup config` says of the manifests' key."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hubbackup.app.manifest_key import KEY_FILE, ManifestKey
from hubbackup.cli.config import about_the_key
from hubbackup.config.load import load_settings


def test_the_command_carries_the_key_and_does_not_show_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typed as it is printed, it makes the line that the other server needs, whatever its file ends with."""
    monkeypatch.delenv("HUBBACKUP_IN_CONTAINER", raising=False)
    old, new = tmp_path / "old's", tmp_path / "new"
    old.mkdir()
    key = ManifestKey(old / ".hubbackup", "", has_backups=lambda: False).make()
    text = (old / ".hubbackup" / KEY_FILE).read_text().strip()
    lines = about_the_key(load_settings({"BACKUP_DIR": str(old)}))
    assert text not in "".join(lines)
    assert str(old / ".hubbackup" / KEY_FILE) in lines[0]
    new.mkdir()
    (new / ".env.production").write_text("POSTGRES_DB=hub")  # without a line's end
    (command,) = [line.strip() for line in lines if "ssh THIS_SERVER" in line]
    subprocess.run(command.replace("ssh THIS_SERVER sudo ", ""), shell=True, check=True, cwd=new)
    loaded = load_settings({"BACKUP_ENV_FILE": str(new / ".env.production")})
    assert loaded.settings.postgres_db == "hub"
    given = loaded.settings.backup_manifest_key.get_secret_value()
    assert ManifestKey(new / ".hubbackup", given, has_backups=lambda: False).trust().key == key
    assert given not in "".join(about_the_key(loaded))
