"""The census: exact rows per table, read from a plain dump as it streams by, and proof that it is whole.

A dump says of itself that it is complete, in a comment on its last lines. That proves something only where
psql would read it as a comment: a row, a string or a function's body may hold the same text. So the bytes are
read as psql reads them, and the words count only between statements.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from hubbackup.dump.copy_blocks import CopyBlock, CopyBlocks, Cuts, Span
from hubbackup.dump.dump_lexer import Lexer
from hubbackup.dump.dump_schema import ROWS, SchemaReader
from hubbackup.dump.dump_statements import COPY, NAME, is_of_a_database, is_of_pg_dump
from hubbackup.dump.file_kinds import kind_of
from hubbackup.dump.requirements import NO_REQUIREMENTS, Requirements, RequirementsFinder
from hubbackup.dump.versions import major_of
from hubbackup.errors import NotProvenError

_EDGE_BYTES = 4096  # of the dump's start and end, kept to look for header and trailer
_META_COMMANDS = 100
_UNPAIRED = r"its \restrict and \unrestrict lines do not pair up"
_REMEDY = "do not rely on this dump: take a new one, and keep the older backups until it is proven"

_KNOWN_MAJOR = 18
"""Of pg_dump: a newer one may write statements that are not known here."""

_FIRST_LINES = b"--\n-- PostgreSQL database dump\n--\n\n"
_HEADER = re.compile(
    re.escape(_FIRST_LINES) + rb"(?:\\restrict (?P<key>[0-9A-Za-z]+)\n\n)?"
    rb"-- Dumped from database version (?P<server>[^\s]+).*\n"
    rb"-- Dumped by pg_dump version (?P<pg_dump>[^\s]+).*\n"
)
# Nothing in here can end a string, a quoted name, a comment in /* */ or a COPY block: a lexer that is between
# statements after these bytes was so before them. pg_dump ends with a blank line, so no cut goes unseen.
_TRAILER = re.compile(
    rb"\n--\n-- PostgreSQL database dump complete\n--\n\n(?:\\unrestrict (?P<key>[0-9A-Za-z]+)\n\n)?\s*\Z"
)

_TABLE = re.compile(rb"CREATE (?:UNLOGGED |FOREIGN )?TABLE ")
_EXTENSION = re.compile(rb"CREATE EXTENSION (?:IF NOT EXISTS )?(" + NAME + rb")")
_LARGE_OBJECT = re.compile(rb"SELECT pg_catalog\.lo_create\(")
_RESTRICT = re.compile(rb"(un)?restrict ([0-9A-Za-z]+)")

OnStatement = Callable[[bytes, bytes, Span], object]
"""Is given a statement's start as `Listener.on_statement` is, its text with its line end, and where it stands."""


@dataclass(frozen=True)
class DumpFacts:
    r"""What a whole dump holds.

    `rows` has every table with a COPY block, an empty one with 0, each with its own rows only (`ONLY` in SQL)
    and under its name as pg_dump quotes it. Partitioned parents and foreign tables have no block. A name that
    is not UTF-8 keeps its bytes as surrogate escapes.
    `table_count` counts CREATE TABLE statements: plain and unlogged tables, partitioned parents and
    partitions, foreign tables; no views of either kind.
    `extensions` are plain names, without quotes. Versions are the number alone (`17.6`, `18beta1`).
    `roles` are those that any statement names: plain names, sorted; `requirements` says what for.
    `meta_commands` are psql's backslash commands but `\restrict` and `\unrestrict`. An honest dump has none;
    with `pg_dump --create` a `\connect`, and before it an `\encoding SQL_ASCII` where the database's name is
    an odd one. The first 100 are kept.
    `psql_stops_at` is the start of a statement that psql can't read to its end, though all of it is there: a function
    named begin. `unknown` is that of a statement which a newer pg_dump than we know wrote. Else they are empty.
    `schema_digest` is the sha256 of all but the data, the same for two dumps of one schema.
    `blocks` are its COPY statements in its own order; a table can have several (`--load-via-partition-root`). Before
    `data_start`, in bytes of the dump, all is pre-data, and from `data_end` on all is post-data; where there is no
    data, both are at its end.
    """

    plain_bytes: int
    rows: dict[str, int]
    server_version: str
    pg_dump_version: str
    extensions: tuple[str, ...]
    large_objects: int
    table_count: int
    meta_commands: tuple[str, ...]
    roles: tuple[str, ...] = ()
    requirements: Requirements = NO_REQUIREMENTS
    psql_stops_at: str = ""
    unknown: str = ""
    schema_digest: str = ""
    blocks: tuple[CopyBlock, ...] = ()
    data_start: int = 0
    data_end: int = 0


