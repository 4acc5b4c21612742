"""What the stores hold, merged by name: first the names alone, then the manifests of those that matter.

A listing of names costs one request for a thousand objects; a manifest costs one each. So a listing streams, holds
one backup at a time, and reads no manifest; whoever needs one loads it, for as few backups as will do.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Generic, TypeVar
from zoneinfo import ZoneInfo

from hubbackup.catalog.backup import (
    ITSELF,
    MANIFEST_SUFFIX,
    Backup,
    BackupName,
    Mark,
    split,
)
from hubbackup.catalog.manifests import Judged, Repository
from hubbackup.catalog.marks import why_marked
from hubbackup.catalog.origin import Origin
from hubbackup.errors import NotFoundError, NotProvenError, StoreError, StoreSilentError
from hubbackup.stores import Entry, Readable

READERS = 8
"""Threads that fetch the manifests that are only in S3."""
HELD = 2 * READERS
"""Manifests held in memory at once, however many backups there are: each may have megabytes."""
NAME_DOUBT = timedelta(hours=27)
"""Names of two time zones, from UTC-12 to UTC+14, order two moments wrongly when they are less apart than this."""

R = TypeVar("R", bound=Readable)

NO_MARKS: Mapping[Mark, frozenset[str]] = MappingProxyType({})


@dataclass(slots=True)
class Listed:
    """A backup as a listing shows it, before its manifest is read. `copies` maps a store's name to the file there."""

    name: BackupName
    copies: dict[str, Entry] = field(default_factory=dict)
    manifests_in: frozenset[str] = frozenset()
    marks: Mapping[Mark, frozenset[str]] = field(default_factory=lambda: NO_MARKS)

    def published_in(self, store: str) -> bool:
        """File and manifest are both in `store`, and no verification found the file damaged."""
        return store in self.copies and store in self.manifests_in and store not in self.marks.get(Mark.BAD, ())


def scan(stores: Iterable[Readable], database: str | None = None, *, orphans: bool = False) -> Iterator[Listed]:
    """Every backup (of one database) in `stores`, merged by name, in byte order of names. No manifest is read.

    Names that are not exactly ours are skipped, and so is what belongs to no file, unless `orphans`. Raises
    StoreError.
    """
    # All that belongs to one backup begins with its stem, so its names stand together in byte order, but for a
    # backup whose stem begins so (another database's, or the `.sql.zst` beside a `.sql.gz`): that one's names stand
    # between them. Hence a stack, and not `groupby`.
    open_: list[tuple[str, Listed | None]] = []
    for text, stem, role, store, entry in heapq.merge(*(_ours(store) for store in stores), key=lambda item: item[0]):
        while open_ and not text.startswith(f"{open_[-1][0]}.") and text != open_[-1][0]:
            yield from _wanted(open_.pop()[1], database, orphans=orphans)
        if not open_ or open_[-1][0] != stem:
            name = BackupName.of_stem(stem)
            open_.append((stem, Listed(name) if name is not None else None))
        listed = open_[-1][1]
        if listed is None:
            continue
        if role == ITSELF:
            listed.copies[store] = entry
        elif role == MANIFEST_SUFFIX:
            listed.manifests_in = _joined(listed.manifests_in, store)
        else:
            mark = Mark(role[1:])
            listed.marks = {**listed.marks, mark: _joined(listed.marks.get(mark, frozenset()), store)}
    while open_:
        yield from _wanted(open_.pop()[1], database, orphans=orphans)


@dataclass(frozen=True)
class Scanned(Generic[R]):
    """What those `stores` hold that can be listed, and why the others can't."""

    stores: tuple[R, ...]
    listed: list[Listed]
    failed: tuple[tuple[R, StoreError], ...] = ()

    def or_raise(self) -> Scanned[R]:
        """Itself. Raises StoreError where no store can be listed at all."""
        if self.failed and not self.stores:
            raise self.failed[-1][1]
        return self


def scan_each(stores: Iterable[R], database: str | None = None) -> Scanned[R]:
    """As `scan`, but held, and without the stores that can't be listed to their end: half a list is not a list."""
    found: Scanned[R] = Scanned((), [])
    for store in stores:
        together = (*found.stores, store)
        try:
            found = Scanned(together, list(scan(together, database)), found.failed)
        except StoreError as error:
            found = Scanned(found.stores, found.listed, (*found.failed, (store, error)))
    return found


