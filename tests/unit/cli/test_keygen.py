"""`hubbackup keygen`: a key for its owner alone, never over another one, and what to do with it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from hubbackup.cli import run
from hubbackup.streams.age_keys import Identities, KeyFile, parse_recipients
from tests.support.age import opened, sealed_by_age


def test_a_pair_of_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is 0600 whatever the umask is; `age` takes the pair; no secret is printed."""
    file = tmp_path / "hub.key"
    before = os.umask(0)
    try:
        assert run(["keygen", str(file)]) == 0
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o600
    said = capsys.readouterr().out
    (private,) = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    public = str(Identities([KeyFile("", file.read_bytes)]).keys()[0].to_public())
    assert f"# public key: {public}" in file.read_text()
    assert private not in said
    assert f"BACKUP_ENCRYPT_RECIPIENTS={public}" in said
    assert f"print {file}" in said
    assert f"take {file} off this server" in said
    assert opened(sealed_by_age(b"a dump", public), file) == b"a dump"
    assert (
        subprocess.run(["age-keygen", "-y", file], check=True, capture_output=True, text=True).stdout.strip()
        == public
    )


def test_a_file_that_is_there_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It may be the only key to a backup; a link to nowhere is not followed either."""
    file, link = tmp_path / "hub.key", tmp_path / "link"
    file.write_text("the only key")
    link.symlink_to(tmp_path / "nowhere")
    for path in (file, link, tmp_path):
        assert run(["keygen", str(path)]) == 2
        assert "is there already, and is not overwritten" in capsys.readouterr().err
    assert file.read_text() == "the only key"
    assert not (tmp_path / "nowhere").exists()
    assert run(["keygen", str(tmp_path / "no" / "hub.key")]) == 2
    assert "can't be made: No such file or directory" in capsys.readouterr().err


def test_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    """As age-keygen prints it, so that it never rests in a container."""
    assert run(["keygen", "-"]) == 0
    comment, public, private = capsys.readouterr().out.splitlines()
    assert comment.startswith("# created: 2")
    assert private.startswith("AGE-SECRET-KEY-1")
    assert parse_recipients(public.removeprefix("# public key: "))


def test_in_a_container(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without a directory would be lost with the container: it is refused, with the way that works."""
    monkeypatch.setenv("HUBBACKUP_IN_CONTAINER", "yes")
    monkeypatch.chdir(tmp_path)
    assert run(["keygen"]) == 2
    assert "would be in the container, and lost with it" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The public key and the file."""
    file = tmp_path / "hub.key"
    assert run(["keygen", str(file), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["file"] == str(file)
    assert parse_recipients(document["public_key"])
