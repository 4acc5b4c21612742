"""Codecs: what was encoded comes back, and what is cut, broken or followed by garbage never passes."""

from __future__ import annotations

import gzip
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubbackup.errors import NotProvenError
from hubbackup.streams.codecs import PIECE_BYTES, Compression, GzipDecoder, SniffingDecoder, ZstdDecoder, encoder_for

HEAD = b"--\n-- PostgreSQL database dump\n"
blobs = st.binary(max_size=4000)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def decode(decoder: GzipDecoder | ZstdDecoder | SniffingDecoder, parts: list[bytes]) -> bytes:
    plain = b"".join(piece for part in parts for piece in decoder.pieces(part))
    decoder.finish()
    return plain


def encode(data: list[bytes], level: int = 1, compression: Compression = Compression.GZIP) -> bytes:
    encoder = encoder_for(compression, level)
    return b"".join(encoder.encode(part) for part in data) + encoder.finish()


def zstd(data: bytes) -> bytes:
    return encode([data], compression=Compression.ZSTD)


@given(blobs, st.lists(st.integers(0), max_size=4), st.lists(st.integers(0), max_size=4), st.integers(0, 3))
def test_gzip_comes_back_whole(data: bytes, cuts: list[int], others: list[int], level: int) -> None:
    """At each level, in whatever portions it is written and read, also by Python's own gzip."""
    stored = encode(pieces(data, cuts), level)
    assert gzip.decompress(stored) == data
    assert decode(GzipDecoder(), pieces(stored, others)) == data


@given(blobs, st.lists(st.integers(0), max_size=4), st.lists(st.integers(0), max_size=4), st.sampled_from([1, 3, 19]))
def test_zstd_comes_back_whole(data: bytes, cuts: list[int], others: list[int], level: int) -> None:
    """In whatever portions it is written and read."""
    stored = encode(pieces(data, cuts), level, Compression.ZSTD)
    assert decode(ZstdDecoder(), pieces(stored, others)) == data


@given(st.lists(blobs, min_size=1, max_size=4), st.lists(st.integers(0), max_size=4))
def test_every_member_is_decoded(members: list[bytes], cuts: list[int]) -> None:
    """A gzip file of several members (`cat a.gz b.gz`) is all of them, where zlib stops after the first."""
    stored = b"".join(gzip.compress(member) for member in members)
    assert decode(GzipDecoder(), pieces(stored, cuts)) == b"".join(members)


@given(st.lists(blobs, min_size=1, max_size=4), st.lists(st.integers(0), max_size=4))
def test_every_frame_is_decoded(frames: list[bytes], cuts: list[int]) -> None:
    """zstd too comes in several frames."""
    stored = b"".join(zstd(frame) for frame in frames)
    assert decode(ZstdDecoder(), pieces(stored, cuts)) == b"".join(frames)


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=300))
def test_a_cut_anywhere_is_seen(data: bytes) -> None:
    """Cut at any byte, a compressed stream is not proven: not at its last byte, not before its first."""
    for stored, decoder in ((gzip.compress(data), GzipDecoder), (zstd(data), ZstdDecoder)):
        for cut in range(len(stored)):
            with pytest.raises(NotProvenError):
                decode(decoder(), [stored[:cut]])


@given(st.binary(min_size=1, max_size=300), st.binary(min_size=1, max_size=20), st.lists(st.integers(0), max_size=3))
def test_trailing_garbage_is_seen(data: bytes, garbage: bytes, cuts: list[int]) -> None:
    """What follows the last member must be a whole member again."""
    for stored, decoder in ((gzip.compress(data), GzipDecoder), (zstd(data), ZstdDecoder)):
        with pytest.raises(NotProvenError):
            decode(decoder(), pieces(stored + garbage, cuts))


@given(st.binary(min_size=20, max_size=300), st.integers(0))
def test_a_flipped_bit_never_gives_other_bytes(data: bytes, place: int) -> None:
    """One flipped bit is an error, or (in a field of the gzip header that means nothing) the same bytes."""
    stored = bytearray(gzip.compress(data))
    stored[place // 8 % len(stored)] ^= 1 << place % 8
    try:
        assert decode(GzipDecoder(), [bytes(stored)]) == data
    except NotProvenError:
        return


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd])
@pytest.mark.parametrize("step", [1, 3, 5, 1000])
def test_the_way_is_told_by_its_first_bytes(compress: type[bytes], step: int) -> None:
    """Plain, gzip and zstd are told apart, however few bytes come at first."""
    stored = compress(HEAD * 5)
    assert decode(SniffingDecoder(), [stored[i : i + step] for i in range(0, len(stored), step)]) == HEAD * 5


@pytest.mark.parametrize("data", [b"", b"-", b"--\n"])
def test_next_to_nothing_is_no_dump(data: bytes) -> None:
    """A dump of less than four bytes is none."""
    decoder = SniffingDecoder()
    assert list(decoder.pieces(data)) == []
    with pytest.raises(NotProvenError, match="empty"):
        decoder.finish()


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_a_cut_way_is_seen(compress: type[bytes]) -> None:
    """The end of the exec stream is not the end of the compressed stream."""
    with pytest.raises(NotProvenError):
        decode(SniffingDecoder(), [compress(HEAD * 100)[:-1]])


@pytest.mark.parametrize("size", [PIECE_BYTES + extra for extra in (-1, 0, 1)] + [PIECE_BYTES * 3, 20_000_001])
@pytest.mark.parametrize("compression", Compression)
def test_a_bomb_is_decoded_in_bounded_pieces(size: int, compression: Compression) -> None:
    """A few kilobytes that stand for megabytes of zeros come out whole, and no piece is larger than the limit."""
    decoder = SniffingDecoder()
    found = [len(piece) for piece in decoder.pieces(encode([bytes(size)], compression=compression))]
    decoder.finish()
    assert sum(found) == size
    assert max(found) <= PIECE_BYTES


@pytest.mark.parametrize("compression", Compression)
def test_every_level_that_is_offered_exists(compression: Compression) -> None:
    """No level that BACKUP_COMPRESSION_LEVEL takes fails in the middle of a night."""
    for level in compression.levels:
        assert decode(SniffingDecoder(), [encode([HEAD], level, compression)]) == HEAD
