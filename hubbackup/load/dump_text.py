"""A dump's statements as its proof passes them by: their text is kept, and what a plan of the load needs of them.

Rows and large objects are not: of them it is known where they stand in the file. The statements decide, never the
comments between them.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Self

from hubbackup.dump import statement_kinds
from hubbackup.dump.copy_blocks import Span
from hubbackup.dump.dump_schema import DATA, ROWS
from hubbackup.dump.schema_text import OF_NEWER_SERVERS
from hubbackup.dump.statement_kinds import Attached, Code, Constraint, Index, Table, Trigger
from hubbackup.streams.growing_file import CHUNK_BYTES

HELD_BYTES = 4 << 20
"""In memory; what is more goes to a temporary file. Beside it there is what is known of each statement."""
_SETTING = re.compile(rb"SET (?P<name>[a-z_]+(?:\.[a-z_]+)?) = [^\n]*;\n?\Z")
_SEARCH_PATH = b"SELECT pg_catalog.set_config('search_path', "
_AS_OTHERS = re.compile(rb"(?:RE)?SET SESSION AUTHORIZATION|SET ROLE ")
_TABLESPACE, _ACCESS_METHOD = "default_tablespace", "default_table_access_method"
HEAP = (b"", b"SET default_table_access_method = heap;\n")


@dataclass(frozen=True, slots=True)
class Text:
    """Where statements stand in a `DumpText`, each with its semicolon and line end."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes [start, end) of the plain dump, whole statements that are passed on as they are."""

    start: int
    end: int


class DumpText:
    """Takes texts, and gives them back as often as asked, to several threads at once; closed, it is gone."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(HELD_BYTES)  # noqa: SIM115 - closed with us
        self._end = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, data: bytes) -> Text:
        """Keep it, behind all others."""
        with self._lock:
            self._file.seek(self._end)
            self._file.write(data)
            text = Text(self._end, len(data))
            self._end += len(data)
        return text

    def read(self, text: Text) -> bytes:
        """All of one text."""
        with self._lock:
            self._file.seek(text.offset)
            return self._file.read(text.length)

    def chunks(self, texts: Iterable[Text]) -> Iterator[bytes]:
        """Many of them in order, in pieces of bounded size."""
        for text in texts:
            for start in range(0, text.length, CHUNK_BYTES):
                yield self.read(Text(text.offset + start, min(CHUNK_BYTES, text.length - start)))

    def forget(self, text: Text) -> None:
        """Give up the text that was added last, and those before it from `text` on."""
        with self._lock:
            self._end = min(self._end, text.offset)


Made = Index | Constraint | Trigger | Attached | Code | None


@dataclass(frozen=True, slots=True)
class Post:
    """A statement of the post-data, or several of unknown kinds in a row."""

    made: Made
    text: Text
    tablespace: bytes = b""
    """The SET of the default tablespace in force."""
    of_data: bool = False
    """Whether it is of large objects, as their owners and rights are, which may stand between their bytes."""


@dataclass(frozen=True, slots=True)
class TableText:
    """A table that the dump makes."""

    made: Table
    text: Text
    is_heap: bool


@dataclass
class DumpReading:
    """What the proof has found; `text` is closed by whoever made it."""

    text: DumpText
    settings: dict[str, bytes] = field(default_factory=dict)
    """The SET lines in force at the end of the pre-data, each by its name, in order."""
    pre: Text = Text(0, 0)
    tables: dict[str, TableText] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    """Of a partition."""
    codes: list[tuple[Code, Text]] = field(default_factory=list)
    data: list[Range] = field(default_factory=list)
    """Sequences' positions and large objects: all data but rows."""
    post: list[Post] = field(default_factory=list)
    whole: str = ""
    """Why it can only be loaded as it is written, from its start to its end; empty where nothing hinders."""
    take: Callable[[bytes], bool] = lambda statement: False
    """Whether a statement is somebody else's: it is not loaded with the others, then."""

    def __post_init__(self) -> None:
        self._now: dict[str, bytes] = {}
        self._in_pre = True
        self._range_goes_on = False

    def on_statement(self, start: bytes, statement: bytes, span: Span) -> None:
        """The next one of the dump: its `start` as the lexer has it, and its text, which of rows is not needed."""
        if ROWS.match(start):
            self._on_data(start, span)
            return
        if statement == OF_NEWER_SERVERS or self.take(statement):
            return
        if _AS_OTHERS.match(start):
            self._refuse("it is written for a session that acts as other roles (SET SESSION AUTHORIZATION)")
        text = self.text.add(statement)
        self._note_setting(statement)
        if self._in_pre:
            self.pre = Text(0, text.offset + text.length)
            self._on_pre(statement, text)
        else:
            self._on_post(start, statement, text)

    def _on_data(self, start: bytes, span: Span) -> None:
        if self._in_pre:
            self._in_pre = False
            self.settings = dict(self._now)
        if start.startswith(b"INSERT"):
            self._refuse("its rows are INSERT statements")
        is_range = not start.startswith(b"COPY")
        if is_range and self._range_goes_on:
            self.data[-1] = Range(self.data[-1].start, span.end + 1)
        elif is_range:
            self.data.append(Range(span.start, span.end + 1))
        self._range_goes_on = is_range
        if not self.post:
            return
        if stranger := next((each for each in self.post if not each.of_data), None):
            head = self.text.read(Text(stranger.text.offset, min(60, stranger.text.length)))
            self._refuse(f"there is a statement between its rows, {head.decode('utf-8', 'replace').strip()}")
        else:  # what stands between a large object and the next is read from the file, as its bytes are
            self.text.forget(self.post[0].text)
            self.post.clear()

    def _refuse(self, why: str) -> None:
        self.whole = self.whole or why

    def _note_setting(self, statement: bytes) -> None:
        if found := _SETTING.match(statement):
            name = found["name"].decode()
            self._now.pop(name, None)
            self._now[name] = statement
        elif statement.startswith(_SEARCH_PATH):
            self._now["search_path"] = statement

    def _on_pre(self, statement: bytes, text: Text) -> None:
        made = statement_kinds.read(statement)
        if isinstance(made, Table):
            self.tables[made.table] = TableText(made, text, self._now.get(_ACCESS_METHOD, b"") in HEAP)
        elif isinstance(made, Attached) and not made.of_index:
            self.parents[made.child] = made.parent
        elif isinstance(made, Code):
            self.codes.append((made, text))

    def _on_post(self, start: bytes, statement: bytes, text: Text) -> None:
        made = statement_kinds.read(statement)
        of_data = DATA.match(start) is not None
        if isinstance(made, Table):
            self._refuse(f"it makes the table {made.table} behind its rows")
            self.tables[made.table] = TableText(made, text, is_heap=False)
            made = None
        before = self.post[-1] if self.post else None
        if made is None and before is not None and before.made is None and before.of_data == of_data:
            text = Text(before.text.offset, before.text.length + text.length)
            self.post[-1] = Post(None, text, of_data=of_data)
            return
        self.post.append(Post(made, text, self._now.get(_TABLESPACE, b""), of_data))
