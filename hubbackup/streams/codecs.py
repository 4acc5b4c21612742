"""What compresses: a table of codecs, for the stream out of pg_dump's container and for the stored file.

Another codec is another row of `CODECS`. gzip is isal's (Intel's ISA-L), some 10 times faster than zlib for the same
size within a few percent (docs/performance.md has the figures). zstd is the standard library's, by its backport
before Python 3.14: unlike others it bounds what one call gives back, and reports where a frame ends. All of it
releases the GIL.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

from hubbackup.errors import NotProvenError

GZIP_WBITS = 31
PIECE_BYTES = 512 << 10
"""Small enough to stay in a processor's cache from the decoder to the encoder, large enough to cost no calls."""


class Decoder(Protocol):
    """Turns compressed bytes back into the plain dump, in pieces of at most `PIECE_BYTES`."""

    def pieces(self, data: bytes | memoryview) -> Iterator[bytes]:
        """The plain bytes that `data` completes. Raises NotProvenError where the compression is broken."""
        ...

    def rest(self) -> Iterator[bytes]:
        """The plain bytes that only the end of the file completes. Raises NotProvenError."""
        ...

    def finish(self) -> None:
        """Raises NotProvenError where the compressed stream is not whole."""
        ...

    def close(self) -> None:
        """Let go what it holds, also in the middle of a file."""
        ...


class PlainDecoder:
    """For bytes that were not compressed."""

    def pieces(self, data: bytes | memoryview) -> Iterator[bytes]:
        yield bytes(data)

    def rest(self) -> Iterator[bytes]:
        return iter(())

    def finish(self) -> None:
        return

    def close(self) -> None:
        return


class Decompressor(Protocol):
    """What decodes one member, as the standard library's `lzma.LZMADecompressor` does."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes: ...


class Decompression(NamedTuple):
    """What makes a decompressor of one member, and the error that it raises for data that is broken."""

    new_decompressor: Callable[[], Decompressor]
    error: type[Exception]


class MemberDecoder:
    """Decodes one member after another, in bounded pieces: a megabyte can hold a gigabyte of zeros.

    Libraries silently stop after the first member. `codec_word` and `member_word` are for sentences.
    """

    def __init__(self, codec_word: str, member_word: str, decompression: Decompression) -> None:
        self._codec_word = codec_word
        self._member_word = member_word
        self._new_decompressor, self._error = decompression
        self._open: Decompressor | None = None
        self._members = 0

    def pieces(self, data: bytes | memoryview) -> Iterator[bytes]:
        try:
            while data:
                if self._open is None:
                    self._open = self._new_decompressor()
                    self._members += 1
                member = self._open
                yield member.decompress(data, PIECE_BYTES)
                while not (member.needs_input or member.eof):
                    yield member.decompress(b"", PIECE_BYTES)
                data = b""
                if member.eof:
                    data = member.unused_data
                    self._open = None
        except self._error as error:
            raise NotProvenError(f"the {self._codec_word} data is broken: {error}") from error

    def rest(self) -> Iterator[bytes]:
        return iter(())

    def finish(self) -> None:
        if self._open is not None or not self._members:
            raise NotProvenError(f"the {self._codec_word} data ends in the middle of a {self._member_word}")

    def close(self) -> None:
        return


class Encoder(Protocol):
    """Turns the bytes of one file into others; a codec's makes one member of all that is encoded."""

    def encode(self, data: bytes) -> bytes:
        """The bytes that `data` completes; often empty."""
        ...

    def finish(self) -> bytes:
        """The last bytes. A gzip trailer proves nothing about the dump within."""
        ...


class OpenEncoder(Encoder, Protocol):
    """One that holds something until it is closed, also where the file is given up in the middle."""

    def close(self) -> None:
        """Let it go."""
        ...


class Member(NamedTuple):
    """Where a member begins: in the file as it was encoded, and in the plain dump. The file can be entered there."""

    stored_offset: int
    plain_offset: int


class MemberEncoder:
    """One file of members in a row, each made by a `new_member`. `members`: where they begin, so far."""

    def __init__(self, new_member: Callable[[], Encoder]) -> None:
        self.members = [Member(0, 0)]
        self._new_member = new_member
        self._member = new_member()
        self._stored_bytes = self._plain_bytes = 0

    def encode(self, data: bytes) -> bytes:
        """As `Encoder.encode`."""
        self._plain_bytes += len(data)
        return self._counted(self._member.encode(data))

    def cut(self) -> bytes:
        """End the member; what comes next begins another. Returns its last bytes."""
        end = self._counted(self._member.finish())
        self._member = self._new_member()
        self.members.append(Member(self._stored_bytes, self._plain_bytes))
        return end

    def finish(self) -> bytes:
        """As `Encoder.finish`."""
        return self._counted(self._member.finish())

    def _counted(self, data: bytes) -> bytes:
        self._stored_bytes += len(data)
        return data