def newest(listed: Iterable[Listed], count: int) -> tuple[list[Listed], int]:
    """The newest `count` by their names, oldest first, and how many were left out."""
    total = 0

    def counted() -> Iterator[Listed]:
        nonlocal total
        for one in listed:
            total += 1
            yield one

    found = heapq.nlargest(count, counted(), key=_by_name)[::-1]
    return found, total - len(found)


def oldest_first(stores: Iterable[Readable], database: str | None = None) -> Iterator[Listed]:
    """All that `scan` gives, by the names' times. Of one database as a stream; all of several are held and sorted."""
    found = scan(stores, database)
    if database is not None:  # the time is the last part of a name and of one width, so bytes order like times
        yield from found
        return
    waiting = sorted(found, key=_by_name, reverse=True)
    while waiting:
        yield waiting.pop()


def read_backups(
    listed: Iterable[Listed], stores: Iterable[Repository], zone: ZoneInfo, silent: set[str] | None = None
) -> Iterator[Backup]:
    """Read the manifests, in the order given: the one on this disk, or a remote one where that one is not of use.

    A name's time is read in `zone` where no manifest has it. One that can't be read is a fact about its backup: an
    object in an archive class, a block that rots. A store that does not answer is not asked for the others: its name
    joins `silent`, which several calls may share.
    """
    silent = set() if silent is None else silent
    here: list[Repository] = []
    elsewhere: list[Repository] = []
    for store in stores:
        (elsewhere if store.remote else here).append(store)
    finish = partial(_backup, stores=[*here, *elsewhere], zone=zone)
    waiting: deque[tuple[Listed, _Read | Future[_Read]]] = deque()
    with ThreadPoolExecutor(READERS) as pool:
        for one in listed:
            # A disk answers at once: threads would take turns at it, and four times as long.
            read = _read(one, _NO_MANIFEST, here, silent)
            asked = bool(elsewhere) and not read.trusted
            waiting.append((one, pool.submit(_read, one, read, elsewhere, silent) if asked else read))
            while len(waiting) > HELD or (waiting and not isinstance(waiting[0][1], Future)):
                yield finish(*waiting.popleft())
        while waiting:
            yield finish(*waiting.popleft())


def list_backups(stores: Sequence[Repository], zone: ZoneInfo, database: str | None = None) -> list[Backup]:
    """Every backup (of one database) in `stores` with its manifest, oldest first. Raises StoreError.

    Only for callers that want them all: it reads every manifest; `newest_first` reads as few as it can.
    """
    return sorted(read_backups(scan(stores, database), stores, zone), key=_by_time)


def newest_first(stores: Sequence[Repository], zone: ZoneInfo, database: str) -> Iterator[Backup]:
    """The backups of one database, newest first by their manifests' times; few more are read than are looked at.

    Raises StoreError.
    """
    return newest_first_of(scan(stores, database), stores, zone)


def newest_good(
    stores: Sequence[Repository],
    zone: ZoneInfo,
    database: str,
    now: datetime,
    *,
    listed: Iterable[Listed] | None = None,
) -> Backup | None:
    """The newest backup of one database that is good in at least one of `stores`, the one answer to that question.

    One from the future is never the newest. `listed`: what the stores hold of it, where that is known.
    Raises StoreError.
    """
    found = newest_first_of(scan(stores, database) if listed is None else listed, stores, zone)
    good = (backup for backup in found if any(backup.good_in(store.name) for store in stores))
    return next((backup for backup in good if not backup.from_future(now)), None)


def newest_first_of(listed: Iterable[Listed], stores: Sequence[Repository], zone: ZoneInfo) -> Iterator[Backup]:
    """As `newest_first`, of what was listed already."""
    waiting = sorted(listed, key=_by_name)
    ready: list[Backup] = []
    silent: set[str] = set()
    while waiting or ready:
        if not waiting or (ready and ready[-1].started_at > waiting[-1].name.started_at(zone) + NAME_DOUBT):
            yield ready.pop()
            continue
        batch = waiting[-READERS:]
        del waiting[-READERS:]
        ready = sorted([*ready, *read_backups(batch, stores, zone, silent)], key=_by_time)


def _ours(store: Readable) -> Iterator[tuple[str, str, str, str, Entry]]:
    """What may be ours by its suffix: name, stem, role, the store's name."""
    for entry in store.entries():
        parts = split(entry.name)
        if parts is not None:
            yield entry.name, *parts, store.name, entry


