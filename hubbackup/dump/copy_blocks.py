"""Where a dump's rows stand: each `COPY … FROM stdin;`, its bytes, rows and digest; and where a file may be cut.

A file that begins a new member or frame now and then can be entered there, and one table be read without the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from hubbackup.dump.dump_rows import END_OF_ROWS
from hubbackup.errors import NotProvenError

STATEMENT_CUT_BYTES = 1 << 20
"""Of plain dump, after which the next statement begins a new member."""
ROWS_CUT_BYTES = 16 << 20
"""After which the next row does, within one table."""


class Span(NamedTuple):
    """Where a statement stands in the dump: from its first byte to the one behind its semicolon."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class CopyBlock:
    r"""One `COPY … FROM stdin;` of a dump, with its rows.

    `table` is written as pg_dump writes it. `offset` is where the statement begins in the plain dump, `head_bytes`
    its length with semicolon and line end, `row_bytes` that of the rows behind it, without the line `\.`.
    `digest` is the xxh3-128 of these row bytes, in hex: equal ones mean equal rows in equal order.
    """

    table: str
    offset: int
    head_bytes: int
    row_bytes: int
    rows: int
    digest: str

    @property
    def rows_offset(self) -> int:
        """Where its first row begins in the plain dump."""
        return self.offset + self.head_bytes

    @property
    def rows_end(self) -> int:
        r"""Behind its last row, where the line `\.` stands."""
        return self.rows_offset + self.row_bytes

    @property
    def end(self) -> int:
        """Behind that line."""
        return self.rows_end + len(END_OF_ROWS)


def proven_rows(pieces: Iterable[bytes], block: CopyBlock, shown: str) -> Iterator[bytes]:
    """The rows of a block, read again. Raises NotProvenError behind them where they are others than the census has
    met, of the table that is `shown` so."""
    digest = _new_digest()
    for piece in pieces:
        digest.update(piece)
        yield piece
    if digest.hexdigest() != block.digest:
        raise NotProvenError(f"the rows of {shown} are not those that were proven")


class CopyBlocks:
    """Gathers a dump's blocks as the lexer meets them. `data_start` and `data_end`: see `DumpFacts`."""

    def __init__(self) -> None:
        self.found: list[CopyBlock] = []
        self.data_start: int | None = None
        self.data_end = 0
        self._open: tuple[str, Span] | None = None
        self._rows = self._row_bytes = 0
        self._digest: Any = None
        self._passed = ""
        """The digest of rows that were not read."""

    def on_statement(self, span: Span, *, brings_data: bool) -> None:
        """A statement ended; the block before it, if any, is whole."""
        self._close()
        if brings_data:
            self._note_data(span)

    def on_copy(self, table: str, span: Span) -> None:
        """A COPY statement ended, and its rows begin on the next line."""
        self._close()
        self._note_data(span)
        self._open = table, span
        self._rows = self._row_bytes = 0
        self._digest = _new_digest()
        self._passed = ""

    def on_rows(self, rows: int, data: memoryview) -> None:
        """More of the open block's rows, `rows` of which end in `data`."""
        self._rows += rows
        self._row_bytes += len(data)
        self._digest.update(data)

    def pass_rows(self, block: CopyBlock) -> None:
        """All of the open block's rows, as they were counted before."""
        self._rows, self._row_bytes, self._passed = block.rows, block.row_bytes, block.digest

    def finish(self) -> None:
        """The dump has ended."""
        self._close()

    def _note_data(self, span: Span) -> None:
        if self.data_start is None:
            self.data_start = span.start
        self.data_end = span.end + 1

    def _close(self) -> None:
        if self._open is None:
            return
        table, span = self._open
        head_bytes = span.end + 1 - span.start
        digest = self._passed or self._digest.hexdigest()
        block = CopyBlock(table, span.start, head_bytes, self._row_bytes, self._rows, digest)
        self.found.append(block)
        self.data_end = block.end
        self._open = None


def _new_digest() -> Any:
    import xxhash

    return xxhash.xxh3_128()


class Cuts:
    """Chooses where the file gets a new member. `due`: offsets in the plain dump, not taken yet."""

    def __init__(self, statement_bytes: int = STATEMENT_CUT_BYTES, rows_bytes: int = ROWS_CUT_BYTES) -> None:
        self._statement_bytes = statement_bytes
        self._rows_bytes = rows_bytes
        self._last = 0
        self._stored = 0
        self._missed = False
        self._due: list[int] = []

    def take(self, plain_bytes: int) -> list[int]:
        """Where to cut what came up to `plain_bytes`, all of which will be stored now."""
        due, self._due, self._stored = self._due, [], plain_bytes
        return due

    def on_statement(self, start: int) -> None:
        """A statement began there; it may be stored in part by now."""
        if start - self._last >= self._statement_bytes:
            self._missed = start < self._stored
            if not self._missed:
                self._cut(start)

    def on_rows(self, data: memoryview, offset: int) -> None:
        """Rows passed, whose bytes stand at `offset`; at least one of them ended."""
        enough = self._statement_bytes if self._missed else self._rows_bytes
        if offset + len(data) - self._last >= enough:
            row_end = offset + bytes(data).rfind(b"\n") + 1
            if row_end - self._last >= enough and row_end >= self._stored:
                self._cut(row_end)

    def _cut(self, offset: int) -> None:
        self._due.append(offset)
        self._last = offset
        self._missed = False
