"""Sealed bytes: the program `age` opens what we seal, we open what it seals, and what is not whole is refused."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import threading
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubbackup.errors import IdentityError, NotProvenError
from hubbackup.streams import age
from hubbackup.streams.age import AgeDecoder, AgeEncoder, header_of
from hubbackup.streams.age_keys import NO_IDENTITIES, generate, parse_recipients
from hubbackup.streams.codecs import GZIP
from hubbackup.streams.format import Encryption, Format
from tests.support.age import KINDS, Pair, make_pair, opened, sealed_by_age

SEALED_GZIP = Format(GZIP, Encryption.AGE)


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("keys"), request.param)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("keys"))


def sealed(plain: bytes, pair: Pair, piece_bytes: int = 1 << 20) -> bytes:
    """By the encoder, in pieces."""
    encoder = AgeEncoder([one.key for one in pair.recipients])
    pieces = [encoder.encode(plain[at : at + piece_bytes]) for at in range(0, len(plain), piece_bytes)]
    return b"".join([*pieces, encoder.finish()])


def unsealed(data: bytes, pair: Pair, piece_bytes: int = 1 << 20) -> bytes:
    """By the decoder, in pieces."""
    decoder = AgeDecoder(pair.identities.keys())
    try:
        pieces = [decoder.decode(data[at : at + piece_bytes]) for at in range(0, len(data), piece_bytes)]
        return b"".join([*pieces, decoder.finish()])
    finally:
        decoder.close()


@pytest.mark.parametrize("size", [0, 1, 64 << 10, (64 << 10) + 1, 3 << 20])
def test_age_itself_opens_it(pair: Pair, size: int) -> None:
    """For each kind of key, of age and of ssh; and we open what `age` seals."""
    plain = os.urandom(size)
    assert opened(sealed(plain, pair), pair.file) == plain
    assert unsealed(sealed_by_age(plain, pair.public), pair) == plain


def test_each_of_several_keys_opens_it(tmp_path: Path) -> None:
    """By `age` and by us; a fourth one does not."""
    pairs = [make_pair(tmp_path, kind) for kind in KINDS]
    together = parse_recipients(",\n".join(pair.public for pair in pairs))
    encoder = AgeEncoder([one.key for one in together])
    data = encoder.encode(b"a dump") + encoder.finish()
    for pair in pairs:
        assert opened(data, pair.file) == unsealed(data, pair) == b"a dump"
    with pytest.raises(NotProvenError, match="no key at hand opens it"):
        unsealed(data, make_pair(tmp_path, name="another"))


@settings(max_examples=30)
@given(st.binary(max_size=200_000), st.integers(1, 100_000), st.integers(1, 100_000))
def test_any_cut_gives_the_same_bytes(plain: bytes, given_bytes: int, taken_bytes: int) -> None:
    """However it comes in and goes out."""
    private, public = generate()
    encoder = AgeEncoder([one.key for one in parse_recipients(public)])
    pieces = [encoder.encode(plain[at : at + given_bytes]) for at in range(0, len(plain), given_bytes)]
    data = b"".join([*pieces, encoder.finish()])
    import pyrage

    decoder = AgeDecoder([pyrage.x25519.Identity.from_str(private)])
    found = [decoder.decode(data[at : at + taken_bytes]) for at in range(0, len(data), taken_bytes)]
    assert b"".join([*found, decoder.finish()]) == plain


@pytest.mark.parametrize("size", [10, 64 << 10, 150_000])
def test_a_file_that_is_not_whole_is_refused(own: Pair, size: int) -> None:
    """Cut anywhere, longer than it was, or changed in one bit: never taken for the end of the data."""
    data = sealed(os.urandom(size), own)
    for end in {0, 5, len(data) // 2, len(data) - (64 << 10), len(data) - 17, len(data) - 1} & set(range(len(data))):
        with pytest.raises(NotProvenError, match=r"broken or cut short|no key"):
            unsealed(data[:end], own)
    for at in (3, 200, len(data) // 2, len(data) - 1):
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(NotProvenError, match=r"broken or cut short|no key"):
            unsealed(bytes(changed), own)
    with pytest.raises(NotProvenError, match="broken or cut short"):
        unsealed(data + b"x", own)


def test_a_sealed_format_reads_what_it_makes(own: Pair) -> None:
    """`age -d | gunzip` does, too."""
    plain = b"a dump\n" * 100_000
    compressing, (sealing,) = SEALED_GZIP.compressor(1), SEALED_GZIP.encoders(own.recipients)
    data = sealing.encode(compressing.encode(plain))
    data += sealing.encode(compressing.finish()) + sealing.finish()
    assert gzip.decompress(opened(data, own.file)) == plain
    decoder = SEALED_GZIP.decoder(own.identities)
    assert b"".join([*decoder.pieces(data), *decoder.rest()]) == plain
    decoder.finish()
    with pytest.raises(NotProvenError, match="no key at hand opens it"):
        list(SEALED_GZIP.decoder(NO_IDENTITIES).pieces(data))


def test_a_sealed_file_must_be_read_to_its_end(own: Pair) -> None:
    """Its last bytes come only at its end: who forgets them is told."""
    decoder = SEALED_GZIP.decoder(own.identities)
    list(decoder.pieces(sealed(gzip.compress(b"a dump"), own)))
    with pytest.raises(NotProvenError, match="not read to its end"):
        decoder.finish()
    decoder.close()


def test_what_is_inside_must_be_what_the_name_says(own: Pair) -> None:
    """A sealed text is not a sealed gzip."""
    decoder = SEALED_GZIP.decoder(own.identities)
    with pytest.raises(NotProvenError, match="the gzip data is broken"):
        _ = [*decoder.pieces(sealed(b"no gzip" * 100, own)), *decoder.rest()]


def test_memory_stays_flat(own: Pair) -> None:
    """Sealing and opening 64 MiB holds two megabytes at most."""
    encoder, decoder = AgeEncoder([one.key for one in own.recipients]), AgeDecoder(own.identities.keys())
    piece = os.urandom(256 << 10)
    tracemalloc.start()
    for _ in range(256):
        decoder.decode(encoder.encode(piece))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    decoder.decode(encoder.finish())
    decoder.finish()
    assert most < 2 << 20


def test_a_header_tells_whose_keys_open_it(pair: Pair, tmp_path: Path) -> None:
    """Without the data behind it: so it can be asked before a download."""
    header = header_of(io.BytesIO(sealed(os.urandom(100_000), pair)))
    assert header.endswith(b"\n")
    assert len(header) < 2000
    assert pair.identities.opens(header)
    assert not make_pair(tmp_path, name="another").identities.opens(header)
    pair.identities.demand("NAME", header, [])
    with pytest.raises(IdentityError, match=r"no key in .*2 \(of age1.*\) opens NAME: it opens with the key of X"):
        make_pair(tmp_path, name="another2").identities.demand("NAME", header, ["X"])
    with pytest.raises(IdentityError, match=r"NAME is sealed, and there is no private key here: .* of X or of Y"):
        NO_IDENTITIES.demand("NAME", header, ["X", "Y"])


def test_a_header_that_is_none(own: Pair) -> None:
    """A file of another kind, a cut one, one whose header was changed."""
    for data in (b"", b"x" * 100_000, b"\x1f\x8b" + b"\n---\n", age.MAGIC):
        with pytest.raises(NotProvenError, match="it is not sealed by age, though its name says so"):
            header_of(io.BytesIO(data))
    header = header_of(io.BytesIO(sealed(b"x", own)))
    changed = header[:-5] + (b"A" if header[-5:-4] != b"A" else b"B") + header[-4:]
    with pytest.raises(NotProvenError, match="broken or cut short"):
        own.identities.opens(changed)


def test_a_text_is_sealed_as_text(pair: Pair) -> None:
    """Which `age` opens, too."""
    sealed_text = age.seal_text("CREATE ROLE « é »;", [one.key for one in pair.recipients])
    assert age.is_sealed(sealed_text)
    assert opened(sealed_text.encode(), pair.file).decode() == "CREATE ROLE « é »;"
    assert pair.identities.open_text(sealed_text) == "CREATE ROLE « é »;"
    with pytest.raises(NotProvenError, match="no key at hand"):
        NO_IDENTITIES.open_text(sealed_text)


def test_no_thread_stays_behind(own: Pair) -> None:
    """Of an encoder and a decoder that are let go in the middle."""
    before = threading.active_count()
    encoder, decoder = AgeEncoder([one.key for one in own.recipients]), AgeDecoder(own.identities.keys())
    decoder.decode(encoder.encode(b"x" * 200_000))
    assert threading.active_count() == before + 2
    encoder.close()
    decoder.close()
    assert threading.active_count() == before


def test_the_program_age_is_there() -> None:
    """The tests stand on it: Debian's package, which .ci/provision installs."""
    assert subprocess.run(["age", "--version"], capture_output=True, check=True).stdout
