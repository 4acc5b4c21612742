"""The rows of one table, out of a backup or out of the live database, in the same form."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hubbackup.contents.row_comparison import Row
from hubbackup.contents.tables import Table, Tables, columns_of
from hubbackup.dump.copy_text import rows as rows_of
from hubbackup.dump.identifiers import plain_name, unescaped
from hubbackup.dump.table_ddl import TableDdl, table_ddl

Block = tuple[tuple[str, ...], Iterator[bytes]]
"""Some rows of a table: their columns, and COPY's text in chunks of any size."""


class TableRows(Protocol):
    """A table of one side of a comparison. `where`: the side, for people; `title`: the table. `key`: its primary key.

    `row_bytes`: about how many there are, 0 where that is not known.
    `digest`: equal for equal rows in equal order, where those of the other side are of the same kind; else empty.
    """

    @property
    def where(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def key(self) -> tuple[str, ...]: ...
    @property
    def encoding(self) -> str: ...
    @property
    def digest(self) -> tuple[str, ...]: ...
    @property
    def row_bytes(self) -> int: ...

    def columns(self) -> tuple[str, ...]:
        """Those that its rows have, as the first of them stand there."""
        ...

    def blocks(self) -> Iterator[Block]:
        """All its rows. Each block is to be read to its end before the next. Raises HubbackupError."""
        ...


@dataclass
class StoredRows:
    """A table of a backup."""

    where: str
    tables: Tables
    table: Table
    ddl: TableDdl = field(init=False)
    title: str = field(init=False)
    key: tuple[str, ...] = field(init=False)
    encoding: str = field(init=False)
    digest: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        statements = itertools.chain(self.tables.pre_data, self.tables.post_data())
        self.ddl = table_ddl(statements, self.table.name)
        self.title, self.encoding = self.table.title, self.tables.encoding
        self.key = tuple(_plain(column, self.encoding) for column in self.ddl.primary_key)
        kind = self.tables.parts.index.digest_kind
        self.digest = (kind, *(block.digest for block in self.table.blocks)) if kind else ()

    @property
    def row_bytes(self) -> int:
        """As the index has them."""
        return sum(block.row_bytes for block in self.table.blocks)

    def columns(self) -> tuple[str, ...]:
        """Of the first block; of a table that has none those of its DDL."""
        for block in self.table.blocks:
            head = b"".join(self.tables.parts.plain(block.offset, block.offset + block.head_bytes))
            return self._names(head)
        made = [one for one in self.ddl.columns if "GENERATED ALWAYS AS (" not in one.rest]
        return tuple(_plain(one.name, self.encoding) for one in made)

    def blocks(self) -> Iterator[Block]:
        """In the dump's order. Each is compared with its digest at its end."""
        for block in self.table.blocks:
            pieces = self.tables.parts.block(block)
            yield self._names(next(pieces)), pieces

    def _names(self, head: bytes) -> tuple[str, ...]:
        return tuple(plain_name(column, self.encoding) for column in columns_of(head))


def _plain(name: str, encoding: str) -> str:
    """A name whose bytes are escaped, as `plain_name` has it."""
    return plain_name(unescaped(name).encode("utf-8", "surrogateescape"), encoding, unquoted=False)


@dataclass(frozen=True)
class Sides:
    """How the rows of two tables are compared: by which columns, and by which key (empty: as a whole).

    `notes` say in sentences what is not compared, or not as one would think.
    """

    columns: tuple[str, ...]
    key: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def key_places(self) -> tuple[int, ...]:
        """Where the key's columns stand among those that are compared."""
        return tuple(map(self.columns.index, self.key))


def sides_of(before: TableRows, after: TableRows) -> Sides:
    """By the columns that both have, in the order of the later one, and by the primary key, where both have its
    columns."""
    old, new = before.columns(), after.columns()
    common = tuple(column for column in new if column in old)
    notes = [
        f"only in {side.where}, and not compared: {', '.join(lone)}"
        for side, mine, others in ((before, old, new), (after, new, old))
        if (lone := [column for column in mine if column not in others])
    ]
    keys = [key for key in (after.key, before.key) if key and set(key) <= set(common)]
    if before.key and after.key and set(before.key) != set(after.key):
        old_key, new_key = (", ".join(side.key) for side in (before, after))
        notes.append(f"the primary key is ({old_key}) in {before.where}, ({new_key}) in {after.where}")
    if not keys:
        notes.append("rows are compared as a whole: there is no primary key that both have")
    if before.encoding != after.encoding:
        notes.append(
            f"{before.where} is in {before.encoding or 'an unknown encoding'}, {after.where} in"
            f" {after.encoding or 'an unknown encoding'}: texts are converted"
        )
    return Sides(common, keys[0] if keys else (), tuple(notes))


def rows(side: TableRows, columns: tuple[str, ...], *, convert: bool) -> Iterator[Row]:
    """All rows, with these columns in this order; `convert`: in UTF-8, whatever they are written in."""
    for names, chunks in side.blocks():
        found = rows_of(chunks)
        if names != columns:
            found = _picked(found, [names.index(column) for column in columns])
        yield from (_utf8(row, side.encoding) for row in found) if convert else found


def _picked(found: Iterator[bytes], places: Sequence[int]) -> Iterator[bytes]:
    for row in found:
        fields = row.split(b"\t")
        yield b"\t".join([fields[place] for place in places])


def _utf8(row: bytes, encoding: str) -> bytes:
    if row.isascii():
        return row
    return plain_name(row, encoding, unquoted=False).encode("utf-8", "surrogateescape")
