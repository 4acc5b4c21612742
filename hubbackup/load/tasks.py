"""The tasks of a parallel load, as its board gives them out: each is done by one session, from start to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hubbackup.load.dump_text import Range, Text
from hubbackup.load.plan import Build, ForeignKey, TableLoad

SMALL_COST = 1 << 20
"""Tasks below it are given out several at a time: asking after each would take longer than the work."""


@dataclass(frozen=True, slots=True)
class Script:
    """Statements in the dump's own order."""

    texts: tuple[Text, ...]
    what: str
    cost: int = SMALL_COST


@dataclass(frozen=True, slots=True)
class Fill:
    """The rows of one table."""

    table: TableLoad

    @property
    def cost(self) -> int:
        """As `Build.cost`."""
        return self.table.row_bytes


@dataclass(frozen=True, slots=True)
class Indexes:
    """Indexes or keys of one table: one of those that may be built at once, or all that take it for themselves."""

    table: TableLoad
    builds: tuple[Build, ...]

    @property
    def cost(self) -> int:
        """As `Build.cost`."""
        return sum(build.cost for build in self.builds)


@dataclass(frozen=True, slots=True)
class Alone:
    """A table beside which no other is worked at: its rows, then all its indexes."""

    table: TableLoad

    @property
    def cost(self) -> int:
        """As `Build.cost`."""
        return self.table.weight


@dataclass(frozen=True, slots=True)
class Stretch:
    """Parts of the dump that are passed on as they are, in order: the later may need the earlier."""

    ranges: tuple[Range, ...]

    @property
    def cost(self) -> int:
        """As `Build.cost`."""
        return sum(each.end - each.start for each in self.ranges)


Task = Script | Fill | Indexes | Alone | Stretch | ForeignKey


def weight_of(task: Task) -> int:
    """Its cost, and that of what can only follow it."""
    return task.table.weight if isinstance(task, Fill) else task.cost


def names_of(task: Task) -> Sequence[str]:
    """What it is about, as the dump writes it: for people."""
    if isinstance(task, Script):
        return [task.what]
    if isinstance(task, Fill | Alone):
        return [task.table.table]
    if isinstance(task, Indexes):
        return [build.name for build in task.builds]
    return ["large objects and sequences"] if isinstance(task, Stretch) else [task.name]
