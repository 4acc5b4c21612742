"""A plain dump as psql reads it: statements, backslash commands, and the rows of `COPY … FROM stdin;`.

Each state of the lexer is a method `(data, position) -> new position`. What a chunk's end leaves undecided
(at most a word, or the start of a closing tag) is held back for the next chunk, so chunks may be cut
anywhere; strings, comments and rows pass by and are never gathered.

It is an allow-list. Where psqls differ from one another, or from the server, or where it takes more than this to
read as they do, pg_dump writes nothing of the kind, and it is a fault: `/* */`, a carriage return outside of a
string, NUL, a number that runs into a word, psql's variables, a statement that does not end its line.

One difference from psql stays: psql takes any `BEGIN` in `CREATE FUNCTION` for the start of a body, and can't read
on after a function of that name, whose dump is whole all the same. `stumbles_at` names it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Protocol

from hubbackup.dump.copy_blocks import Span
from hubbackup.dump.dump_rows import END_OF_ROWS, count_lines, find_end_of_rows, has_narrow_rows, has_other_end
from hubbackup.dump.dump_statements import WORD, misreads, standard_strings
from hubbackup.dump.dump_tokens import (
    BIT_OPENINGS,
    BLANK,
    ESCAPED,
    FAULTS,
    FIRST_WORDS,
    LINE_END,
    NEVER,
    PLAIN_OPENINGS,
    TOKEN,
    whole_words,
)

__all__ = ["WORD", "Lexer", "Listener"]

_STATEMENT_BYTES = 1024  # of a statement's start: two quoted names of 63 doubled quotes fit in 257
WHOLE = (b"COPY", b"CREATE POLICY ")
WHOLE_BYTES = 512 << 10
"""These statements are kept whole, for their lists of roles and columns: 1600 names of 63 quotes, doubled, take 208
KiB."""
_STATEMENT_END_BYTES = 320  # the name of a role fits in, and what may follow it
_STRING_BYTES = 128  # of a statement's first string: a name of 63 quotes, doubled
_META_BYTES = 4096
_HELD_BYTES = 1 << 20
_NO_TEXT = sys.maxsize


_AS_ROLE = re.compile(rb"(SET SESSION AUTHORIZATION )(?:'')+")


class Listener(Protocol):
    """Who is told what a dump holds, in its order."""

    def on_statement(self, start: bytes, end: bytes, span: Span) -> str:
        """A statement came to its semicolon. Returns the table's name where its rows follow, else nothing.

        `start` and `end` are its first 1024 and last 320 bytes, with strings emptied and comments made blanks;
        of COPY and CREATE POLICY `start` is all of it, up to 512 KiB. A role that is written as a string, in `SET
        SESSION AUTHORIZATION 'name'`, has become a quoted name. `span` is where all of it stands in the dump.
        """

    def on_text(self, piece: bytes) -> None:
        """The next bytes of a statement, as they are written; comments and what lies between statements are not."""

    def on_meta_command(self, command: bytes) -> None:
        """A backslash command's line, without its backslash and line end; at most 4096 bytes."""

    def on_rows(self, rows: int, data: memoryview, offset: int) -> None:
        """More of the last COPY statement's rows, of which so many end in `data`, which stands at `offset`."""