class Census:
    """Counts a plain pg_dump as it streams by, in memory that grows with its tables and not with its rows.

    Feed every byte in order, in chunks of any size (64 KiB and more are fast, and `bytes` spare the copy that
    a memoryview costs), then ask for `finish`. `on_schema` is given the text of the schema on the way, `cuts` the
    places where a file of it may be entered, and `on_statement` each statement.
    """

    def __init__(
        self,
        on_schema: Callable[[bytes], object] | None = None,
        cuts: Cuts | None = None,
        on_statement: OnStatement | None = None,
    ) -> None:
        self._plain_bytes = 0
        self._first = b""
        self._last = b""
        schema = SchemaReader(on_schema, keep=on_statement is not None)
        self._counter = _Counter(schema, cuts, on_statement)
        self._lexer = Lexer(self._counter)

    def feed(self, data: memoryview | bytes) -> None:
        """Take the next bytes of the dump. What they hold never raises: that is for `finish` to judge."""
        chunk = bytes(data)
        self._plain_bytes += len(chunk)
        if len(self._first) < _EDGE_BYTES:
            self._first += chunk[: _EDGE_BYTES - len(self._first)]
        self._last = (self._last + chunk[-_EDGE_BYTES:])[-_EDGE_BYTES:]
        self._lexer.feed(chunk)

    def pass_rows(self, block: CopyBlock) -> None:
        """Its rows begin here, were counted before, and are not read again: `feed` goes on behind them."""
        self._plain_bytes += block.row_bytes
        self._lexer.pass_rows(block.row_bytes)
        if not self._lexer.fault:
            self._counter.pass_rows(block)

    @property
    def is_hopeless(self) -> bool:
        """Whether what came already is nothing that pg_dump writes, whatever follows: `finish` will raise."""
        first_lines = self._first[: len(_FIRST_LINES)]
        if self._lexer.fault or self._counter.fault or not _FIRST_LINES.startswith(first_lines):
            return True
        return len(self._first) == _EDGE_BYTES and _HEADER.match(self._first) is None

    def finish(self) -> DumpFacts:
        """The facts of a dump that is proven whole; of any other NotProvenError, naming what is missing."""
        header = _HEADER.match(self._first)
        trailer = _TRAILER.search(self._last)
        counter, lexer = self._counter, self._lexer
        if header is None:
            raise _not_proven(self._unlike_a_dump())
        if fault := lexer.fault or counter.fault:
            raise _not_proven(fault)
        if counter.of_database and not any(command.startswith("\\connect") for command in counter.meta_commands):
            raise _not_proven(f"it has a statement that pg_dump does not write: {counter.of_database}")
        if counter.unknown and major_of(_text(header["pg_dump"])) <= _KNOWN_MAJOR:
            raise _not_proven(f"it has a statement that pg_dump does not write: {counter.unknown}")
        if lexer.inside:
            raise _not_proven(f"it ends inside {lexer.inside}, after {self._plain_bytes} bytes")
        if trailer is None:
            raise _not_proven(f"it ends before pg_dump's last words, after {self._plain_bytes} bytes")
        if header["key"] != trailer["key"] or counter.restrict_key:
            raise _not_proven(_UNPAIRED)
        counter.blocks.finish()
        data_start = counter.blocks.data_start
        return DumpFacts(
            plain_bytes=self._plain_bytes,
            rows=dict(counter.rows),
            server_version=_text(header["server"]),
            pg_dump_version=_text(header["pg_dump"]),
            extensions=tuple(counter.extensions),
            large_objects=counter.large_objects,
            table_count=counter.table_count,
            meta_commands=tuple(counter.meta_commands),
            roles=tuple(sorted(counter.requirements.found().roles)),
            requirements=counter.requirements.found(),
            psql_stops_at=lexer.stumbles_at,
            unknown=counter.unknown,
            schema_digest=counter.schema.digest,
            blocks=tuple(counter.blocks.found),
            data_start=self._plain_bytes if data_start is None else data_start,
            data_end=self._plain_bytes if data_start is None else counter.blocks.data_end,
        )

    def _unlike_a_dump(self) -> str:
        if not self._plain_bytes:
            return "it is empty"
        kind = "" if self._first.startswith(_FIRST_LINES) else kind_of(self._first)
        return f"it does not start with pg_dump's header{f': it is {kind}' if kind else ''}"


