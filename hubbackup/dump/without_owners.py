"""A dump without whose everything is: what `pg_dump --no-owner --no-privileges` would have written.

For a load by a role that may not give anything to others. Left out are whole statements, on whose ends the dump lexer
decides; every other byte passes as it is. Caller's duty: the dump is proven.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator

from hubbackup.dump.copy_blocks import Span
from hubbackup.dump.dump_lexer import Lexer
from hubbackup.dump.dump_statements import NAME

HELD_BYTES = 1 << 20
"""A statement that is longer is none of those: it has at most the names of 1600 columns."""

_OF_ROLES = re.compile(rb"(?:GRANT|REVOKE|ALTER DEFAULT PRIVILEGES|(?:SET|RESET) SESSION AUTHORIZATION)(?![a-z_])")
_OWNER_TO = re.compile(rb"\sOWNER TO " + NAME + rb"\Z")
_END_OF_STATEMENT, _END_OF_ROWS = b";\n", b"\\.\n"


def without_owners(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The dump without the statements that give something to a role, or act as one."""
    return without(chunks, is_of_roles)


def without(chunks: Iterable[bytes], is_left_out: Callable[[bytes, bytes], bool]) -> Iterator[bytes]:
    """The dump without the statements that, by their first and last bytes, are left out."""
    ends = _Ends(is_left_out)
    lexer = Lexer(ends)
    held = bytearray()
    for piece in _pieces(chunks, ends):
        was_in_rows = ends.in_rows
        lexer.feed(piece)
        if was_in_rows:
            ends.in_rows = lexer.inside.startswith("the rows")
        held += piece
        if not ends.told and not was_in_rows and len(held) <= HELD_BYTES:
            continue
        if not (ends.told and ends.is_left_out):
            yield bytes(held)
        held.clear()
        ends.told = False
    yield bytes(held)


def _pieces(chunks: Iterable[bytes], ends: _Ends) -> Iterator[bytes]:
    """The same bytes, cut so that at most one statement, or one table's rows, ends in a piece: at its end."""
    rest = b""
    for chunk in itertools.chain(chunks, (b"",)):
        data = rest + chunk
        kept = 2 if chunk else 0  # a mark that the chunk's end cuts
        start = 0
        while start < len(data) - kept:
            mark = _END_OF_ROWS if ends.in_rows else _END_OF_STATEMENT
            found = data.find(mark, start)
            stop = found + len(mark) if found >= 0 else len(data) - kept
            yield data[start:stop]
            start = stop
        rest = data[start:]


class _Ends:
    """Listens for the end of a statement."""

    def __init__(self, is_left_out: Callable[[bytes, bytes], bool]) -> None:
        self._decide = is_left_out
        self.told = False
        self.is_left_out = False
        self.in_rows = False

    def on_statement(self, start: bytes, end: bytes, span: Span) -> str:
        """Note what it was."""
        self.told = True
        self.is_left_out = self._decide(start, end)
        self.in_rows = start.startswith(b"COPY")
        return "its table" if self.in_rows else ""

    def on_text(self, piece: bytes) -> None:
        """Passes."""

    def on_meta_command(self, command: bytes) -> None:
        """Passes."""

    def on_rows(self, rows: int, data: memoryview, offset: int) -> None:
        """Pass."""


def is_of_roles(start: bytes, end: bytes) -> bool:
    """Whether a statement, by its first and last bytes, gives something to a role, or acts as one."""
    if _OF_ROLES.match(start):
        return True
    return start.startswith(b"ALTER ") and _OWNER_TO.search(end) is not None
