"""The reading path: a stored file proves to be what its manifest says, or the first difference is named."""

from __future__ import annotations

import gzip
import hashlib
import io
from dataclasses import replace

import pytest

from hubbackup.errors import NotProvenError, StoppedError
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.format import DEFAULT_FORMAT
from hubbackup.streams.growing_file import CHUNK_BYTES
from hubbackup.verify.reader import Expected, check_file

PLAIN = bytes(range(256)) * 20
STORED = gzip.compress(PLAIN)
EXPECTED = Expected(len(STORED), hashlib.sha256(STORED).hexdigest(), len(PLAIN))


def read(stored: bytes, expected: Expected = EXPECTED, *, decode: bool = True) -> None:
    decoder = DEFAULT_FORMAT.decoder() if decode else None
    check_file(io.BytesIO(stored), expected, decoder, name="x.sql.gz", cancel=Cancel())


def of(stored: bytes) -> Expected:
    return replace(EXPECTED, stored_bytes=len(stored), sha256=hashlib.sha256(stored).hexdigest())


def test_a_whole_file_passes() -> None:
    """Decoded whole, only hashed, and in several members: what is as expected is proven."""
    read(STORED)
    read(STORED, decode=False)
    members = gzip.compress(PLAIN[:100]) + gzip.compress(PLAIN[100:])
    read(members, of(members))


@pytest.mark.parametrize("cut", [0, 1, 9, len(STORED) // 2, len(STORED) - 8, len(STORED) - 1])
def test_a_cut_file_is_damaged(cut: int) -> None:
    """Cut at any length, 0 bytes included, the file is damaged, and the error names it."""
    with pytest.raises(NotProvenError, match=r"x\.sql\.gz is damaged"):
        read(STORED[:cut])
    with pytest.raises(NotProvenError, match=r"x\.sql\.gz is damaged"):
        read(STORED[:cut], of(STORED[:cut]))


def test_every_flipped_bit_is_seen() -> None:
    """One bit anywhere in the file is enough, by the hash alone too."""
    for place in range(0, len(STORED) * 8, 37):
        damaged = bytearray(STORED)
        damaged[place // 8] ^= 1 << place % 8
        for decode in (True, False):
            with pytest.raises(NotProvenError) as refused:
                read(bytes(damaged), decode=decode)
            if place > 16:  # it still begins as its name says
                assert "; it is" not in str(refused.value)


@pytest.mark.parametrize(
    ("stored", "complaint"),
    [
        (STORED + b"x", "broken|were expected|middle of a member"),
        (STORED + gzip.compress(b"more"), "decodes to more than the 5120 bytes"),
        (gzip.compress(PLAIN[:-1]), "decodes to 5119 bytes, 5120 were expected"),
        (PLAIN, "the gzip data is broken"),
    ],
)
def test_another_content_is_seen_without_the_hash(stored: bytes, complaint: str) -> None:
    """Even where size and hash were made to fit, what is in the gzip must be what was counted."""
    with pytest.raises(NotProvenError, match=complaint):
        read(stored, of(stored))


def test_a_bomb_is_stopped_by_the_size_expected() -> None:
    """A file that decodes to far more is refused as soon as it is past what the manifest says."""
    bomb = gzip.compress(bytes(50_000_000))
    with pytest.raises(NotProvenError, match="decodes to more than the 5120 bytes"):
        read(bomb, of(bomb))


def test_a_stop_ends_the_reading() -> None:
    """SIGTERM does not wait for the end of a large file."""
    cancel = Cancel()
    cancel.set(15)
    stored = bytes(3 * CHUNK_BYTES)
    with pytest.raises(StoppedError):
        check_file(io.BytesIO(stored), of(stored), name="x", cancel=cancel)
