"""What changed between two backups of a database, table by table, as far as their manifests tell.

Equal digests of one kind mean the same rows in the same order: such a table is unchanged. Different ones mean that
rows changed, or only moved, as VACUUM FULL and a restore move them: only comparing the rows can tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from hubbackup.catalog.backup import Manifest
from hubbackup.catalog.index import DumpIndex
from hubbackup.catalog.left_out import shown
from hubbackup.errors import NotProvenError
from hubbackup.shown_text import printable

SHOWN = 10
"""Changes in a sentence, the largest first."""
SHOWN_CHARACTERS = 500
"""About as long as they are together at most: a name may have 63 quotes, all doubled."""
DEFAULT_SCHEMA = "public."


class State(StrEnum):
    """What is known of a table in the later backup beside the earlier one."""

    NEW = "new"
    GONE = "gone"
    CHANGED = "changed"
    """It has more rows, or fewer."""
    MOVED = "changed or moved"
    """As many rows, which are not the same, or not in the same order."""
    SAME_COUNT = "as many rows"
    """Nothing more is known of it: no digests, or not of one kind."""
    UNCHANGED = "unchanged"
    """The same rows, for certain."""
    LEFT_OUT = "left out"
    """It has rows in one of the two, and the other was made without them: nothing is known of a change."""


@dataclass(frozen=True, slots=True)
class TableContent:
    """A table's rows: how many, in how many bytes (None: not known), with the digest of each of its blocks."""

    rows: int
    size_bytes: int | None = None
    digests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Content:
    """All tables that have rows of their own, by name, as a manifest has them. `digest_kind` is empty without any.

    `encoding`: the database's own, by PostgreSQL's name; empty where it is not known.
    """

    tables: Mapping[str, TableContent]
    digest_kind: str = ""
    encoding: str = ""
    left_out: frozenset[str] = frozenset()
    """The tables that it was made without, or without their rows."""

    @classmethod
    def of(cls, rows: Mapping[str, int], index: DumpIndex | None = None) -> Content:
        """What a backup holds, by its row counts and, where there is one, its index."""
        if index is None:
            return cls({table: TableContent(count) for table, count in rows.items()})
        sizes: Counter[str] = Counter()
        digests: dict[str, list[str]] = {}
        for block in index.tables:
            sizes[block.table] += block.end - block.offset
            digests.setdefault(block.table, []).append(block.digest)
        found = {
            table: TableContent(count, sizes.get(table), tuple(digests.get(table, ())))
            for table, count in rows.items()
        }
        return cls(found, index.digest_kind)

    @classmethod
    def of_index(cls, index: DumpIndex) -> Content:
        """The same, of what the index alone tells."""
        rows: Counter[str] = Counter()
        for block in index.tables:
            rows[block.table] += block.rows
        return cls.of(rows, index)


@dataclass(frozen=True, slots=True)
class TableChange:
    """One table in both; a count is None where there is no such table."""

    table: str
    before: int | None
    after: int | None
    state: State

    @property
    def more(self) -> int:
        """How many more rows it has, or (below 0) fewer."""
        return (self.after or 0) - (self.before or 0)

    def words(self, encoding: str) -> str:
        """In a sentence: `pointages +412`, `devis -3 (gone)`."""
        note = f" ({self.state})" if self.state in (State.NEW, State.GONE) else ""
        name = title(self.table, encoding).removeprefix(DEFAULT_SCHEMA)
        return f"{printable(name)}{f' {self.more:+,}' if self.more else ''}{note}"


@dataclass(frozen=True)
class Diff:
    """Every table of either, in the order of the names. `encoding`: the database's, by PostgreSQL's name."""

    tables: tuple[TableChange, ...] = ()
    encoding: str = ""

    @property
    def differing(self) -> tuple[TableChange, ...]:
        """Those of which something is known to be different: by how many rows, the largest first."""
        found = [one for one in self.tables if one.state in (State.NEW, State.GONE, State.CHANGED, State.MOVED)]
        return tuple(sorted(found, key=lambda one: (-abs(one.more), one.state is State.MOVED, one.table)))

    def count(self, state: State) -> int:
        """How many tables are so."""
        return sum(1 for one in self.tables if one.state is state)

    def sentence(self) -> str:
        """`pointages +412, devis -3, 41 tables unchanged`: the largest, then how many tables there are beside."""
        largest = [one.words(self.encoding) for one in self.differing if one.state is not State.MOVED]
        shown: list[str] = []
        for words in largest[:SHOWN]:
            if shown and len(", ".join([*shown, words])) > SHOWN_CHARACTERS:
                break
            shown.append(words)
        if left := len(largest) - len(shown):
            shown.append(f"and {left:,} more")
        for state in (State.MOVED, State.SAME_COUNT, State.UNCHANGED, State.LEFT_OUT):
            if count := self.count(state):
                words = f"with {state}" if state is State.SAME_COUNT else str(state)
                words += " of one of the two" if state is State.LEFT_OUT else ""
                shown.append(f"{count:,} table{'s' if count > 1 else ''} {words}")
        return ", ".join(shown) or "no tables"


def diff(before: Content, after: Content) -> Diff:
    """What is different in `after`."""
    comparable = bool(before.digest_kind) and before.digest_kind == after.digest_kind
    names = sorted(before.tables.keys() | after.tables.keys())
    left_out = before.left_out | after.left_out
    changes = (
        _change(name, before.tables.get(name), after.tables.get(name), comparable, name in left_out) for name in names
    )
    return Diff(tuple(changes), after.encoding or before.encoding)


def summary(before: Manifest, after: Manifest) -> str:
    """What changed between two backups, in a bounded sentence."""
    return diff(content_of(before), content_of(after)).sentence()


def content_of(manifest: Manifest) -> Content:
    """What a manifest tells of its backup; an index that is not valid tells nothing."""
    try:
        index = manifest.dump_index()
    except NotProvenError:
        index = None
    left_out = manifest.left_out.names if manifest.left_out is not None else frozenset()
    return replace(Content.of(manifest.rows, index), encoding=manifest.encoding, left_out=left_out)


def title(table: str, encoding: str) -> str:
    """A table's name in the letters that it was meant in: a manifest has what is not UTF-8 as bytes."""
    return shown(table, encoding)


def _change(
    name: str, before: TableContent | None, after: TableContent | None, comparable: bool, left_out: bool
) -> TableChange:
    if before is None or after is None:
        state = State.LEFT_OUT if left_out else State.NEW if before is None else State.GONE
        return TableChange(name, before.rows if before else None, after.rows if after else None, state)
    if before.rows != after.rows:
        state = State.CHANGED
    elif before.rows == 0 or (comparable and before.digests and before.digests == after.digests):
        state = State.UNCHANGED
    elif comparable and before.digests and after.digests:
        state = State.MOVED
    else:
        state = State.SAME_COUNT
    return TableChange(name, before.rows, after.rows, state)
