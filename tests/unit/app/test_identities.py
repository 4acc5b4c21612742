"""The files of private keys: which ones count, when they are read, and what is said of those that are of no use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hubbackup.app.identities import identities_of
from hubbackup.config.load import COPIES_VARIABLE, load_settings
from hubbackup.config.settings import Settings
from hubbackup.errors import UsageError
from hubbackup.streams.age_keys import generate
from tests.support.age import make_pair


def settings_with(file: Path) -> Settings:
    return load_settings({"BACKUP_IDENTITY_FILE": str(file)}).settings


def test_what_is_named_goes_before_the_setting(tmp_path: Path) -> None:
    """Then the setting's file is not even read."""
    own = make_pair(tmp_path)
    assert not identities_of(load_settings({}).settings).named
    assert len(identities_of(settings_with(own.file)).keys()) == 1
    found = identities_of(settings_with(tmp_path / "nowhere"), [str(own.file), str(own.file)])
    assert len(found.keys()) == 2
    assert found.where == f"{own.file}, {own.file}"


def test_a_file_that_is_of_no_use(tmp_path: Path) -> None:
    """One sentence with the setting or option, the file and what to do; a FIFO in the setting holds nothing up."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"#" * 100_000)
    for file, said in (
        (tmp_path / "nowhere", "BACKUP_IDENTITY_FILE: .*nowhere can't be read: No such file or directory"),
        (tmp_path, "BACKUP_IDENTITY_FILE: .* is not a file"),
        (tmp_path / "fifo", "BACKUP_IDENTITY_FILE: .*fifo is not a file"),
        (tmp_path / "large", "large is too large for a file of keys"),
    ):
        with pytest.raises(UsageError, match=said):
            identities_of(settings_with(file)).keys()
    with pytest.raises(UsageError, match=r"--identity: .* can't be read: Is a directory"):
        identities_of(load_settings({}).settings, [str(tmp_path)]).keys()


def test_a_key_from_a_pipe(tmp_path: Path) -> None:
    """`--identity <(command)`, as a shell has it."""
    private, _ = generate()
    reading, writing = os.pipe()
    os.write(writing, private.encode())
    os.close(writing)
    try:
        assert len(identities_of(load_settings({}).settings, [f"/dev/fd/{reading}"]).keys()) == 1
    finally:
        os.close(reading)


def test_the_copy_of_a_file_that_only_root_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The container's entry has made one, which stands for it."""
    copies, secret = tmp_path / "copies", tmp_path / "secret.key"
    private, _ = generate()
    copy = copies / str(secret).lstrip("/")
    copy.parent.mkdir(parents=True)
    copy.write_text(private)
    monkeypatch.setenv(COPIES_VARIABLE, str(copies))
    assert len(identities_of(settings_with(secret)).keys()) == 1
