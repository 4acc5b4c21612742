"""The tables of a backup's dump: found by the name that somebody typed, with their rows and columns."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from hubbackup.catalog.backup import printable
from hubbackup.dump.copy_blocks import CopyBlock
from hubbackup.dump.dump_relations import Relations
from hubbackup.dump.dump_statements import COPY, NAME
from hubbackup.dump.identifiers import plain_name, readable
from hubbackup.dump.schema_statements import schema_statements
from hubbackup.dump.table_columns import Column
from hubbackup.dump.table_ddl import table_ddl
from hubbackup.dump.table_names import find_table
from hubbackup.errors import UsageError
from hubbackup.verify.ranges import Parts

NEAREST = 5
_ENCODING = re.compile(rb"^SET client_encoding = '([A-Za-z0-9_]+)';$", re.MULTILINE)
_HEAD_BYTES = 8 << 10
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
_NAME = re.compile(NAME)


@dataclass(frozen=True)
class Table:
    """A table as a dump has it; of a partitioned one, with the rows of all its partitions.

    `name` is as in the index, `title` in readable letters. `members`: itself, and what it consists of.
    `columns`: those of a partitioned one, in its own order; those of its parts may differ.
    """

    name: str
    title: str
    blocks: tuple[CopyBlock, ...]
    members: tuple[str, ...]
    columns: tuple[Column, ...] = ()

    @property
    def rows(self) -> int:
        """As the index has them."""
        return sum(block.rows for block in self.blocks)


@dataclass(frozen=True)
class Tables:
    """Those of one dump, which is read in `parts`."""

    parts: Parts

    @cached_property
    def encoding(self) -> str:
        """The dump's, by PostgreSQL's name; empty where it does not say."""
        found = _ENCODING.search(b"".join(self.parts.plain(0, min(self.parts.index.data_start, _HEAD_BYTES))))
        return found[1].decode("ascii") if found else ""

    @cached_property
    def pre_data(self) -> tuple[bytes, ...]:
        """The statements of the schema that stand before the data."""
        return tuple(schema_statements(self.parts.plain(0, self.parts.index.data_start)))

    def post_data(self) -> Iterator[bytes]:
        """Those behind it."""
        return schema_statements(self.parts.plain(self.parts.index.data_end, None))

    def find(self, typed: str) -> Table:
        """The table that `typed` means, in any spelling that psql takes; what has no rows of its own is refused.

        The schema is read only where no table with rows is called so. Raises UsageError, with the nearest names.
        """
        blocks = self.parts.index.tables
        titles = {self.title(block.table): block.table for block in blocks}
        try:
            title = find_table(typed, titles, self.parts.name)
        except UsageError:
            return self._of_schema(typed, titles)
        name = titles[title]
        return Table(name, title, tuple(block for block in blocks if block.table == name), (name,))

    def title(self, name: str) -> str:
        """A table's name in readable letters, as far as the dump's encoding has them."""
        if not _ESCAPED.search(name):
            return name
        raw = _ESCAPED.sub(lambda byte: chr(0xDC00 + int(byte[1], 16)), name)
        return readable(raw, self.encoding)

    def _of_schema(self, typed: str, titles: dict[str, str]) -> Table:
        relations = Relations()
        for statement in self.pre_data:
            relations.add(statement)
        named = {self.title(printable(name)): name for name in relations.kinds}
        title = find_table(typed, [*named, *(one for one in titles if one not in named)], self.parts.name)
        kind = relations.kinds.get(named.get(title, ""), "table")
        if kind not in ("table", "partitioned table"):
            raise UsageError(
                f"{title} is a {kind}: {self.parts.name} has no rows of it", remedy="name a table that it reads"
            )
        members = tuple(map(printable, relations.with_leaves(named[title])))
        blocks = tuple(block for block in self.parts.index.tables if block.table in members)
        if not blocks and kind == "table":
            raise UsageError(
                f"{self.parts.name} has no rows of {title} that could be read alone",
                remedy="its dump was made without them, or with INSERT statements",
            )
        name = printable(named[title])
        return Table(name, title, blocks, members, table_ddl(self.pre_data, name).columns)


def columns_of(statement: bytes) -> tuple[bytes, ...]:
    """The columns that a COPY statement names, as it writes them."""
    found = COPY.fullmatch(statement.removesuffix(b";\n"))
    assert found is not None  # noqa: S101 - `Parts.block` has looked at it
    behind = statement[found.end(1) :]
    return tuple(_NAME.findall(behind)[:-2]) if behind.startswith(b" (") else ()  # but FROM and stdin


def choose_columns(wanted: Sequence[str], columns: Sequence[bytes], encoding: str, table: str) -> list[int]:
    """Which of a table's columns `wanted` means. Raises UsageError for one that is not there, or is twice."""
    names = [plain_name(column, encoding) for column in columns]
    for number, name in enumerate(wanted):
        if name not in names:
            near = difflib.get_close_matches(name, names, NEAREST, 0.5) or names[:NEAREST]
            raise UsageError(
                f"{table} has no column {name}", remedy=f"the nearest names there: {', '.join(near)}" if near else ""
            )
        if name in wanted[:number]:
            raise UsageError(f"the column {name} is named twice", remedy="name each column once")
    return [names.index(name) for name in wanted]