class GzipEncoder:
    """isal's, whose `level` goes from 0 (fastest) to 3 (smallest)."""

    def __init__(self, level: int = 1) -> None:
        from isal import isal_zlib

        self._member: Any = isal_zlib.compressobj(level, wbits=GZIP_WBITS)

    def encode(self, data: bytes) -> bytes:
        return bytes(self._member.compress(data))

    def finish(self) -> bytes:
        return bytes(self._member.flush())


class ZstdEncoder:
    """`level` from 1 (fastest) to 19 (smallest).

    With a checksum, which pg_dump's own zstd lacks: there only the manifest's sha256 shows a flipped bit.
    Level 1 looks for matches of 6 bytes, as level 2 does, instead of 7: rows of numbers become 2 % smaller, text
    1 % larger (docs/performance.md).
    """

    def __init__(self, level: int = 1) -> None:
        zstd = _zstd()
        parameter = zstd.CompressionParameter
        options = {parameter.compression_level: level, parameter.checksum_flag: 1}
        if level == 1:
            options[parameter.min_match] = 6
        self._frame: Any = zstd.ZstdCompressor(options=options)

    def encode(self, data: bytes) -> bytes:
        return bytes(self._frame.compress(data))

    def finish(self) -> bytes:
        return bytes(self._frame.flush())


def _gzip_decompression() -> Decompression:
    from isal import igzip_lib

    error = cast("type[Exception]", igzip_lib.error)  # its stub calls the class an instance
    return Decompression(partial(igzip_lib.IgzipDecompressor, flag=igzip_lib.DECOMP_GZIP), error)


def _zstd_decompression() -> Decompression:
    zstd = _zstd()
    return Decompression(zstd.ZstdDecompressor, zstd.ZstdError)


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


@dataclass(frozen=True, eq=False)
class Codec:
    """A row of the table: all that the program knows of one way to compress."""

    word: str
    """In BACKUP_COMPRESSION, in the manifest, and in sentences."""
    suffix: str
    """The end of a backup's name."""
    magic: bytes
    """What its data begins with."""
    member: str
    """Its word for what one encoder makes; several of them in a row are one file."""
    levels: range
    """From the fastest to the smallest."""
    about: str
    """Its advantage, in a few words."""
    encoder: Callable[[int], Encoder]
    """For a level. It imports its library only when it is called: `--help` and `health` stay light."""
    decompression: Callable[[], Decompression]
    """Imports its library only when it is called, too."""
    always_has_checksum: bool = True
    """Whoever made the file, a flipped bit in it is seen when it is decoded."""

    def __repr__(self) -> str:
        return f"Codec({self.word})"

    def decoder(self) -> Decoder:
        """For one file, or for one stream from pg_dump."""
        return MemberDecoder(self.word, self.member, self.decompression())


GZIP = Codec(
    "gzip", ".sql.gz", b"\x1f\x8b", "member", range(4), "for the guide's gunzip", GzipEncoder, _gzip_decompression
)
ZSTD = Codec(
    "zstd",
    ".sql.zst",
    b"\x28\xb5\x2f\xfd",
    "frame",
    range(1, 20),
    "faster and smaller",
    ZstdEncoder,
    _zstd_decompression,
    always_has_checksum=False,  # pg_dump's own has none
)
CODECS = {codec.word: codec for codec in (GZIP, ZSTD)}
"""The table, by the codecs' words. What is not in it is refused, never taken for one of the others."""


class SniffingDecoder:
    """Finds out from the first bytes what they are compressed with, and decodes that.

    It goes by the bytes and not by what was asked for: a pg_dump built without zlib answers `--compress=1` with
    a plain dump and exit code 0.
    """

    def __init__(self) -> None:
        self.found: Codec | None = None
        """What it is, once enough bytes came and where it is compressed at all."""
        self._head_bytes = max(len(codec.magic) for codec in CODECS.values())
        self._head = b""
        self._decoder: Decoder | None = None

    def pieces(self, data: bytes | memoryview) -> Iterator[bytes]:
        if self._decoder is None:
            self._head += bytes(data)
            if len(self._head) < self._head_bytes:
                return
            self._decoder = self._choose(self._head)
            data, self._head = self._head, b""
        yield from self._decoder.pieces(data)

    def rest(self) -> Iterator[bytes]:
        return iter(())

    def finish(self) -> None:
        if self._decoder is None:
            raise NotProvenError("the dump is empty")
        self._decoder.finish()

    def close(self) -> None:
        return

    def _choose(self, head: bytes) -> Decoder:
        for codec in CODECS.values():
            if head.startswith(codec.magic):
                self.found = codec
                return codec.decoder()
        return PlainDecoder()
