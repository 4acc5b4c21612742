"""What a stored file is: its name's suffix leads to its format and back, and its own decoder reads what it makes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbackup.errors import NotProvenError
from hubbackup.streams.codecs import CODECS, Codec
from hubbackup.streams.format import DEFAULT_FORMAT, Encryption, Format

each_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))


def made(file_format: Format, plain: bytes, level: int = 1) -> bytes:
    """A file of that format."""
    for encoder in (file_format.compressor(level), *file_format.encoders()):
        plain = encoder.encode(plain) + encoder.finish()
    return plain


@given(st.sampled_from(list(CODECS.values())), st.sampled_from(Encryption), st.text())
def test_a_suffix_leads_to_its_format(codec: Codec, encryption: Encryption, before: str) -> None:
    """Whatever stands before it, the suffix of a name says what the file is, and whether it is sealed."""
    file_format = Format(codec, encryption)
    assert file_format.sealed == file_format.suffix.endswith(".age") == (encryption is Encryption.AGE)
    found = Format.of(f"{before}{file_format.suffix}")
    assert found == file_format
    assert hash(found) == hash(file_format)
    assert found is Format.of(f"other{file_format.suffix}")


@pytest.mark.parametrize(
    "name", ["", "x", "x.sql", "x.gz", "x.sql.lz4", "x.sql.gz.partial", "x.sql.gz.AGE", "x.age", "x.SQL.GZ"]
)
def test_an_unknown_suffix_is_no_format(name: str) -> None:
    """It is never taken for one of those that are known."""
    assert Format.of(name) is None


@each_codec
def test_a_format_reads_what_it_makes(codec: Codec) -> None:
    """And nothing that another one made: what a name says is demanded of the bytes."""
    file_format = Format(codec)
    decoder = file_format.decoder()
    assert b"".join(decoder.pieces(made(file_format, b"a dump" * 1000))) == b"a dump" * 1000
    decoder.finish()
    for other in CODECS.values():
        if other is not codec:
            with pytest.raises(NotProvenError, match=f"the {codec.word} data is broken"):
                list(file_format.decoder().pieces(made(Format(other), b"a dump" * 1000)))


def test_the_manifests_word() -> None:
    """As every manifest so far has it."""
    assert [Format(codec).written(3) for codec in CODECS.values()] == ["gzip:3", "zstd:3"]
    assert DEFAULT_FORMAT.suffix == ".sql.gz"
    assert [Format(codec, Encryption.AGE).suffix for codec in CODECS.values()] == [".sql.gz.age", ".sql.zst.age"]
