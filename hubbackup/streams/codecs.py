"""Compression: gzip and zstd, on the way out of pg_dump's container and at rest.

gzip is isal's (Intel's ISA-L), some 10 times faster than zlib for the same size within a few percent
(docs/performance.md has the figures). zstd is the standard library's, by its backport before Python 3.14: unlike
others it bounds what one call gives back, and tells where a frame ends. All of it releases the GIL.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, Protocol, cast

from hubbackup.errors import NotProvenError

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
GZIP_WBITS = 31
MAGIC_BYTES = 4
PIECE_BYTES = 512 << 10
"""Small enough to stay in a processor's cache from the decoder to the encoder, large enough to cost no calls."""


class Compression(StrEnum):
    """What a backup is at rest; the value is the word of BACKUP_COMPRESSION and of the manifest."""

    GZIP = "gzip"
    """What the guide's `gunzip` reads."""
    ZSTD = "zstd"
    """Smaller, and what pg_dump itself can make: then its bytes are stored as they come."""

    @property
    def suffix(self) -> str:
        """The end of the backup's name."""
        return ".sql.gz" if self is Compression.GZIP else ".sql.zst"

    @property
    def levels(self) -> range:
        """The levels that it has: isal's for gzip, pg_dump's for zstd."""
        return range(4) if self is Compression.GZIP else range(1, 20)


class Decoder(Protocol):
    """Turns compressed bytes back into the plain dump, in pieces of at most `PIECE_BYTES`."""

    def pieces(self, data: bytes | memoryview) -> Iterator[bytes]:
        """The plain bytes that `data` completes. Raises NotProvenError where the compression is broken."""
        ...

    def finish(self) -> None:
        """Raises NotProvenError where the compressed stream is not whole."""
        ...


class PlainDecoder:
    """For bytes that were not compressed."""

    def pieces(self, data: bytes | memoryview) -> Iterator[bytes]:
        yield bytes(data)

    def finish(self) -> None:
        return


class _MemberDecoder:
    """Decodes one member after another, in bounded pieces: a megabyte can hold a gigabyte of zeros.

    `new_member` makes an object as the standard library's `compression.zstd.ZstdDecompressor` is, which raises
    `error`; `format_name` and `member_name` are for sentences.
    """

    def __init__(
        self, format_name: str, member_name: str, new_member: Callable[[], Any], error: type[Exception]
    ) -> None:
        self._format_name = format_name
        self._member_name = member_name
        self._new_member = new_member
        self._error = error
        self._open: Any = None
        self._members = 0

    def pieces(self, data: bytes | memoryview) -> Iterator[bytes]:
        try:
            while data:
                if self._open is None:
                    self._open = self._new_member()
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
            raise NotProvenError(f"the {self._format_name} data is broken: {error}") from error

    def finish(self) -> None:
        if self._open is not None or not self._members:
            raise NotProvenError(f"the {self._format_name} data ends in the middle of a {self._member_name}")


class GzipDecoder(_MemberDecoder):
    """Decodes gzip, every member of it: zlib's own object stops after the first without a word."""

    def __init__(self) -> None:
        from isal import igzip_lib

        def new_member() -> Any:
            return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)

        # Its stub calls the class an instance.
        super().__init__("gzip", "member", new_member, cast("type[Exception]", igzip_lib.error))


class ZstdDecoder(_MemberDecoder):
    """Decodes zstd, every frame of it."""

    def __init__(self) -> None:
        zstd = _zstd()
        super().__init__("zstd", "frame", zstd.ZstdDecompressor, zstd.ZstdError)


class SniffingDecoder:
    """Finds out from the first bytes what they are compressed with, and decodes that.

    Told by the bytes and not by what was asked for: a pg_dump built without zlib answers `--compress=1` with
    a plain dump and exit code 0.
    """

    def __init__(self) -> None:
        self.found: Compression | None = None
        """What it is, once `MAGIC_BYTES` came and where it is compressed at all."""
        self._head = b""
        self._decoder: Decoder | None = None

    def pieces(self, data: bytes | memoryview) -> Iterator[bytes]:
        if self._decoder is None:
            self._head += bytes(data)
            if len(self._head) < MAGIC_BYTES:
                return
            self._decoder = self._choose(self._head)
            data, self._head = self._head, b""
        yield from self._decoder.pieces(data)

    def finish(self) -> None:
        if self._decoder is None:
            raise NotProvenError("the dump is empty")
        self._decoder.finish()

    def _choose(self, head: bytes) -> Decoder:
        if head.startswith(ZSTD_MAGIC):
            self.found = Compression.ZSTD
            return ZstdDecoder()
        if head.startswith(GZIP_MAGIC):
            self.found = Compression.GZIP
            return GzipDecoder()
        return PlainDecoder()


def decoder_for(name: str) -> Decoder:
    """The decoder of a file at rest, by its name: what its name says is demanded of its bytes."""
    return ZstdDecoder() if name.endswith(Compression.ZSTD.suffix) else GzipDecoder()


class Encoder(Protocol):
    """Makes one gzip member or zstd frame of all that is encoded."""

    def encode(self, data: bytes) -> bytes:
        """The compressed bytes that `data` completes; often empty."""
        ...

    def finish(self) -> bytes:
        """The last bytes. A gzip trailer proves nothing about the dump within."""
        ...


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

    With a checksum, which pg_dump's own zstd lacks: there the manifest's sha256 alone tells a flipped bit.
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


def encoder_for(compression: Compression, level: int) -> Encoder:
    """An encoder of what a backup is to be at rest."""
    return GzipEncoder(level) if compression is Compression.GZIP else ZstdEncoder(level)


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
