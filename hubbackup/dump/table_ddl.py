"""The DDL of one table, out of a dump's schema: all that makes it, and all that names it as its own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hubbackup.dump.dump_statements import NAME
from hubbackup.dump.statement_subjects import Kind, Name, Subject, parts, shown, subject_of
from hubbackup.dump.table_columns import Column, columns_of

_SETTING = re.compile(rb"SET (default_tablespace|default_table_access_method) = ")
_PRIMARY_KEY = re.compile(
    rb"\bADD (?:CONSTRAINT " + NAME + rb" )?PRIMARY KEY \((" + NAME + rb"(?: WITHOUT OVERLAPS)?(?:, " + NAME
    + rb"(?: WITHOUT OVERLAPS)?)*)\)"
)  # fmt: skip
_OWN: frozenset[Kind] = frozenset({"table", "view", "materialized view", "sequence"})


@dataclass(frozen=True)
class Piece:
    """One statement of a table's DDL, with its semicolon, in the dump's own encoding.

    `subject` None: a setting that the next piece needs. `after_data`: it stands behind the rows.
    """

    kind: Kind
    text: bytes
    subject: Subject | None = None
    after_data: bool = False


@dataclass(frozen=True)
class TableDdl:
    """All of it, in the dump's order. `table` as a manifest has it; no pieces: the dump does not make it.

    `settings` are those that a session needs before any of the pieces: encoding, strings, search_path.
    `primary_key` are the key's columns, in its order; empty where it has none. `columns` as CREATE TABLE has them:
    those that are inherited stand in the parent only.
    """

    table: str
    settings: tuple[bytes, ...]
    pieces: tuple[Piece, ...]
    columns: tuple[Column, ...] = ()
    primary_key: tuple[str, ...] = ()

    def text(self, *kinds: Kind) -> bytes:
        """The statements of these kinds, or all, a blank line between two."""
        return b"\n\n".join(piece.text for piece in self.pieces if not kinds or piece.kind in kinds)


def table_ddl(statements: Iterable[bytes], table: str) -> TableDdl:
    """What the `statements` of a schema, in the dump's order, say of `table`, by its name as a manifest has it."""
    reader = _Reader([parts(table)])
    settings: list[bytes] = []
    begun = False
    for statement in statements:
        begun = begun or statement.startswith(b"CREATE ")
        if not begun and statement.startswith((b"SET ", b"SELECT pg_catalog.set_config(")):
            settings.append(statement)
        reader.take(statement)
    pieces = tuple(reader.pieces)
    made = next((piece.text for piece in pieces if piece.kind == "table"), b"")
    keys = (_PRIMARY_KEY.search(piece.text) for piece in pieces if piece.kind == "constraint")
    key = next(filter(None, keys), None)
    names = re.findall(NAME, key[1].replace(b" WITHOUT OVERLAPS", b"")) if key else []
    return TableDdl(table, tuple(settings), pieces, columns_of(made), tuple(parts(shown(name))[0] for name in names))


def ddl_of_several(statements: Iterable[bytes], tables: Iterable[Name], behind: Iterable[bytes]) -> list[Piece]:
    """The pieces of all `tables` together, in the dump's order; `behind` are the statements that follow its data."""
    reader = _Reader(tables)
    for statement in statements:
        reader.take(statement)
    reader.after_data = True
    for statement in behind:
        reader.take(statement)
    return reader.pieces


class _Reader:
    """Takes the statements of a schema, and keeps what is some tables' own."""

    def __init__(self, tables: Iterable[Name]) -> None:
        self.pieces: list[Piece] = []
        self.after_data = False
        self._tables = frozenset(tables)
        self._own = set(self._tables)
        """The tables, and the indexes, constraints and sequences that belong to them."""
        self._sequences: dict[Name, list[Piece]] = {}
        """Those that nobody owns yet."""
        self._in_force: dict[bytes, bytes] = {}
        self._told: dict[bytes, bytes] = {}

    def take(self, statement: bytes) -> None:
        """The next one."""
        if setting := _SETTING.match(statement):
            self._in_force[setting[1]] = statement
            return
        subject = subject_of(statement)
        if subject is None:
            return
        piece = Piece(subject.kind, statement, subject, self.after_data)
        if subject.kind == "sequence":
            self._sequences[subject.makes] = [piece]
        elif not self._is_ours(subject):
            if subject.of[0] in self._sequences:
                self._sequences[subject.of[0]].append(piece)
        else:
            self._keep(subject, piece)

    def _is_ours(self, subject: Subject) -> bool:
        if subject.kind in _OWN:
            return subject.of[0] in self._tables
        return any(name in self._own for name in subject.of)

    def _keep(self, subject: Subject, piece: Piece) -> None:
        if subject.makes:
            self._own.add(subject.makes)
        if subject.kind == "owned by":
            self.pieces += self._sequences.pop(subject.makes, [])
        if subject.kind in ("table", "index", "constraint"):
            self._set(b"default_tablespace")
        if subject.kind in _OWN:
            self._set(b"default_table_access_method")
        self.pieces.append(piece)

    def _set(self, name: bytes) -> None:
        """Say what is in force where the next piece depends on it, unless that was said."""
        statement = self._in_force.get(name)
        if statement is not None and self._told.get(name) != statement:
            self._told[name] = statement
            self.pieces.append(Piece("property", statement, None, self.after_data))
