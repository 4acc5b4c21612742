"""A part of a backup: the schema whole, and the rows of some tables only."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from hubbackup.dump.census import DumpFacts
from hubbackup.dump.copy_blocks import CopyBlock
from hubbackup.dump.dump_relations import Relations
from hubbackup.dump.dump_statements import MANY, NAME
from hubbackup.dump.identifiers import plain_name, readable
from hubbackup.dump.table_names import find_table
from hubbackup.errors import UsageError
from hubbackup.postgres import ddl
from hubbackup.postgres.databases import Databases

_TABLE = NAME + rb"(?:\." + NAME + rb")?"
_HEAD = re.compile(rb"ALTER TABLE (?:ONLY )?(" + _TABLE + rb")\s+ADD CONSTRAINT (" + NAME + rb") FOREIGN KEY ")
_REFERENCES = re.compile(rb"\(" + NAME + rb"(?:, " + NAME + MANY + rb"\) REFERENCES (" + _TABLE + rb")\(")
_COMMENT = re.compile(rb"COMMENT ON CONSTRAINT (" + NAME + rb") ON (" + _TABLE + rb") IS ")
_REFRESH = b"REFRESH MATERIALIZED VIEW "
Owned = tuple[bytes, bytes]
"""A table and its constraint, as pg_dump writes them."""


@dataclass(frozen=True)
class ForeignKey:
    """A constraint, the table that it refers to, and the statements that make it: its comment, too."""

    owned: Owned
    references: bytes
    statements: tuple[bytes, ...]


class PartReading:
    """Takes the statements of a dump's schema while it is proven."""

    def __init__(self) -> None:
        self.relations = Relations()
        self.foreign_keys: dict[Owned, ForeignKey] = {}

    def add(self, statement: bytes) -> None:
        """One statement, with its semicolon."""
        self.relations.add(statement)
        if head := _HEAD.match(statement):
            found = _REFERENCES.match(statement, head.end())
            owned = head[1], head[2]
            self.foreign_keys[owned] = ForeignKey(owned, found[1] if found else b"", (statement,))
        elif comment := _COMMENT.match(statement):
            known = self.foreign_keys.get((comment[2], comment[1]))
            if known is not None:
                more = (*known.statements, statement)
                self.foreign_keys[known.owned] = dataclasses.replace(known, statements=more)

    def part(self, typed: Sequence[str], facts: DumpFacts, encoding: str, backup: str) -> Part:
        """The part that has the rows of these tables. Raises UsageError for one that has none."""
        shown = {_readable(name, encoding): name for name in {**self.relations.kinds, **facts.rows}}
        tables: dict[str, None] = {}
        kept: set[str] = set()
        for one in typed:
            name = find_table(one, shown, backup)
            kind = self.relations.kinds.get(shown[name], "table")
            if "view" in kind or kind == "foreign table":
                raise UsageError(f"{name} is a {kind}: {backup} has no rows of it", remedy="name a table")
            tables[name] = None
            kept |= set(self.relations.with_leaves(shown[name]))
        held = frozenset(kept)
        return Part(
            tuple(tables),
            held,
            facts.blocks,
            tuple(key for key in self.foreign_keys.values() if self._may_not_hold(key, held)),
            "materialized view" in self.relations.kinds.values(),
            encoding,
        )

    def _may_not_hold(self, key: ForeignKey, kept: frozenset[str]) -> bool:
        """Whether it is of a table that has rows, and refers to one that has not all of its own."""
        return (
            not kept.isdisjoint(self.relations.with_leaves(_text(key.owned[0]))) and _text(key.references) not in kept
        )


@dataclass(frozen=True)
class Part:
    """`tables`, for people, are those whose rows are `kept`, named as in the dump, their partitions with them."""

    tables: tuple[str, ...]
    kept: frozenset[str]
    blocks: tuple[CopyBlock, ...]
    foreign_keys: tuple[ForeignKey, ...]
    """Those that may not hold: they are tried when the rows are there."""
    has_materialized_views: bool
    encoding: str

    def facts(self, facts: DumpFacts) -> DumpFacts:
        """What the new database is to hold."""
        return dataclasses.replace(
            facts,
            rows={table: count if table in self.kept else 0 for table, count in facts.rows.items()},
            blocks=tuple(block for block in facts.blocks if block.table in self.kept),
        )

    def without_rows(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The dump without the rows of all other tables."""
        gaps = iter([(one.rows_offset, one.rows_end) for one in self.blocks if one.table not in self.kept])
        gap = next(gaps, None)
        position = 0
        for chunk in chunks:
            start = position
            position += len(chunk)
            while gap is not None and gap[0] < position:
                if gap[0] > start:
                    yield chunk[start - position : gap[0] - position]
                start = max(start, min(gap[1], position))
                if gap[1] > position:
                    break
                gap = next(gaps, None)
            if start < position:
                yield chunk[start - position :]

    def leaves_out(self, start: bytes, end: bytes) -> bool:
        """Whether a statement, by its first bytes, is not to be loaded with the others."""
        if start.startswith(_REFRESH):
            return True
        owned = owned_key(start)
        return any(key.owned == owned for key in self.foreign_keys)

    def conclude(self, databases: Databases, database: str) -> list[str]:
        """Add the foreign keys that hold; returns remarks, also on those that don't. Raises HubbackupError."""
        remarks = [f"only the rows of {', '.join(self.tables)} were restored: all other tables are empty"]
        if self.has_materialized_views:
            remarks.append("materialized views are not filled: REFRESH MATERIALIZED VIEW fills one")
        if self.foreign_keys:
            lines = [
                ddl.tried(
                    "".join(plain_name(one, self.encoding, unquoted=False) for one in key.statements),
                    f"left out: the foreign key {self._shown(key.owned[1])} of {self._shown(key.owned[0])}",
                )
                for key in self.foreign_keys
            ]
            remarks += databases.tried(lines, database, self.encoding)
        return remarks

    def _shown(self, raw: bytes) -> str:
        return readable(_text(raw), self.encoding)


def owned_key(start: bytes) -> Owned | None:
    """The table and the constraint that a statement makes as a foreign key, or comments; None for any other."""
    if head := _HEAD.match(start):
        return head[1], head[2]
    comment = _COMMENT.match(start)
    return (comment[2], comment[1]) if comment is not None else None


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _readable(name: str, encoding: str) -> str:
    return plain_name(name.encode("utf-8", "surrogateescape"), encoding, unquoted=False)
