"""Small files that outlive a process: whole or as before, and nobody else's to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubbackup.jobs.state_file import read_json, write_json, write_text


def test_what_is_written_is_read_and_private(tmp_path: Path) -> None:
    """The document comes back, from a file of mode 0600 in a directory of mode 0700; nothing is left beside it."""
    path = tmp_path / "state" / "run.json"
    for document in ({"name": "été"}, [1, 2]):
        write_json(path, document)
        assert read_json(path) == document
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    """Where the new one can't be made whole, the old one stays, and nothing half-made."""
    path = tmp_path / "run.json"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half \ud800")
    assert path.read_text() == "old"
    (tmp_path / "taken.new").mkdir()
    with pytest.raises(OSError):
        write_text(tmp_path / "taken.json", "new")
    assert not (tmp_path / "taken.json").exists()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A link that waits in the new file's place is replaced; what it leads to is untouched."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "run.new").symlink_to(victim)
    write_text(tmp_path / "run.json", "new")
    assert victim.read_text() == "untouched"
    assert (tmp_path / "run.json").read_text() == "new"


@pytest.mark.parametrize("text", [None, "", "{half", "\ud800"])
def test_what_makes_no_sense_is_none(tmp_path: Path, text: str | None) -> None:
    """A file that is missing, empty, torn or not UTF-8 is no document, and no error."""
    path = tmp_path / "run.json"
    if text is not None:
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert read_json(path) is None
