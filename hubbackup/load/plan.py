"""What a load by several sessions does, in which order: a pure function of what the proof has read.

Run at once is only what is safe by its statement: COPY, CREATE INDEX, keys, foreign keys. All else stays in the
dump's own order in one session, and `serial` says why where one would expect otherwise.

1. `pre`, in one session.
2. `first`, one after the other in one session.
3. `loads` over N sessions, in their order; a table's `builds` at once as soon as its last block is in, its `then` one
   after the other behind them; `data` beside them.
4. `last`, as `first`.
5. All that is done: `foreign_keys` over N sessions, as `next_foreign_key` says.
6. `rest` in one session.

Each session begins with `opening`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hubbackup.dump.copy_blocks import CopyBlock
from hubbackup.dump.identifiers import literal
from hubbackup.dump.schema_text import EMPTY_PATH
from hubbackup.load.dump_text import Range, Text

_FROM_STDIN = b"FROM stdin;\n"


@dataclass(frozen=True, slots=True)
class Build:
    """An index, or a key as pg_dump wrote it. `cost` is in bytes that pass, roughly: for comparing them."""

    name: str
    text: Text
    cost: int


@dataclass(frozen=True, slots=True)
class TableLoad:
    """A table's rows, and what is built over them.

    `freeze`: the table is this load's own, so that it may be truncated and its rows be written frozen, in one
    transaction; else `why_not` says why not. A table without `blocks` has no rows in the dump. `builds` may run at
    once; each of `then` takes the table for itself, after them.
    """

    table: str
    blocks: tuple[CopyBlock, ...]
    freeze: bool
    why_not: str
    builds: tuple[Build, ...]
    then: tuple[Build, ...]

    @property
    def row_bytes(self) -> int:
        """Of all its blocks."""
        return sum(block.row_bytes for block in self.blocks)

    @property
    def weight(self) -> int:
        """All the work that it takes, as `Build.cost`."""
        return self.row_bytes + sum(build.cost for build in (*self.builds, *self.then))


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key and the tables that it locks."""

    name: str
    text: Text
    tables: frozenset[str]
    cost: int


@dataclass(frozen=True, slots=True)
class Serial:
    """What is not run beside others, and why."""

    what: str
    why: str


@dataclass(frozen=True)
class Plan:
    """See the module. `whole`: why the dump has to be loaded by one session as it is written; then the rest is
    empty."""

    settings: tuple[bytes, ...] = ()
    pre: tuple[Text, ...] = ()
    first: tuple[TableLoad, ...] = ()
    loads: tuple[TableLoad, ...] = ()
    last: tuple[TableLoad, ...] = ()
    data: tuple[Range, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    rest: tuple[Text, ...] = ()
    serial: tuple[Serial, ...] = ()
    whole: str = ""

    @property
    def tables(self) -> tuple[TableLoad, ...]:
        """All of them, in the order in which they begin."""
        return (*self.first, *self.loads, *self.last)

    def opening(self, load_path: str = "") -> bytes:
        """The SET lines in force behind the pre-data, with `load_path` in the place of the empty search_path."""
        path = EMPTY_PATH.replace(b"''", literal(load_path).encode())
        return b"".join(self.settings).replace(EMPTY_PATH, path)


def next_foreign_key(waiting: Sequence[ForeignKey], running: Iterable[ForeignKey]) -> ForeignKey | None:
    """The first that shares no table with those that run: two that do can deadlock. None where all have to wait."""
    busy = frozenset().union(*(each.tables for each in running))
    return next((each for each in waiting if each.tables.isdisjoint(busy)), None)


def copy_statement(head: bytes, *, freeze: bool) -> bytes:
    """A block's own COPY statement, or the one that writes its rows frozen."""
    if not freeze:
        return head
    return head.removesuffix(_FROM_STDIN) + b"FROM stdin WITH (FREEZE true);\n"
