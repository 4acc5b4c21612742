"""A plain dump as psql reads it: statements, backslash commands, and the rows of `COPY … FROM stdin;`.

Each state of the lexer is a method `(data, position) -> new position`. What a chunk's end leaves undecided
(at most a word, or the start of a closing tag) is held back for the next chunk, so chunks may be cut
anywhere; strings, comments and rows pass by and are never gathered.

Two differences from psql, for text that pg_dump never writes: an E'' string does not go on after a line end,
and `BEGIN` opens a body only before `ATOMIC` (psql goes by `BEGIN` alone, and stumbles over a function of
that name, whose dump is whole all the same).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO
from typing import Protocol

_STATEMENT_BYTES = 1024  # of a statement's start: two quoted names of 63 doubled quotes fit in 257
_STATEMENT_END_BYTES = 320  # the name of a role fits in, and what may follow it
_META_BYTES = 4096
_HELD_BYTES = 1 << 20

# The words of psql's own scanner, psqlscan.l. A dollar sign inside of a word opens no dollar quote.
WORD = rb"[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*+"
_TAG = rb"\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*+)?\$"
_KEYWORD = rb"(?i:ATOMIC|CASE|END)(?![A-Za-z0-9_$\x80-\xff])"
_JOINING = bytes(c for c in range(256) if c >= 0x80 or chr(c).isalnum() or chr(c) in "_$/-")
# What lies between statements; a comment that the chunk cuts is left to its own state.
_BLANK = re.compile(rb"(?:\s++|--[^\r\n]*+[\r\n])*+")
# All that means nothing to the lexer, in one go, then the token that does, or nothing at the end of the data.
_TOKEN = re.compile(
    rb"(?:[^A-Za-z0-9_\x80-\xff'\"$/\\();-]++|\"[^\"]*+\""
    rb"|(?!" + _KEYWORD + rb"|[eE]')" + WORD + rb"|[0-9]++|-(?!-)|/(?!\*)|(?!" + _TAG + rb")\$[0-9]*+)*+"
    rb"([eE]'|['\"();\\]|--|/\*|" + _TAG + rb"|" + _KEYWORD + rb"|)"
)
_ESCAPED = re.compile(rb"(?:[^'\\]++|\\.|'')*+", re.DOTALL)
_LINE_END = re.compile(rb"[\r\n]")
_COMMENT_EDGE = re.compile(rb"/\*|\*/")

_ROUTINE = re.compile(rb"CREATE (?:OR REPLACE )?(?:FUNCTION|PROCEDURE)\s", re.IGNORECASE)
_STRINGS = re.compile(rb"SET\s+standard_conforming_strings\s*(?:=|\sTO\s)\s*(on|off)\b", re.IGNORECASE)

_END_OF_ROWS = b"\\.\n"


class Listener(Protocol):
    """Who is told what a dump holds, in its order."""

    def on_statement(self, start: bytes, end: bytes) -> str:
        """A statement came to its semicolon. Returns the table's name where its rows follow, else nothing.

        `start` and `end` are its first 1024 and last 320 bytes, with strings emptied and comments made blanks.
        """

    def on_meta_command(self, command: bytes) -> None:
        """A backslash command, without its backslash and cut to 4096 bytes."""

    def on_rows(self, rows: int) -> None:
        """So many more rows of the last COPY statement went by."""


class Lexer:
    """Reads a plain dump in chunks and tells `listener` what goes by.

    `inside` says in words what the last byte left open, and is empty between statements. `fault` is set, and
    the rest passes unread, once the bytes are nothing that pg_dump writes.
    """

    def __init__(self, listener: Listener) -> None:
        self.fault = ""
        self._listener = listener
        self._read: Callable[[bytes, int], int] = self._sql
        self._inside = ""
        self._held = b""
        self._whole_until = 0
        self._statement = b""
        self._statement_end = b""
        self._parentheses = 0
        self._body_depth = 0
        self._standard_strings = True
        self._tag = b""
        self._comment_depth = 0
        self._meta = b""
        self._at_line_start = True

    @property
    def inside(self) -> str:
        """What is open, for an error's sentence; empty between statements."""
        return self._inside or ("a statement" if self._statement or self._held else "")

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes."""
        data = self._held + chunk if self._held else chunk
        self._held = b""
        self._whole_until = _whole_words(data)
        position = 0
        while position < len(data):
            position = self._read(data, position)

    def _give_up(self, fault: str) -> None:
        self.fault = fault
        self._enter(self._ignore)

    def _ignore(self, data: bytes, position: int) -> int:
        return len(data)

    def _enter(self, state: Callable[[bytes, int], int], inside: str = "") -> None:
        self._read = state
        self._inside = inside

    def _leave(self, end: int, data: bytes) -> int:
        """Back to SQL at `end`; or, where no end was found (0), on to the next chunk."""
        if end:
            self._enter(self._sql)
        return end or len(data)

    def _hold(self, data: bytes, position: int) -> int:
        """Keep what only the next chunk can decide."""
        self._held = data[position:]
        if len(self._held) > _HELD_BYTES:
            self._held = b""
            self._give_up("it has a word of more than 1 MiB, which pg_dump never writes")
        return len(data)

    # -- SQL

    def _sql(self, data: bytes, position: int) -> int:
        # Past the last whole word only a token with something behind it is certain.
        whole = position < self._whole_until
        limit = self._whole_until if whole else len(data)
        if not self._statement:
            blank = _BLANK.match(data, position, limit)
            position = blank.end() if blank else position
        match = _TOKEN.match(data, position, limit)
        assert match is not None  # noqa: S101 - each part of the pattern may be empty
        if not whole and match.end() == len(data):
            return self._hold(data, position)
        self._add(data[position : match.start(1)])
        token = match[1]
        if token == b";":
            self._end_statement()
        elif token == b'"':
            self._add(token)
            self._enter(self._quoted_name, "a quoted name")
        elif token == b"--":
            self._add(b" ")
            self._enter(self._line_comment, "a comment")
        elif token == b"/*":
            self._add(b" ")
            self._comment_depth = 1
            self._enter(self._block_comment, "a comment")
        elif token.endswith(b"'"):
            self._add(b"''")
            plain = token == b"'" and self._standard_strings
            self._enter(self._string if plain else self._escape_string, "a string")
        elif token.startswith(b"$"):
            self._add(b"''")
            self._tag = token
            self._enter(self._dollar_quote, "a dollar-quoted string")
        elif token == b"\\":
            self._meta = b""
            self._enter(self._meta_command, "a backslash command")
        else:
            self._nest(token)
            self._add(token)
        return match.end()

    def _add(self, piece: bytes) -> None:
        """Remember the start and the end of the statement; blanks and comments start none."""
        if not self._statement:
            piece = piece.lstrip()
        room = _STATEMENT_BYTES - len(self._statement)
        if room > 0:
            self._statement += piece[:room]
        self._statement_end = (self._statement_end + piece[-_STATEMENT_END_BYTES:])[-_STATEMENT_END_BYTES:]

    def _nest(self, token: bytes) -> None:
        """Follow parentheses, BEGIN ATOMIC … END and the CASE … END inside: semicolons there end nothing."""
        if token == b"(":
            self._parentheses += 1
        elif token == b")":
            self._parentheses = max(0, self._parentheses - 1)
        elif not token or self._parentheses or not _ROUTINE.match(self._statement):
            return
        elif token.upper() == b"ATOMIC":
            self._body_depth += self._statement_end.rstrip().upper().endswith(b"BEGIN")
        elif self._body_depth:
            self._body_depth += 1 if token.upper() == b"CASE" else -1

    def _end_statement(self) -> None:
        if self._parentheses or self._body_depth:
            self._add(b";")
            return
        start, end = self._statement, self._statement_end
        self._statement = self._statement_end = b""
        if strings := _STRINGS.match(start):
            self._standard_strings = strings[1].lower() == b"on"
        if table := self._listener.on_statement(start, end):
            self._enter(self._rows_ahead, f"the rows of {table}")

    def _quoted_name(self, data: bytes, position: int) -> int:
        # A doubled quote ends one name and starts the next: the same bytes, with nothing between.
        end = data.find(b'"', position) + 1
        self._add(data[position : end or len(data)])
        return self._leave(end, data)

    def _string(self, data: bytes, position: int) -> int:
        # Here too a doubled quote ends one string and starts the next.
        return self._leave(data.find(b"'", position) + 1, data)

    def _escape_string(self, data: bytes, position: int) -> int:
        match = _ESCAPED.match(data, position)
        end = match.end() if match else len(data)
        if end >= len(data) - 1:  # a last quote or backslash means nothing without the byte that follows it
            return self._hold(data, end)
        return self._leave(end + 1, data)

    def _dollar_quote(self, data: bytes, position: int) -> int:
        found = data.find(self._tag, position)
        if found < 0:
            return self._hold(data, max(position, len(data) - len(self._tag) + 1))
        return self._leave(found + len(self._tag), data)

    def _line_comment(self, data: bytes, position: int) -> int:
        match = _LINE_END.search(data, position)
        return self._leave(match.end() if match else 0, data)

    def _block_comment(self, data: bytes, position: int) -> int:
        match = _COMMENT_EDGE.search(data, position)
        if match is None:
            return self._hold(data, len(data) - data.endswith((b"/", b"*"), position))
        self._comment_depth += 1 if match[0] == b"/*" else -1
        return match.end() if self._comment_depth else self._leave(match.end(), data)

    def _meta_command(self, data: bytes, position: int) -> int:
        end = data.find(b"\n", position) + 1
        self._meta += data[position : end or len(data)][: _META_BYTES - len(self._meta)]
        self._leave(end, data)
        if end:
            self._listener.on_meta_command(self._meta.strip())
        return end or len(data)

    # -- rows: in COPY's text format a newline byte ends a row, always (one inside of a value is written `\n`)

    def _rows_ahead(self, data: bytes, position: int) -> int:
        if data[position] != ord("\n"):
            self._give_up("a COPY statement does not end its line, as pg_dump's do")
        else:
            self._at_line_start = True
            self._enter(self._rows, self._inside)
        return position + 1

    def _rows(self, data: bytes, position: int) -> int:
        if not self._at_line_start:
            end = data.find(b"\n", position) + 1
            self._at_line_start = end > 0
            self._listener.on_rows(int(self._at_line_start))
            return end or len(data)
        narrow = _has_narrow_rows(data, position)
        end_of_rows = _find_end_of_rows(data, position, narrow)
        if end_of_rows >= 0:
            self._listener.on_rows(data.count(b"\n", position, end_of_rows))
            return self._leave(end_of_rows + len(_END_OF_ROWS), data)
        self._listener.on_rows(_count_lines(data, position, narrow))
        last_line = max(position, data.rfind(b"\n") + 1)
        if _END_OF_ROWS.startswith(data[last_line : last_line + len(_END_OF_ROWS)]):
            return self._hold(data, last_line)
        self._at_line_start = False
        return len(data)


def _whole_words(data: bytes) -> int:
    """How far SQL in `data` can be read: a word or operator at its very end may go on in the next chunk."""
    near_end = data[-64:]
    kept = near_end.rstrip(_JOINING)
    return len(data) - len(near_end) + len(kept) if kept else len(data.rstrip(_JOINING))


# Python's own loops over bytes do about 1 GB/s; what rests on memchr does 3 to 13, but pays for each line. So
# wide rows, the bulk of most large dumps, go line by line through memchr, and narrow ones byte by byte.


def _has_narrow_rows(data: bytes, position: int) -> bool:
    """True where the next rows average less than about 50 bytes."""
    return data.count(b"\n", position, position + 4096) > 80


def _find_end_of_rows(data: bytes, position: int, narrow: bool) -> int:
    r"""Where the line `\.` starts, looked for from `position`, a line's start; -1 where there is none."""
    if narrow:
        if data.startswith(_END_OF_ROWS, position):
            return position
        found = data.find(b"\n" + _END_OF_ROWS, position)
        return found + 1 if found >= 0 else -1
    lines = BytesIO(data)  # shares the bytes; `in` compares its lines one by one without a step in Python
    lines.seek(position)
    return lines.tell() - len(_END_OF_ROWS) if _END_OF_ROWS in lines else -1


def _count_lines(data: bytes, position: int, narrow: bool) -> int:
    """The newlines in `data` from `position` on."""
    if narrow:
        return data.count(b"\n", position)
    return len(data) - len(data.replace(b"\n", b"")) - data.count(b"\n", 0, position)
