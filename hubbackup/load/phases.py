"""The phases of a parallel load: tasks that may be given out together, each once what it waits for is done."""

from __future__ import annotations

import heapq
import itertools
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from hubbackup.load.dump_text import Range
from hubbackup.load.plan import ForeignKey, TableLoad, next_foreign_key
from hubbackup.load.tasks import SMALL_COST, Fill, Indexes, Stretch, Task, weight_of

BATCH = 50
"""So many small tasks at most are given out at once."""


class Phase(Protocol):
    """Tasks that may be given out before those of the next phase."""

    def take(self) -> list[Task]:
        """Some that are done one after the other by one session; none where those at work have to end first."""
        ...

    def done(self, task: Task) -> None:
        """One of them is."""
        ...

    @property
    def is_over(self) -> bool:
        """All are done."""
        ...

    @property
    def has_more(self) -> bool:
        """Whether another session would be given something now."""
        ...

    @property
    def left(self) -> int:
        """The cost of all that was not given out yet."""
        ...


class InTurn:
    """One at a time, in order. A contract of `Phase`."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._waiting = list(tasks)
        self._at_work = False

    def take(self) -> list[Task]:
        if self._at_work or not self._waiting:
            return []
        self._at_work = True
        return [self._waiting.pop(0)]

    def done(self, task: Task) -> None:
        self._at_work = False

    @property
    def is_over(self) -> bool:
        return not (self._waiting or self._at_work)

    @property
    def has_more(self) -> bool:
        return bool(self._waiting) and not self._at_work

    @property
    def left(self) -> int:
        return sum(task.cost for task in self._waiting)


class Keys:
    """The other foreign keys, never two at once that share a table. A contract of `Phase`."""

    def __init__(self, keys: Sequence[ForeignKey]) -> None:
        self._waiting = list(keys)
        self._running: list[ForeignKey] = []

    def take(self) -> list[Task]:
        key = next_foreign_key(self._waiting, self._running)
        if key is None:
            return []
        self._waiting.remove(key)
        self._running.append(key)
        return [key]

    def done(self, task: Task) -> None:
        self._running = [key for key in self._running if key is not task]

    @property
    def is_over(self) -> bool:
        return not (self._waiting or self._running)

    @property
    def has_more(self) -> bool:
        return next_foreign_key(self._waiting, self._running) is not None

    @property
    def left(self) -> int:
        return sum(key.cost for key in self._waiting)


@dataclass(slots=True)
class _Open:
    """A table that is worked at: how many of its builds are not done yet."""

    left: int


class Tables:
    """Tables over all sessions, their indexes as soon as they are full. A contract of `Phase`.

    What takes longest is given out first: a table counts with the longest of its builds, which can only follow. Where
    the dump is read `in_order`, tables come in that order, one at a time, and always one, since nothing else gets on
    meanwhile. Foreign keys of tables that are whole need not wait for the others.
    """

    def __init__(
        self,
        tables: Sequence[TableLoad],
        ranges: Sequence[Range],
        keys: Sequence[ForeignKey] = (),
        *,
        in_order: bool,
    ) -> None:
        self._in_order = in_order
        feeds: list[Fill | Stretch] = [Fill(table) for table in tables if table.blocks]
        if in_order:
            feeds += [Stretch((each,)) for each in ranges]
        elif ranges:
            feeds.append(Stretch(tuple(ranges)))
        self._feeds = deque(sorted(feeds, key=_place if in_order else lambda feed: -_urgency(feed)))
        self._builds: list[tuple[int, int, Indexes]] = []
        """A heap, the costliest first; of equal ones the earliest."""
        self._numbers = itertools.count()
        self._open: dict[str, _Open] = {}
        self._keys = list(keys)
        self._running_keys: list[ForeignKey] = []
        self._whole: set[str] = set()
        self._running = self._feeding = 0
        self.full: list[str] = []
        """Tables with all their rows and indexes, since this was looked at."""
        for table in tables:
            if not table.blocks:
                self._filled(table)

    def take(self) -> list[Task]:
        feed = self._feeds[0] if self._feeds and not (self._in_order and self._feeding) else None
        build = self._builds[0][-1] if self._builds else None
        key = self._next_key()
        by_urgency: list[tuple[int, Callable[[], list[Task]]]] = []
        if feed is not None:
            by_urgency.append((sys.maxsize if self._in_order else _urgency(feed), self._take_feeds))
        if build is not None:
            by_urgency.append((build.cost, self._take_builds))
        if key is not None:
            by_urgency.append((key.cost, partial(self._take_key, key)))
        return max(by_urgency, key=lambda each: each[0])[1]() if by_urgency else []

    def _next_key(self) -> ForeignKey | None:
        ready = [key for key in self._keys if key.tables <= self._whole]
        return next_foreign_key(ready, self._running_keys) if ready else None

    def _take_key(self, key: ForeignKey) -> list[Task]:
        self._keys = [each for each in self._keys if each is not key]
        self._running_keys.append(key)
        self._running += 1
        return [key]

    def _take_feeds(self) -> list[Task]:
        taken: list[Task] = []
        cost = 0
        while self._feeds and (not taken or (cost + self._feeds[0].cost <= SMALL_COST and len(taken) < BATCH)):
            feed = self._feeds.popleft()
            taken.append(feed)
            cost += feed.cost
        self._running += len(taken)
        self._feeding += len(taken)
        return taken

    def _take_builds(self) -> list[Task]:
        taken: list[Task] = []
        cost = 0
        while self._builds and (not taken or (cost + self._builds[0][-1].cost <= SMALL_COST and len(taken) < BATCH)):
            *_, build = heapq.heappop(self._builds)
            taken.append(build)
            cost += build.cost
        self._running += len(taken)
        return taken

    def done(self, task: Task) -> None:
        self._running -= 1
        if isinstance(task, Fill | Stretch):
            self._feeding -= 1
        if isinstance(task, Fill):
            self._filled(task.table)
        elif isinstance(task, Indexes):
            self._built(task)
        elif isinstance(task, ForeignKey):
            self._running_keys = [key for key in self._running_keys if key is not task]

    def _filled(self, table: TableLoad) -> None:
        self._open[table.table] = _Open(len(table.builds))
        self._add([Indexes(table, (build,)) for build in table.builds])
        self._close_where_built(table)

    def _built(self, task: Indexes) -> None:
        table = task.table
        if task.builds is table.then:
            self._close(table)
        else:
            self._open[table.table].left -= len(task.builds)
            self._close_where_built(table)

    def _close_where_built(self, table: TableLoad) -> None:
        if self._open[table.table].left:
            return
        if table.then:
            self._add([Indexes(table, table.then)])
        else:
            self._close(table)

    def _close(self, table: TableLoad) -> None:
        self._open.pop(table.table)
        self._whole.add(table.table)
        self.full.append(table.table)

    def _add(self, builds: Sequence[Indexes]) -> None:
        for each in builds:
            heapq.heappush(self._builds, (-each.cost, next(self._numbers), each))

    @property
    def is_over(self) -> bool:
        return not (self._feeds or self._builds or self._keys or self._running)

    @property
    def has_more(self) -> bool:
        return bool(self._feeds or self._builds or self._next_key())

    @property
    def left(self) -> int:
        keys = sum(key.cost for key in self._keys)
        return keys + sum(map(weight_of, self._feeds)) + sum(build.cost for *_, build in self._builds)


def _place(feed: Fill | Stretch) -> int:
    return feed.table.blocks[0].offset if isinstance(feed, Fill) else feed.ranges[0].start


def _urgency(feed: Fill | Stretch) -> int:
    """The work that comes after one another: the rows, then the longest build."""
    if isinstance(feed, Stretch):
        return feed.cost
    return feed.cost + max((build.cost for build in feed.table.builds), default=0)
