"""A proven dump in parts: what is given out is what was proven, in whichever part, or it is refused."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbackup.errors import NotProvenError
from hubbackup.load.dump_ranges import Ranges, StreamRanges
from hubbackup.load.members import MemberDigests, MemberProof, MemberRanges
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.codecs import CODECS, Decoder, Member
from hubbackup.verify.reader import Expected

CODEC = CODECS["gzip"]


def stored(parts: Sequence[bytes], codec: str = "gzip") -> tuple[bytes, list[Member]]:
    """A file of one member for each part."""
    data, members, plain = b"", [], 0
    for part in parts:
        members.append(Member(len(data), plain))
        encoder = CODECS[codec].encoder(1)
        data += encoder.encode(part) + encoder.finish()
        plain += len(part)
    return data, members


class File:
    """One that can be changed between two looks."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        yield io.BytesIO(self.data)


def proof_of(data: bytes, members: Sequence[Member], size: int = 100) -> MemberProof | None:
    digests = MemberDigests(io.BytesIO(data), members)
    while cast("BinaryIO", digests).read(size):
        pass
    return digests.proof()


def ranges_over(file: File, members: Sequence[Member], plain: bytes, codec: str, *, in_order: bool) -> Ranges:
    new_decoder = CODECS[codec].decoder
    if in_order:
        expected = Expected(len(file.data), hashlib.sha256(file.data).hexdigest(), len(plain))
        return StreamRanges(file.open, expected, new_decoder, "the file", Cancel())
    proof = proof_of(file.data, members)
    assert proof is not None
    return MemberRanges(file.open, proof, new_decoder, "the file", Cancel())


parts = st.lists(st.binary(min_size=1, max_size=2000), min_size=1, max_size=6)


@given(parts=parts, codec=st.sampled_from(sorted(CODECS)), in_order=st.booleans(), data=st.data())
def test_each_part_is_what_stands_there(parts: list[bytes], codec: str, in_order: bool, data: st.DataObject) -> None:
    """Any part, in any order, from any member to any other, in every codec."""
    plain = b"".join(parts)
    file, members = stored(parts, codec)
    ranges = ranges_over(File(file), members, plain, codec, in_order=in_order)
    for _ in range(3):
        start = data.draw(st.integers(0, len(plain) - 1))
        end = data.draw(st.integers(start, len(plain)))
        assert b"".join(ranges.read(start, end)) == plain[start:end]
    ranges.close()


@given(
    parts=st.lists(st.binary(min_size=50, max_size=300), min_size=3, max_size=5),
    at=st.integers(0, 10_000),
    size=st.integers(1, 999),
)
def test_a_file_that_changed_is_refused(parts: list[bytes], at: int, size: int) -> None:
    """Another byte anywhere in a member that is read is seen, also behind the part that is wanted of it."""
    file, members = stored(parts)
    proof = proof_of(file, members, size)
    assert proof is not None
    number = at % len(parts)
    position = members[number].stored_offset + at % (proof.end(number) - members[number].stored_offset)
    changed = file[:position] + bytes([file[position] ^ 1]) + file[position + 1 :]
    ranges = MemberRanges(File(changed).open, proof, CODEC.decoder, "the file", Cancel())
    start = members[number].plain_offset
    with pytest.raises(NotProvenError):
        b"".join(ranges.read(start, start + 1))
    untouched = (number + 1) % len(parts)
    start = members[untouched].plain_offset
    assert b"".join(ranges.read(start, start + 1)) == parts[untouched][:1]


def test_a_file_that_is_cut_is_refused() -> None:
    """Where the end is missing, no part is taken for whole."""
    file, members = stored([b"a" * 100, b"b" * 100])
    proof = proof_of(file, members)
    assert proof is not None
    ranges = MemberRanges(File(file[:-3]).open, proof, CODEC.decoder, "the file", Cancel())
    with pytest.raises(NotProvenError, match="the file"):
        b"".join(ranges.read(150, 200))


def test_members_of_another_file_prove_nothing() -> None:
    """An index that names members which the file has not is not gone by."""
    file, members = stored([b"a" * 100, b"b" * 100])
    assert proof_of(file, [*members, Member(10 * len(file), 1000)]) is None


@pytest.mark.parametrize("at", [5, -5])
def test_a_stream_that_changed_is_refused_at_its_end(at: int) -> None:
    """One pass is compared as a whole: also what no session has asked for is read."""
    plain = b"".join(b"%d\n" % number for number in range(5000))
    file, members = stored([plain])
    changing = File(file)
    ranges = ranges_over(changing, members, plain, "gzip", in_order=True)
    data = bytearray(file)
    data[at] ^= 1
    changing.data = bytes(data)

    def read_all() -> None:
        b"".join(ranges.read(0, 10))
        ranges.close()

    with pytest.raises(NotProvenError):
        read_all()
    ranges.abandon()


def test_only_what_is_wanted_is_read() -> None:
    """Of a file of many members, one part costs one member."""
    opened: list[io.BytesIO] = []
    file, members = stored([bytes([number]) * 200_000 for number in range(20)])

    class Counted(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            Counted.taken += len(data)
            return data

    @contextmanager
    def open_file() -> Iterator[BinaryIO]:
        opened.append(Counted(file))
        yield opened[-1]

    proof = proof_of(file, members)
    assert proof is not None
    ranges = MemberRanges(open_file, proof, partial(CODEC.decoder), "the file", Cancel())
    assert b"".join(ranges.read(1_000_050, 1_000_060)) == b"\x05" * 10
    assert Counted.taken == members[6].stored_offset - members[5].stored_offset


def test_a_small_member_is_decoded_once_for_all_its_tables() -> None:
    """And a few of them are held, not all."""
    file, members = stored([bytes([number]) * 100_000 for number in range(8)])
    decoders = []

    def decoder() -> Decoder:
        decoders.append(CODEC.decoder())
        return decoders[-1]

    proof = proof_of(file, members)
    assert proof is not None
    ranges = MemberRanges(File(file).open, proof, decoder, "the file", Cancel())
    for _ in range(50):
        for start in (10, 99_990, 200_010):
            assert len(b"".join(ranges.read(start, start + 20))) == 20
    assert len(decoders) == 3
    for start in range(0, 800_000, 10_000):
        assert b"".join(ranges.read(start, start + 10)) == bytes([start // 100_000]) * 10
    assert len(decoders) <= 3 + 8
    b"".join(ranges.read(5, 6))
    assert len(decoders) <= 3 + 8 + 1
