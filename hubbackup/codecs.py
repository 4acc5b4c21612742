"""Compression: what pg_dump compresses for the way is decoded, what rests on disk is gzip.

isal is Intel's ISA-L, some 15 times faster than zlib at its level 1 for the same size within a few percent
(docs/performance.md has the figures). Both release the GIL.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from hubbackup.errors import NotProvenError

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
GZIP_WBITS = 31
MAGIC_BYTES = 4
PIECE_BYTES = 4 << 20
ZSTD_PIECE_BYTES = 512 << 10
ZSTD_STEP_BYTES = 8 << 10
ZSTD_LEAST_BYTES = 64


class Decoder(Protocol):
    """Turns the way's bytes back into the plain dump, in pieces of bounded size."""

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


class GzipDecoder:
    """Decodes gzip, every member of it: zlib's own object stops after the first without a word."""

    def __init__(self) -> None:
        self._member: Any = None
        self._members = 0

    def pieces(self, data: bytes | memoryview) -> Iterator[bytes]:
        """The plain bytes that `data` completes, in pieces of bounded size: a megabyte can hold a gigabyte of zeros.

        Raises NotProvenError where the compression is broken.
        """
        from isal.isal_zlib import decompressobj
        from isal.isal_zlib import error as IsalError

        rest: bytes | memoryview = data
        try:
            while rest:
                if self._member is None:
                    self._member = decompressobj(wbits=GZIP_WBITS)
                    self._members += 1
                yield self._member.decompress(rest, PIECE_BYTES)
                rest = self._member.unconsumed_tail
                if self._member.eof:
                    rest = self._member.unused_data
                    self._member = None
        except IsalError as error:  # type: ignore[misc]  # its stub calls the class an instance
            raise NotProvenError(f"the gzip data is broken: {error}") from error

    def finish(self) -> None:
        if self._member is not None or not self._members:
            raise NotProvenError("the gzip data ends in the middle of a member")


class ZstdDecoder:
    """Decodes one zstd frame after another.

    The library has no bound for what one call gives back, so each call gets only as much as, at the ratio of the
    call before, makes a piece; a dump that suddenly compresses a thousandfold makes one large piece, and no more.
    """

    def __init__(self) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        self._decompressor = zstandard.ZstdDecompressor()
        self._frame: Any = None
        self._frames = 0
        self._step_bytes = ZSTD_LEAST_BYTES

    def pieces(self, data: bytes | memoryview) -> Iterator[bytes]:
        rest = memoryview(data)
        try:
            while rest:
                if self._frame is None:
                    self._frame = self._decompressor.decompressobj()
                    self._frames += 1
                part, rest = rest[: self._step_bytes], rest[self._step_bytes :]
                plain = self._frame.decompress(part)
                if self._frame.eof:
                    rest = memoryview(self._frame.unused_data + rest)
                    self._frame = None
                wanted = len(part) * ZSTD_PIECE_BYTES // max(len(plain), 1)
                self._step_bytes = min(max(wanted, ZSTD_LEAST_BYTES), ZSTD_STEP_BYTES)
                yield plain
        except self._error as error:
            raise NotProvenError(f"the zstd data is broken: {error}") from error

    def finish(self) -> None:
        if self._frame is not None or not self._frames:
            raise NotProvenError("the zstd data ends in the middle of a frame")


class WayDecoder:
    """Finds out from the first bytes what pg_dump compressed with, and decodes it.

    Told by the bytes and not by what was asked for: a pg_dump built without zlib answers `--compress=1` with
    a plain dump and exit code 0.
    """

    def __init__(self) -> None:
        self._head = b""
        self._decoder: Decoder | None = None

    def pieces(self, data: bytes | memoryview) -> Iterator[bytes]:
        if self._decoder is None:
            self._head += bytes(data)
            if len(self._head) < MAGIC_BYTES:
                return
            self._decoder = _decoder_for(self._head)
            data, self._head = self._head, b""
        yield from self._decoder.pieces(data)

    def finish(self) -> None:
        if self._decoder is None:
            raise NotProvenError("the dump is empty")
        self._decoder.finish()


def _decoder_for(head: bytes) -> Decoder:
    if head.startswith(ZSTD_MAGIC):
        return ZstdDecoder()
    if head.startswith(GZIP_MAGIC):
        return GzipDecoder()
    return PlainDecoder()


class GzipEncoder:
    """Makes one gzip member of all that is encoded."""

    def __init__(self, level: int = 1) -> None:
        """`level` is isal's: 0 (fastest) to 3 (smallest)."""
        from isal import isal_zlib

        self._member: Any = isal_zlib.compressobj(level, wbits=GZIP_WBITS)

    def encode(self, data: bytes) -> bytes:
        """The compressed bytes that `data` completes; often empty."""
        return bytes(self._member.compress(data))

    def finish(self) -> bytes:
        """The last bytes, with the gzip trailer. That trailer proves nothing about the dump within."""
        return bytes(self._member.flush())
