"""Another codec is one row of the table: with that row alone settings, names, backups and readings know it."""

from __future__ import annotations

import io
import lzma
from datetime import datetime
from typing import Any

import pytest

from hubbackup.backup.pipeline import FileOptions, pump
from hubbackup.catalog.backup import BackupName, Mark
from hubbackup.catalog.listing import scan
from hubbackup.config.load import load_settings
from hubbackup.config.settings import Settings
from hubbackup.errors import NotProvenError, SettingsError
from hubbackup.jobs.progress import silent
from hubbackup.runners.direct import DirectRunner
from hubbackup.stores.memory import MemoryStore
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.codecs import CODECS, Codec, Decompression
from hubbackup.streams.format import Format
from hubbackup.verify.reader import Expected, check_dump, check_file
from tests.support.backups import DUMP

NAME = "hub_backup_20260208_030000.sql.xz"


class XzEncoder:
    """The standard library's."""

    def __init__(self, level: int) -> None:
        self._stream = lzma.LZMACompressor(preset=level)

    def encode(self, data: bytes) -> bytes:
        return self._stream.compress(data)

    def finish(self) -> bytes:
        return self._stream.flush()


XZ = Codec(
    word="xz",
    suffix=".sql.xz",
    magic=b"\xfd7zXZ\x00",
    member="stream",
    levels=range(10),
    about="smallest",
    encoder=XzEncoder,
    decompression=lambda: Decompression(lzma.LZMADecompressor, lzma.LZMAError),
)


@pytest.fixture(autouse=True)
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that this test changes in the program."""
    monkeypatch.setitem(CODECS, "xz", XZ)


class File(io.BytesIO):
    """Takes a backup's bytes, as a draft does."""

    def write(self, data: Any) -> int:
        return super().write(data)


def backed_up(dump: bytes) -> tuple[bytes, Expected]:
    """The file that `pump` makes of a dump, as the settings ask for it."""
    settings = load_settings(
        {"POSTGRES_DB": "hub", "BACKUP_COMPRESSION": "xz", "BACKUP_COMPRESSION_LEVEL": "9"}
    ).settings
    options = FileOptions(settings.backup_format, settings.backup_compression_level)
    assert options.format.written(options.level) == "xz:9"
    file = File()
    with DirectRunner(cancel=Cancel()).start(["cat"], {}, stdin=True) as process:
        process.write(dump)
        process.close_stdin()
        result = pump(process, file, options, cancel=Cancel(), progress=silent)
    assert result.facts.rows == {"public.a": 2}
    return file.getvalue(), Expected(result.stored_bytes, result.sha256, result.facts.plain_bytes)


@pytest.mark.parametrize("came", [DUMP, lzma.compress(DUMP)], ids=["plain", "xz"])
def test_a_backup_of_it_is_made_and_read(came: bytes) -> None:
    """By the codec's own tools too; it is checked as every other, by the format that its name says."""
    data, expected = backed_up(came)
    assert lzma.decompress(data) == DUMP
    name = BackupName.parse(NAME)
    assert name is not None
    check_file(io.BytesIO(data), expected, name.format.decoder(), name=NAME, cancel=Cancel())
    facts = check_dump(lambda: io.BytesIO(data), None, name.format.decoder(), name=NAME, cancel=Cancel())
    assert facts.rows == {"public.a": 2}
    with pytest.raises(NotProvenError, match=f"{NAME} is damaged: the xz data ends in the middle of a stream"):
        check_dump(lambda: io.BytesIO(data[:-1]), None, name.format.decoder(), name=NAME, cancel=Cancel())


def test_its_names_lead_there_and_back() -> None:
    """File, manifest and marks; in a listing they are one backup."""
    name = BackupName("hub", datetime(2026, 2, 8, 3), Format(XZ))
    assert str(name) == NAME
    assert BackupName.parse(NAME) == name
    assert name.manifest == f"{NAME}.manifest.json"
    store = MemoryStore("local")
    store.files = dict.fromkeys((NAME, name.manifest, name.mark(Mark.PINNED)), b"")
    (listed,) = scan([store])
    assert listed.name == name
    assert listed.published_in("local")
    assert list(listed.marks) == [Mark.PINNED]


def test_the_settings_know_it() -> None:
    """Its word and its levels are taken, others are refused with its own in the sentence."""
    with pytest.raises(SettingsError, match="must be gzip or zstd or xz"):
        load_settings({"BACKUP_COMPRESSION": "lz4"})
    with pytest.raises(SettingsError, match="xz has the levels 0 to 9"):
        load_settings({"BACKUP_COMPRESSION": "xz", "BACKUP_COMPRESSION_LEVEL": "10"})
    assert Settings(backup_compression="xz").backup_format == Format(XZ)
