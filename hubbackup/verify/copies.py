"""Which copies a verification reads: those that somebody asks for, or those that are due, within a day's budget."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hubbackup.catalog.backup import BackupName, Mark
from hubbackup.catalog.listing import Listed, Scanned, newest_first_of, scan_each
from hubbackup.catalog.target import Target
from hubbackup.catalog.typed_name import REMEDY, parse_name
from hubbackup.errors import EXIT_SUCCESS, NotFoundError
from hubbackup.jobs.history import History, RunRecord

KIND = "verify.copy"
"""Of the records in the history of copies: one for each copy that was read."""


@dataclass(frozen=True)
class Copy:
    """One backup in one target. `read_at`: when it was last read through, which was so when it was made."""

    name: BackupName
    target: Target
    size_bytes: int
    published: bool
    """A manifest is beside it: without one there is nothing to compare it with."""
    marked_bad: bool
    read_at: datetime
    archived: bool = False
    """It rests in an archive class, and can be read only where it was thawed."""


@dataclass(frozen=True)
class Selection:
    """The copies to read, and a sentence for each store that can't be listed, so that none of its copies is here.

    With a `budget` they are read in this order, while it lasts.
    """

    copies: Sequence[Copy] = ()
    problems: tuple[str, ...] = ()
    budget: Budget | None = None


def copies_of(
    listed: Iterable[Listed], targets: Sequence[Target], zone: ZoneInfo, read_at: Mapping[tuple[str, str], datetime]
) -> list[Copy]:
    """Every copy in `targets`; `read_at` tells by target and file name when one was last read."""
    found = []
    for one in listed:
        for target in targets:
            entry = one.copies.get(target.name)
            if entry is None:
                continue
            made_at = one.name.started_at(zone)
            found.append(
                Copy(
                    one.name,
                    target,
                    entry.size_bytes,
                    target.name in one.manifests_in,
                    target.name in one.marks.get(Mark.BAD, ()),
                    max(made_at, read_at.get((target.name, str(one.name)), made_at)),
                    entry.archived,
                )
            )
    return found


def last_proven(history: History) -> dict[tuple[str, str], datetime]:
    """When each copy, by target and file name, was last found whole."""
    return _last(one for one in history.runs() if one.exit_code == EXIT_SUCCESS)


def last_read(history: History) -> dict[tuple[str, str], datetime]:
    """When each copy, by target and file name, was last read, whether it was whole or damaged."""
    return _last(history.runs())


def _last(records: Iterable[RunRecord]) -> dict[tuple[str, str], datetime]:
    return {(one.store, one.name): one.started_at for one in records if one.kind == KIND}


@dataclass
class Budget:
    """How much is read in a day: `bytes_a_day`, or one larger copy alone, for which `saved_bytes` are enough.

    `spend` is for what was read, and be it the first half of a copy. What is not ours, or can't be read at all, costs
    nothing, and is in nobody's way.
    """

    bytes_a_day: int
    saved_bytes: float
    """What the days without any reading have saved up."""
    _spent_bytes: int = 0
    _is_begun: bool = False

    @classmethod
    def of(cls, bytes_a_day: int, now: datetime, last_read_at: datetime | None) -> Budget:
        """The day's, at `now`; `last_read_at` None: nothing was read ever, and anything may be."""
        if last_read_at is None:
            return cls(bytes_a_day, math.inf if bytes_a_day else 0.0)
        return cls(bytes_a_day, bytes_a_day * ((now - last_read_at) / timedelta(days=1)))

    def admits(self, copy: Copy) -> bool:
        """Whether it may be read now. Over time the budget holds, and no copy is too large to be read."""
        fits = self._spent_bytes + copy.size_bytes <= self.bytes_a_day
        return fits or (not self._is_begun and copy.size_bytes <= self.saved_bytes)

    def spend(self, read_bytes: int) -> None:
        """So much was read."""
        self._spent_bytes += read_bytes
        self._is_begun = self._is_begun or read_bytes > 0


def due(copies: Iterable[Copy], now: datetime) -> list[Copy]:
    """Those that may be read again, the one first that was read longest ago."""
    found = (
        copy
        for copy in copies
        if copy.published and not copy.marked_bad and not copy.archived and now - copy.read_at >= timedelta(hours=12)
    )
    return sorted(found, key=lambda copy: (copy.read_at, str(copy.name), copy.target.name))


def due_copies(
    targets: Sequence[Target], zone: ZoneInfo, history: History, budget_bytes: int, now: datetime
) -> Selection:
    """Those in `targets` that are due, and the day's budget. Raises StoreError where no target can be listed."""
    read_at = last_read(history)
    found = scan_each(targets).or_raise()
    copies = copies_of(found.listed, found.stores, zone, read_at)
    budget = Budget.of(budget_bytes, now, max(read_at.values(), default=None))
    return Selection(due(copies, now), _unlisted(found), budget)


def _unlisted(found: Scanned[Target]) -> tuple[str, ...]:
    return tuple(f"the copies in {target.name} are not read: {error}" for target, error in found.failed)


@dataclass(frozen=True)
class CopySelector:
    """What the operator asks to be read: the copies of `name`, of `everything`, or else of the newest backup.

    Of `database` alone, where one is named.
    """

    name: str = ""
    everything: bool = False
    database: str = ""

    def copies(self, targets: Sequence[Target], zone: ZoneInfo, databases: Sequence[str]) -> Selection:
        """The newest backup is that of each of `databases`: one of them without any does not keep back the others.

        Raises UsageError, NotFoundError where there is no such backup, StoreError where nothing can be listed.
        """
        if self.name or self.everything or len(databases) == 1:
            return self._copies(targets, zone, databases[0])
        copies: list[Copy] = []
        problems: dict[str, None] = {}
        for database in databases:
            try:
                found = self._copies(targets, zone, database)
            except NotFoundError as error:
                problems[str(error)] = None
                continue
            copies += found.copies
            problems |= dict.fromkeys(found.problems)
        return Selection(copies, tuple(problems))

    def _copies(self, targets: Sequence[Target], zone: ZoneInfo, database: str) -> Selection:
        wanted = parse_name(self.name, targets) if self.name else None
        every = self.database or None
        scope = every if self.everything else wanted.database if wanted is not None else database
        found = scan_each(targets, scope).or_raise()
        listed = found.listed
        if not self.everything:
            where = ", ".join(target.describe() for target in targets)
            if wanted is None:
                newest = newest_first_of(listed, found.stores, zone)
                wanted = next(
                    (one.name for one in newest if one.proven and not one.from_future(datetime.now(UTC))), None
                )
            listed = [one for one in listed if one.name == wanted]
            if not listed and found.failed:
                raise found.failed[-1][1]
            if not listed:
                what = f"backup of {database}" if wanted is None else str(wanted)
                raise NotFoundError(f"there is no {what} in {where}", remedy=REMEDY)
        return Selection(copies_of(listed, found.stores, zone, {}), _unlisted(found))