class _Counter:
    """Listens to the lexer: recognizes pg_dump's statements and adds up."""

    def __init__(self, schema: SchemaReader, cuts: Cuts | None, on_each: OnStatement | None) -> None:
        self.schema = schema
        self._on_each = on_each
        self.blocks = CopyBlocks()
        self._cuts = cuts
        self.on_text = schema.on_text
        self.fault = ""
        self.unknown = ""
        self.of_database = ""
        self.rows: dict[str, int] = {}
        self.extensions: list[str] = []
        self.large_objects = 0
        self.table_count = 0
        self.meta_commands: list[str] = []
        self.requirements = RequirementsFinder()
        self.restrict_key = b""
        self._table = ""

    def on_statement(self, start: bytes, end: bytes, span: Span) -> str:
        """Count it; the table's name where rows follow, else nothing."""
        text = self.schema.on_statement(start)
        if self._on_each is not None:
            self._on_each(start, text, span)
        if self._cuts is not None:
            self._cuts.on_statement(span.start)
        if start.startswith(b"COPY"):
            return self._on_copy(start, span)
        self.blocks.on_statement(span, brings_data=ROWS.match(start) is not None)
        if not self.unknown and not is_of_pg_dump(start):
            self.unknown = _text(start[:100])
        if not self.of_database and is_of_a_database(start):
            self.of_database = _text(start[:100])
        if _TABLE.match(start):
            self.table_count += 1
        elif _LARGE_OBJECT.match(start):
            self.large_objects += 1
        elif extension := _EXTENSION.match(start):
            self.extensions.append(_unquoted(_text(extension[1])))
        else:
            self._note_roles(start, end)
        return ""

    def _note_roles(self, start: bytes, end: bytes) -> None:
        self.requirements.note(start, end)

    def _on_copy(self, statement: bytes, span: Span) -> str:
        copy = COPY.fullmatch(statement)
        if copy is None:
            self.fault = self.fault or "it has a COPY statement that is not of pg_dump's making"
            return ""
        self._table = _text(copy[1])
        self.rows.setdefault(self._table, 0)
        self.blocks.on_copy(self._table, span)
        return self._table

    def on_rows(self, rows: int, data: memoryview, offset: int) -> None:
        """Add to the table whose COPY statement came last."""
        self.rows[self._table] += rows
        self.blocks.on_rows(rows, data)
        if rows and self._cuts is not None:
            self._cuts.on_rows(data, offset)

    def pass_rows(self, block: CopyBlock) -> None:
        """All rows of the table whose COPY statement came last, as they were counted before."""
        self.rows[self._table] += block.rows
        self.blocks.pass_rows(block)

    def on_meta_command(self, command: bytes) -> None:
        """Pair up `restrict` and `unrestrict`, as psql does, and list all others."""
        bracket = _RESTRICT.fullmatch(command)
        if bracket is None and not command.startswith((b"restrict", b"unrestrict")):
            if len(self.meta_commands) < _META_COMMANDS:
                self.meta_commands.append("\\" + _text(command.strip()))
        elif bracket and not bracket[1] and not self.restrict_key:
            self.restrict_key = bracket[2]
        elif bracket and bracket[1] and bracket[2] == self.restrict_key:
            self.restrict_key = b""
        else:
            self.fault = self.fault or _UNPAIRED


def _not_proven(why: str) -> NotProvenError:
    return NotProvenError(f"the dump is not proven whole: {why}", remedy=_REMEDY)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