class Lexer:
    """Reads a plain dump in chunks and tells `listener` what goes by.

    `inside` says in words what the last byte left open, and is empty between statements. `fault` is set, and
    the rest passes unread, once the bytes are nothing that pg_dump writes. `stumbles_at` is the start of the first
    statement that psql can't read to its end, empty where there is none.
    """

    def __init__(self, listener: Listener) -> None:
        self.fault = ""
        self.stumbles_at = ""
        self._listener = listener
        self._read: Callable[[bytes, int], int] = self._sql
        self._inside = ""
        self._held = b""
        self._whole_until = 0
        self._base = 0  # where in the dump the data that is being read begins
        self._next_base = 0
        self._start = 0  # where in the dump the statement begins
        self._statement = b""
        self._statement_end = b""
        self._first_string: bytes | None = None
        self._keeps_string = False
        self._parentheses = 0
        self._body_depth = 0
        self._begins = 0
        self._standard_strings = True
        self._tag = b""
        self._meta = b""
        self._at_line_start = True
        self._text_from = 0  # where in the data the part of the statement begins that was not told yet

    @property
    def inside(self) -> str:
        """What is open, for an error's sentence; empty between statements."""
        return self._inside or ("a statement" if self._statement or self._held else "")

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes."""
        if b"\0" in chunk:
            self._give_up("it has a NUL byte" + NEVER)
        data = self._held + chunk if self._held else chunk
        self._base = self._next_base - len(self._held)
        self._next_base += len(chunk)
        self._held = b""
        self._whole_until = whole_words(data)
        position = 0
        while position < len(data):
            position = self._read(data, position)
        if self._text_from != _NO_TEXT:
            self._tell_text(data, len(data) - len(self._held), 0)

    def pass_rows(self, row_bytes: int) -> None:
        """So many bytes of rows that begin here are not read: the next chunk begins behind them."""
        if self._read != self._rows or self._held or not self._at_line_start:
            self._give_up("its rows do not begin where its index has them")
        self._next_base += row_bytes

    def _tell_text(self, data: bytes, end: int, go_on_at: int = _NO_TEXT) -> None:
        """Tell of the statement's bytes up to `end`; those from `go_on_at` on are told later, if any."""
        if self._statement and self._text_from < end:
            self._listener.on_text(data[self._text_from : end])
        self._text_from = go_on_at

    def _give_up(self, fault: str) -> int:
        """Set the fault, the first one for good, and read nothing more; returns where to go on, behind any data."""
        self.fault = self.fault or fault
        self._enter(self._ignore)
        return sys.maxsize

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
            self._give_up("it has a word of more than 1 MiB" + NEVER)
        return len(data)

    # -- SQL

    def _sql(self, data: bytes, position: int) -> int:
        # Past the last whole word only a token with something behind it is certain.
        whole = position < self._whole_until
        limit = self._whole_until if whole else len(data)
        if not self._statement:
            blank = BLANK.match(data, position, limit)
            self._text_from = position = blank.end() if blank else position
            self._start = self._base + position
        match = TOKEN.match(data, position, limit)
        assert match is not None  # noqa: S101 - each part of the pattern may be empty
        token = match[1]
        if not whole and (match.end() == len(data) or token == b":" or token.isdigit()):
            return self._hold(data, position)
        self._add(data[position : match.start(1)])
        if token == b";":
            self._end_statement(data, match.end())
        elif token.endswith(b"'") and not token.startswith((b"u", b"U")):
            return self._open_string(token, match.end())
        elif token == b"--":
            self._add(b" ")
            self._tell_text(data, match.start(1))
            self._enter(self._line_comment, "a comment")
        elif len(token) > 1 and token.startswith(b"$"):
            self._add(b"''")
            self._tag = token
            self._enter(self._dollar_quote, "a dollar-quoted string")
        elif token == b'"':
            self._add(token)
            self._enter(self._quoted_name, "a quoted name")
        elif token == b"\\":
            self._meta = b""
            self._tell_text(data, match.start(1))
            self._enter(self._meta_command, "a backslash command")
        elif token.isalpha() or token in (b"(", b")", b""):
            self._nest(token)
            self._add(token)
        else:
            return self._give_up(FAULTS[b"$" if token.isdigit() else token[:1].lower()] + NEVER)
        return match.end()

    def _open_string(self, opening: bytes, position: int) -> int:
        before = self._statement_end.rstrip()
        if before.endswith(b"''") and before != self._statement_end:
            # After a line end the second would go on as the first began, with escapes or without.
            return self._give_up("it has a string right after another" + NEVER)
        self._add(b"''")
        plain = opening in BIT_OPENINGS or (opening in PLAIN_OPENINGS and self._standard_strings)
        goes_on = self._keeps_string and before.endswith(b"''")  # behind a doubled quote
        if goes_on and self._first_string is not None:
            self._first_string = (self._first_string + b"'")[:_STRING_BYTES]
        self._keeps_string = goes_on or (opening in PLAIN_OPENINGS and self._first_string is None)
        self._first_string = self._first_string or b""
        self._enter(self._string if plain else self._escape_string, "a string")
        return position

    def _add(self, piece: bytes) -> None:
        """Remember the start and the end of the statement; blanks and comments start none."""
        if not self._statement:
            piece = piece.lstrip()
        room = _STATEMENT_BYTES - len(self._statement)
        if room < len(piece):
            kept_whole = (self._statement or piece).startswith(WHOLE)
            room += (WHOLE_BYTES - _STATEMENT_BYTES) * kept_whole
        if room > 0:
            self._statement += piece[:room]
        self._statement_end = (self._statement_end + piece[-_STATEMENT_END_BYTES:])[-_STATEMENT_END_BYTES:]

    def _nest(self, token: bytes) -> None:
        """Follow parentheses, BEGIN ATOMIC … END and the CASE … END inside: semicolons there end nothing."""
        if token == b"(":
            self._parentheses += 1
        elif token == b")":
            self._parentheses = max(0, self._parentheses - 1)
        elif (word := token.upper()) == b"COPY":
            # The server would take a second statement from what psql sends as one, and psql what follows for rows.
            if self._statement_end.rstrip().endswith(b";"):
                self._give_up("it has a COPY statement inside of another statement" + NEVER)
        elif self._parentheses:
            return
        elif word == b"BEGIN":
            self._begins += self._is_routine()
        elif word == b"ATOMIC":
            if self._begins and self._statement_end.rstrip().upper().endswith(b"BEGIN"):
                self._begins -= 1
                self._body_depth += 1
        elif self._body_depth:
            self._body_depth += {b"CASE": 1, b"END": -1}.get(word, 0)

    def _is_routine(self) -> bool:
        """psql goes by a statement's first unquoted words, whatever stands between them."""
        words: list[bytes] = []
        for match in FIRST_WORDS.finditer(self._statement):
            if match[1]:
                words.append(match[1].upper())
            if len(words) == 4:
                break
        else:
            if len(self._statement) >= _STATEMENT_BYTES:
                self._give_up("it has a statement of overlong names" + NEVER)
        if words[1:3] == [b"OR", b"REPLACE"]:
            del words[1:3]
        return words[:1] == [b"CREATE"] and words[1:2] in ([b"FUNCTION"], [b"PROCEDURE"])

    def _end_statement(self, data: bytes, position: int) -> None:
        if self._begins and not self.stumbles_at:
            self.stumbles_at = self._statement.partition(b"(")[0][:200].decode("utf-8", "replace")
        self._begins = 0
        if self._parentheses or self._body_depth:
            self._add(b";")
            return
        self._tell_text(data, position)
        start, end, string = self._statement, self._statement_end, self._first_string or b""
        self._statement = self._statement_end = b""
        self._first_string = None
        if fault := misreads(start, string):
            self._give_up(fault)
            return
        if (strings := standard_strings(start)) is not None:
            self._standard_strings = strings
        if as_role := _AS_ROLE.fullmatch(start):
            start = end = as_role[1] + b'"' + string.replace(b'"', b'""') + b'"'
        table = self._listener.on_statement(start, end, Span(self._start, self._base + position))
        self._enter(self._line_end, f"the rows of {table}" if table else "")

    def _line_end(self, data: bytes, position: int) -> int:
        # psql looks up what a string and a letter are at each line's start, and takes rows from the next line on.
        if data[position] != ord("\n"):
            return self._give_up("it has a statement that does not end its line" + NEVER)
        self._at_line_start = True
        self._text_from = _NO_TEXT if self._inside else position + 1
        self._enter(self._rows if self._inside else self._sql, self._inside)
        return position + 1

    def _quoted_name(self, data: bytes, position: int) -> int:
        # A doubled quote ends one name and starts the next: the same bytes, with nothing between.
        end = data.find(b'"', position) + 1
        self._add(data[position : end or len(data)])
        return self._leave(end, data)

    def _string(self, data: bytes, position: int) -> int:
        # Here too a doubled quote ends one string and starts the next.
        end = data.find(b"'", position) + 1
        self._keep_string(data, position, end - 1 if end else len(data))
        return self._leave(end, data)

    def _keep_string(self, data: bytes, start: int, end: int) -> None:
        """Remember the start of a statement's first string, as it is written."""
        if self._keeps_string and self._first_string is not None:
            piece = data[start : min(end, start + _STRING_BYTES)]
            self._first_string = (self._first_string + piece)[:_STRING_BYTES]

    def _escape_string(self, data: bytes, position: int) -> int:
        match = ESCAPED.match(data, position)
        end = match.end() if match else len(data)
        self._keep_string(data, position, end)
        if end >= len(data) - 1:  # a last quote or backslash means nothing without the byte that follows it
            return self._hold(data, end)
        return self._leave(end + 1, data)

    def _dollar_quote(self, data: bytes, position: int) -> int:
        found = data.find(self._tag, position)
        if found < 0:
            return self._hold(data, max(position, len(data) - len(self._tag) + 1))
        return self._leave(found + len(self._tag), data)

    def _line_comment(self, data: bytes, position: int) -> int:
        match = LINE_END.search(data, position)
        if match and match[0] == b"\r":
            return self._give_up(FAULTS[b"\r"] + NEVER)
        if match:
            self._text_from = match.start()  # a comment inside of a statement parts words
        return self._leave(match.end() if match else 0, data)

    def _meta_command(self, data: bytes, position: int) -> int:
        end = data.find(b"\n", position) + 1
        self._meta += data[position : end or len(data)][: _META_BYTES + 1]
        if len(self._meta) > _META_BYTES:
            return self._give_up("it has a backslash command of more than 4096 bytes" + NEVER)
        self._leave(end, data)
        if end:
            self._text_from = end
            self._listener.on_meta_command(self._meta[:-1])
        return end or len(data)

    # -- rows: in COPY's text format a newline byte ends a row, always (one inside of a value is written `\n`)

    def _rows(self, data: bytes, position: int) -> int:
        if not self._at_line_start:
            end = data.find(b"\n", position) + 1
            self._at_line_start = end > 0
            self._tell_rows(int(self._at_line_start), data, position, end or len(data))
            return end or len(data)
        narrow = has_narrow_rows(data, position)
        end_of_rows = -1
        if data.find(b"\\", position) >= 0:  # a byte that is not there costs least to look for
            end_of_rows = find_end_of_rows(data, position, narrow)
            if has_other_end(data, position, end_of_rows if end_of_rows >= 0 else len(data)):
                return self._give_up("it has a carriage return after the end of rows" + NEVER)
        if end_of_rows >= 0:
            self._tell_rows(data.count(b"\n", position, end_of_rows), data, position, end_of_rows)
            self._text_from = end_of_rows + len(END_OF_ROWS)
            return self._leave(end_of_rows + len(END_OF_ROWS), data)
        last_line = max(position, data.rfind(b"\n") + 1)
        is_open = END_OF_ROWS.startswith(data[last_line : last_line + len(END_OF_ROWS)])
        self._tell_rows(count_lines(data, position, narrow), data, position, last_line if is_open else len(data))
        if is_open:
            return self._hold(data, last_line)
        self._at_line_start = False
        return len(data)

    def _tell_rows(self, rows: int, data: bytes, start: int, end: int) -> None:
        self._listener.on_rows(rows, memoryview(data)[start:end], self._base + start)