def _wanted(listed: Listed | None, database: str | None, *, orphans: bool) -> Iterator[Listed]:
    if listed is not None and (listed.copies or orphans) and database in (None, listed.name.database):
        yield listed


@lru_cache(maxsize=1024)
def _joined(stores: frozenset[str], store: str) -> frozenset[str]:
    """Cached so that a long listing holds each set of stores once."""
    return stores | {store}


@dataclass(frozen=True, slots=True)
class _Read:
    """What reading a backup's manifests came to: one that is ours, or else a foreign one, or else what is wrong."""

    judged: Judged | None = None
    problem: str = ""
    unreadable: bool = False
    """See `Backup.unreadable`."""
    foreign_in: frozenset[str] = frozenset()

    @property
    def trusted(self) -> bool:
        return self.judged is not None and self.judged.trusted

    def but(self, problem: str, *, unreadable: bool = False) -> _Read:
        """Where nothing was found yet, what is wrong with the one that was looked at."""
        return self if self.judged is not None else _Read(None, problem, unreadable or self.unreadable)


_NO_MANIFEST = _Read(None, "it has no manifest")


def _read(listed: Listed, before: _Read, stores: Sequence[Repository], silent: set[str]) -> _Read:
    """The manifest of the first of `stores` that has one of ours, else what is known of the others (or `before`).

    `silent` are the stores that have not answered in this listing.
    """
    found = before
    for store in stores:
        if store.name not in listed.manifests_in:
            continue
        if store.name in silent:
            problem = f"its manifest in {store.name} was not read: the store did not answer a moment ago"
            found = found.but(problem, unreadable=True)
            continue
        try:
            judged = store.manifest(listed.name)
        except NotFoundError:
            continue
        except NotProvenError as error:
            found = found.but(str(error))
        except StoreError as error:
            if isinstance(error, StoreSilentError):
                silent.add(store.name)
            found = found.but(f"its manifest can't be read: {error}", unreadable=True)
        else:
            if judged.trusted:
                return _Read(judged, foreign_in=found.foreign_in)
            found = _Read(found.judged or judged, judged.doubt, foreign_in=found.foreign_in | {store.name})
    return found


def _why_unrestorable(listed: Listed, stores: Sequence[Readable]) -> str:
    """The reason in the mark, of the first store that gives it."""
    marked_in = listed.marks[Mark.UNRESTORABLE]
    told = (why_marked(store, listed.name, Mark.UNRESTORABLE) for store in stores if store.name in marked_in)
    return next(filter(None, told), "")


def _backup(listed: Listed, read: _Read | Future[_Read], stores: Sequence[Repository], zone: ZoneInfo) -> Backup:
    found = read.result() if isinstance(read, Future) else read
    manifest = found.judged.manifest if found.judged is not None else None
    return Backup(
        listed.name,
        manifest.started_at if manifest is not None else listed.name.started_at(zone),
        manifest,
        listed.copies,
        listed.manifests_in,
        found.problem,
        listed.marks if _accepted_by_us(listed, found.judged, stores) else _without(listed.marks, Mark.ACCEPTED),
        _why_unrestorable(listed, stores) if Mark.UNRESTORABLE in listed.marks else "",
        found.unreadable,
        found.judged.origin if found.judged is not None else Origin.UNPROVEN,
        found.foreign_in,
    )


def _accepted_by_us(listed: Listed, judged: Judged | None, stores: Sequence[Repository]) -> bool:
    """False where the suspicion of one of ours was called off by a mark that anybody could have put into a bucket."""
    held_in = listed.marks.get(Mark.ACCEPTED)
    if not held_in or judged is None or judged.origin is not Origin.OURS or not judged.manifest.warnings:
        return True
    return any(store.vouches(listed.name, Mark.ACCEPTED) for store in stores if store.name in held_in)


def _without(marks: Mapping[Mark, frozenset[str]], mark: Mark) -> Mapping[Mark, frozenset[str]]:
    return {one: held_in for one, held_in in marks.items() if one is not mark}


def _by_name(listed: Listed) -> tuple[datetime, str]:
    return listed.name.local_time, listed.name.database


def _by_time(backup: Backup) -> tuple[datetime, str]:
    return backup.started_at, str(backup.name)
