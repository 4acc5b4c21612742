"""Every row of the table of codecs: what was encoded comes back, and what is cut, broken or followed by garbage never
passes."""

from __future__ import annotations

import gzip
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubbackup.errors import NotProvenError
from hubbackup.streams.codecs import CODECS, GZIP, PIECE_BYTES, ZSTD, Codec, Decoder, SniffingDecoder, _zstd

HEAD = b"--\n-- PostgreSQL database dump\n"
blobs = st.binary(max_size=4000)
cuts_of = st.lists(st.integers(0), max_size=4)
codecs = st.sampled_from(list(CODECS.values()))
each_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def decode(decoder: Decoder, parts: list[bytes]) -> bytes:
    plain = b"".join(piece for part in parts for piece in decoder.pieces(part))
    decoder.finish()
    return plain


def encode(codec: Codec, data: list[bytes], level: int = 1) -> bytes:
    encoder = codec.encoder(level)
    return b"".join(encoder.encode(part) for part in data) + encoder.finish()


def test_each_row_is_told_from_the_others() -> None:
    """By its word, by its suffix and by its first bytes: none begins as another does, and none as a dump does."""
    rows = list(CODECS.values())
    assert [row.word for row in rows] == list(CODECS)
    for one, other in itertools.permutations(rows, 2):
        assert not one.suffix.endswith(other.suffix)
        assert not one.magic.startswith(other.magic)
    assert not any(HEAD.startswith(row.magic) for row in rows)


@settings(deadline=None)
@given(st.data(), codecs, blobs, cuts_of, cuts_of)
def test_it_comes_back_whole(
    draw: st.DataObject, codec: Codec, data: bytes, cuts: list[int], others: list[int]
) -> None:
    """At each level, in whatever portions it is written and read."""
    stored = encode(codec, pieces(data, cuts), draw.draw(st.sampled_from(codec.levels)))
    assert stored.startswith(codec.magic)
    assert decode(codec.decoder(), pieces(stored, others)) == data


@given(blobs, cuts_of, st.sampled_from(GZIP.levels))
def test_gzip_is_what_others_mean_by_it(data: bytes, cuts: list[int], level: int) -> None:
    """Python's own gzip reads ours, and ours reads Python's."""
    assert gzip.decompress(encode(GZIP, pieces(data, cuts), level)) == data
    assert decode(GZIP.decoder(), pieces(gzip.compress(data), cuts)) == data


@given(codecs, st.lists(blobs, min_size=1, max_size=4), cuts_of)
def test_every_member_is_decoded(codec: Codec, members: list[bytes], cuts: list[int]) -> None:
    """A file of several members (`cat a.gz b.gz`) is all of them, where libraries stop after the first."""
    stored = b"".join(encode(codec, [member]) for member in members)
    assert decode(codec.decoder(), pieces(stored, cuts)) == b"".join(members)


@settings(deadline=None)
@given(codecs, st.binary(min_size=1, max_size=300))
def test_a_cut_anywhere_is_seen(codec: Codec, data: bytes) -> None:
    """Cut at any byte, a compressed stream is not proven: not at its last byte, not before its first."""
    stored = encode(codec, [data])
    for cut in range(len(stored)):
        with pytest.raises(NotProvenError):
            decode(codec.decoder(), [stored[:cut]])


@each_codec
def test_a_cut_is_said_in_the_codecs_words(codec: Codec) -> None:
    """The error names the codec, and what it was in the middle of."""
    with pytest.raises(NotProvenError, match=f"^the {codec.word} data ends in the middle of a {codec.member}$"):
        decode(codec.decoder(), [encode(codec, [HEAD])[:-1]])
    with pytest.raises(NotProvenError, match=f"^the {codec.word} data is broken: "):
        decode(codec.decoder(), [HEAD])


@given(codecs, st.binary(min_size=1, max_size=300), st.binary(min_size=1, max_size=20), cuts_of)
def test_trailing_garbage_is_seen(codec: Codec, data: bytes, garbage: bytes, cuts: list[int]) -> None:
    """What follows the last member must be a whole member again."""
    with pytest.raises(NotProvenError):
        decode(codec.decoder(), pieces(encode(codec, [data]) + garbage, cuts))


@given(codecs, st.binary(min_size=20, max_size=300), st.integers(0))
def test_a_flipped_bit_never_gives_other_bytes(codec: Codec, data: bytes, place: int) -> None:
    """One flipped bit is an error, or (in a field of the header that means nothing) the same bytes."""
    stored = bytearray(encode(codec, [data]))
    stored[place // 8 % len(stored)] ^= 1 << place % 8
    try:
        assert decode(codec.decoder(), [bytes(stored)]) == data
    except NotProvenError:
        return


def test_a_file_without_a_checksum_hides_a_flipped_bit() -> None:
    """zstd as pg_dump makes it: that is why its row says that not every file of it has a checksum."""
    stored = bytearray(_zstd().compress(HEAD))
    place = stored.index(b"PostgreSQL")
    stored[place] ^= 1
    assert decode(ZSTD.decoder(), [bytes(stored)]) == HEAD.replace(b"P", b"Q")
    assert not ZSTD.always_has_checksum


@pytest.mark.parametrize("codec", [None, *CODECS.values()])
@pytest.mark.parametrize("step", [1, 3, 5, 1000])
def test_the_way_is_told_by_its_first_bytes(codec: Codec | None, step: int) -> None:
    """Plain and each codec are told apart, however few bytes come at first."""
    stored = encode(codec, [HEAD * 5]) if codec is not None else HEAD * 5
    decoder = SniffingDecoder()
    assert decode(decoder, [stored[i : i + step] for i in range(0, len(stored), step)]) == HEAD * 5
    assert decoder.found is codec


@pytest.mark.parametrize("data", [b"", b"-", b"--\n"])
def test_next_to_nothing_is_no_dump(data: bytes) -> None:
    """A dump of less than four bytes is none."""
    decoder = SniffingDecoder()
    assert list(decoder.pieces(data)) == []
    with pytest.raises(NotProvenError, match="empty"):
        decoder.finish()


@each_codec
def test_a_cut_way_is_seen(codec: Codec) -> None:
    """The end of the exec stream is not the end of the compressed stream."""
    with pytest.raises(NotProvenError):
        decode(SniffingDecoder(), [encode(codec, [HEAD * 100])[:-1]])


@pytest.mark.parametrize("size", [PIECE_BYTES + extra for extra in (-1, 0, 1)] + [PIECE_BYTES * 3, 20_000_001])
@each_codec
def test_a_bomb_is_decoded_in_bounded_pieces(size: int, codec: Codec) -> None:
    """A few kilobytes that stand for megabytes of zeros come out whole, and no piece is larger than the limit."""
    decoder = SniffingDecoder()
    found = [len(piece) for piece in decoder.pieces(encode(codec, [bytes(size)]))]
    decoder.finish()
    assert sum(found) == size
    assert max(found) <= PIECE_BYTES


@each_codec
def test_every_level_that_is_offered_exists(codec: Codec) -> None:
    """No level that BACKUP_COMPRESSION_LEVEL takes fails in the middle of a night; 1, the default, is one."""
    assert 1 in codec.levels
    for level in codec.levels:
        assert decode(SniffingDecoder(), [encode(codec, [HEAD], level)]) == HEAD
