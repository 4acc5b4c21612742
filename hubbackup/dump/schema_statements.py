"""The statements of a dump's schema, each whole and as it is written, out of text that may come in parts.

Those parts may be the dump from end to end, or what stands before and behind its data. Rows and large objects pass
by.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hubbackup.dump.copy_blocks import Span
from hubbackup.dump.dump_lexer import Lexer
from hubbackup.dump.dump_schema import SchemaReader
from hubbackup.errors import NotProvenError


def schema_statements(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Each statement with its semicolon, without comments, as soon as it is whole.

    Raises NotProvenError where the text is nothing that pg_dump writes, or ends inside of a statement.
    """
    listener = _Listener()
    lexer = Lexer(listener)
    for chunk in chunks:
        lexer.feed(chunk)
        if lexer.fault:
            raise NotProvenError(f"the schema of the dump can't be read: {lexer.fault}")
        yield from listener.found
        listener.found.clear()
    if lexer.inside:
        raise NotProvenError(f"the schema of the dump can't be read: it ends inside {lexer.inside}")


class _Listener:
    """Gathers the statements of the schema."""

    def __init__(self) -> None:
        self.found: list[bytes] = []
        self._reader = SchemaReader(lambda text: self.found.append(text.rstrip(b"\n")))

    def on_statement(self, start: bytes, end: bytes, span: Span) -> str:
        """Note it; rows follow a COPY."""
        self._reader.on_statement(start)
        return "its table" if start.startswith(b"COPY") else ""

    def on_text(self, piece: bytes) -> None:
        """Some more of it."""
        self._reader.on_text(piece)

    def on_meta_command(self, command: bytes) -> None:
        """Passes."""

    def on_rows(self, rows: int, data: memoryview, offset: int) -> None:
        """Pass."""
