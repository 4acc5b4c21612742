"""Reading a part of a backup's dump: the file is entered at the member before it, and what comes out is compared.

What only a manifest says of a part (its digest, its rows) is all that proves it: the rest of the file is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from hubbackup.catalog.backup import printable
from hubbackup.catalog.index import PLAIN_DIGEST, DumpIndex
from hubbackup.dump.copy_blocks import CopyBlock
from hubbackup.dump.dump_lexer import WHOLE_BYTES
from hubbackup.dump.dump_rows import END_OF_ROWS
from hubbackup.dump.dump_statements import COPY
from hubbackup.errors import NotProvenError
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.codecs import Decoder
from hubbackup.streams.format import Format
from hubbackup.streams.growing_file import CHUNK_BYTES
from hubbackup.verify.index import digest_kind, keyed
from hubbackup.verify.reader import naming

_OTHER_ENDS = (b"\n\\.\n", b"\n\\.\r")
"""What psql takes for the end of the rows: in what others made, it could hide commands for psql behind."""
_LONGEST_END = 3
"""Bytes of one that a chunk can end in."""
OpenAt = Callable[[int, int | None], AbstractContextManager[BinaryIO]]
"""Opens a file's stored bytes from one place on and before another (None: to its end)."""


@dataclass(frozen=True)
class Parts:
    """A backup's file `name` that is read in parts. `decoder` makes the decoder of one file or member.

    `digest_key`: see `index_of`.
    """

    name: str
    open_at: OpenAt
    format: Format
    index: DumpIndex
    cancel: Cancel = field(default_factory=Cancel)
    digest_key: bytes | None = None
    new_decoder: Callable[[], Decoder] | None = None

    @property
    def provable(self) -> bool:
        """Whether a block that is read alone can be compared: its digest is of a kind that can be made here."""
        return self.index.digest_kind in (PLAIN_DIGEST, digest_kind(self.digest_key))

    def plain(self, start: int, end: int | None) -> Iterator[bytes]:
        """As `plain_range`; an error names the file."""
        with naming(self.name):
            yield from self._range(start, end)

    def block(self, block: CopyBlock) -> Iterator[bytes]:
        """The COPY statement of a block of the index, with its line end, and then its rows, in chunks of any size.

        Caller's duty: do nothing final with the rows before the iteration ended without an error: only then are they
        known to be those that the index was made of. Raises NotProvenError.
        """
        with naming(self.name):
            yield from self._checked(block, self._range(block.offset, block.end))

    def blocks(self, wanted: Sequence[CopyBlock]) -> Iterator[Iterator[bytes]]:
        """Each as `block`, in the index's order; those that lie close together are read in one go.

        Caller's duty: read each to its end before the next.
        """
        for group in self._neighbours(wanted):
            forwards = _Forwards(self._range(group[0].offset, group[-1].end), group[0].offset)
            for block in group:
                yield self._named(self._checked(block, forwards.part(block.offset, block.end)))

    def _neighbours(self, wanted: Sequence[CopyBlock]) -> Iterator[list[CopyBlock]]:
        """Blocks of which each begins in the member that the one before it ends in."""
        group: list[CopyBlock] = []
        for block in wanted:
            apart = not self.format.sealed and group and self.index.entry(block.offset).plain_offset >= group[-1].end
            if apart:
                yield group
                group = []
            group.append(block)
        if group:
            yield group

    def _named(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        with naming(self.name):
            yield from chunks

    def _range(self, start: int, end: int | None) -> Iterator[bytes]:
        return plain_range(
            self.open_at,
            self.format,
            self.index,
            start,
            end,
            new_decoder=self.new_decoder,
            cancel=self.cancel,
        )

    def _checked(self, block: CopyBlock, plain: Iterator[bytes]) -> Iterator[bytes]:
        import xxhash

        digest: Any = xxhash.xxh3_128()
        rows, left_bytes = 0, block.row_bytes
        head, tail = b"", b""
        if block.head_bytes > WHOLE_BYTES:
            raise NotProvenError(f"no COPY statement is as long as that of {block.table} in its manifest")
        last = b"\n"
        for piece in plain:
            missing = block.head_bytes - len(head)
            if missing:
                head += piece[:missing]
                if len(head) == block.head_bytes:
                    _check_statement(head, block)
                    yield head
            data = piece[missing:][:left_bytes]
            left_bytes -= len(data)
            tail += piece[missing + len(data) :]
            if data:
                seen = last + data
                if any(seen.find(end) >= 0 for end in _OTHER_ENDS):
                    raise NotProvenError(f"the rows of {block.table} end before their manifest says")
                last = seen[-_LONGEST_END:]
                digest.update(data)
                rows += data.count(b"\n")
                yield data
        found = digest.hexdigest()
        if self.index.digest_kind != PLAIN_DIGEST:
            found = keyed(found, self.digest_key)
        if (rows, found, tail) != (block.rows, block.digest, END_OF_ROWS) or not last.endswith(b"\n"):
            raise NotProvenError(f"the rows of {block.table} are not those that its manifest has the digest of")


class _Forwards:
    """Parts of what comes in chunks, each behind the one before."""

    def __init__(self, chunks: Iterator[bytes], position: int) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._position = position
        """Of the chunk's first byte."""

    def part(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` on and before `end`; fewer where the chunks end before."""
        while start < end:
            piece = self._chunk[max(0, start - self._position) : end - self._position]
            if piece:
                start += len(piece)
                yield piece
            if start < end:
                self._position += len(self._chunk)
                self._chunk = next(self._chunks, b"")
                if not self._chunk:
                    return


def _check_statement(head: bytes, block: CopyBlock) -> None:
    copy = COPY.fullmatch(head.removesuffix(b";\n"))
    if copy is None or printable(copy[1].decode("utf-8", "surrogateescape")) != block.table:
        raise NotProvenError(f"the rows of {block.table} are not where its manifest has them")


def plain_range(
    open_at: OpenAt,
    format: Format,
    index: DumpIndex,
    start: int,
    end: int | None,
    *,
    new_decoder: Callable[[], Decoder] | None = None,
    cancel: Cancel | None = None,
) -> Iterator[bytes]:
    """The plain dump from `start` on and before `end` (None: to its end), read from the nearest member before it.

    A file that can't be entered (a sealed one, one without members) is read from its start. That these bytes are
    the right ones is not checked. Raises NotProvenError where they can't be decoded, or end too early.
    """
    if end is not None and end <= start:
        return
    enterable = not format.sealed
    entry = index.entry(start if enterable else 0)
    behind = index.leaving(end) if enterable and end is not None else None
    position = entry.plain_offset
    with open_at(entry.stored_offset, behind.stored_offset if behind is not None else None) as stream:
        for plain in _decoded(stream, (new_decoder or format.decoder)(), cancel or Cancel()):
            first, position = position, position + len(plain)
            if position > start:
                yield plain[max(0, start - first) : None if end is None else end - first]
            if end is not None and position >= end:
                return
    if end is not None or position < start:
        raise NotProvenError(f"its dump ends after {position} bytes, {end or start} were expected")


def _decoded(stream: BinaryIO, decoder: Decoder, cancel: Cancel) -> Iterator[bytes]:
    with closing(decoder):
        while data := stream.read(CHUNK_BYTES):
            cancel.check()
            yield from decoder.pieces(data)
        yield from decoder.rest()
        decoder.finish()
