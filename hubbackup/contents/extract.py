"""One table's rows out of a backup: as CSV, as COPY's text, or as SQL that makes the table anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain

from hubbackup.contents.table_sql import table_sql
from hubbackup.contents.tables import Table, Tables, choose_columns, columns_of
from hubbackup.dump.copy_csv import csv_header, csv_lines, text_lines
from hubbackup.dump.identifiers import quoted
from hubbackup.dump.statement_subjects import parts, shown
from hubbackup.errors import UsageError
from hubbackup.verify.ranges import Parts


class RowFormat(StrEnum):
    """What rows are written as."""

    CSV = "csv"
    """As the server does: `COPY … TO STDOUT (FORMAT csv, HEADER)`."""
    COPY = "copy"
    """As they stand in the dump: COPY's text format, without the statement and the last line."""
    SQL = "sql"
    """The table's DDL and rows, for psql."""


@dataclass(frozen=True)
class Extraction:
    """What is written: `chunks`, of one table. What they raise at their end undoes all of them."""

    table: str
    rows: int
    chunks: Iterator[bytes]


def extract(dump: Parts, typed: str, row_format: RowFormat, columns: Sequence[str] = ()) -> Extraction:
    """The rows of the table that `typed` means. Nothing of them is known to be right before the last chunk.

    `columns` (all, where it is empty) are chosen by name, in their order. Raises UsageError; the chunks raise
    NotProvenError and StoreError.
    """
    tables = Tables(dump)
    if columns and row_format is RowFormat.SQL:
        raise UsageError("--columns can't go with --format sql", remedy="sql has the table whole; take csv or copy")
    table = tables.find(typed)
    if row_format is RowFormat.SQL:
        return Extraction(table.title, table.rows, table_sql(tables, table))
    lines = _lines(tables, table, row_format, columns)
    first = next(lines, b"")  # what was asked for in vain is refused before anything is written
    return Extraction(table.title, table.rows, chain([first], lines))


def _lines(tables: Tables, table: Table, row_format: RowFormat, wanted: Sequence[str]) -> Iterator[bytes]:
    order: list[str] = []
    for number, pieces in enumerate(tables.parts.blocks(table.blocks)):
        columns = columns_of(next(pieces))
        picked = _picked(tables, table, columns, wanted)
        if number == 0:
            order = [_plain(columns[place]) for place in picked]
        elif [_plain(columns[place]) for place in picked] != order:
            by_name = {_plain(column): place for place, column in enumerate(columns)}
            picked = [by_name[name] for name in order]
        if row_format is RowFormat.CSV:
            if number == 0:
                yield csv_header([_raw(columns[place]) for place in picked])
            yield from csv_lines(pieces, picked, len(columns))
        elif picked == list(range(len(columns))):
            yield from pieces
        else:
            yield from text_lines(pieces, picked)
    if not table.blocks:
        made = [column.name for column in table.columns if "GENERATED ALWAYS AS (" not in column.rest]
        names = [quoted(name).encode("utf-8", "surrogateescape") for name in made]
        picked = _picked(tables, table, names, wanted)
        if row_format is RowFormat.CSV:
            yield csv_header([_raw(names[place]) for place in picked])


def _picked(tables: Tables, table: Table, columns: Sequence[bytes], wanted: Sequence[str]) -> list[int]:
    """The places of the columns that are wanted, of a block that has `columns`."""
    if wanted:
        return choose_columns(wanted, columns, tables.encoding, table.title)
    places = {_plain(column): place for place, column in enumerate(columns)}
    own = [places[column.name] for column in table.columns if column.name in places]
    return own if len(own) == len(columns) else list(range(len(columns)))


def _plain(column: bytes) -> str:
    return parts(shown(column))[0]


def _raw(column: bytes) -> bytes:
    """A column's name as it is, without the quotes of SQL."""
    return column[1:-1].replace(b'""', b'"') if column.startswith(b'"') else column
