"""Apply the retention plan to a store: manifest first, the file last, so that a half-removed backup is not a backup.

A plan reads few manifests: a published file counts as good until its manifest is read, and those are read that the
plan rests on, or removes.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import ClassVar
from zoneinfo import ZoneInfo

from hubbackup.catalog.backup import Backup, BackupName, Doubt, Mark
from hubbackup.catalog.listing import Listed, read_backups, scan, scan_each
from hubbackup.catalog.manifests import Repository
from hubbackup.catalog.target import Target
from hubbackup.errors import HubbackupError, StoreError, StoreSilentError
from hubbackup.jobs.kinds import RunKind
from hubbackup.jobs.results import Result
from hubbackup.jobs.run import Outcome, Run
from hubbackup.retention.policy import Candidate, Decision, plan
from hubbackup.stores import Store

Load = Callable[[Iterable[Listed]], Iterable[Backup]]
"""Reads the manifests of what is listed."""
WhyKept = Callable[[str], str]
"""Why nothing of a database is removed; empty where what the policy does not keep goes."""
GONE = "its database is not on the server any more"
NOT_OURS = "its database is not backed up here"


def _all_may_go(database: str) -> str:
    return ""


@dataclass(frozen=True)
class TargetPlan:
    """The decisions for one database's backups in one target, newest first.

    `frozen_by` names the newest backup where it is in `doubt`, `marks` the files of the marks that the target holds,
    `why_kept` is why nothing of the database is removed at all.
    """

    target: Target
    database: str
    decisions: tuple[Decision, ...]
    frozen_by: str = ""
    doubt: Doubt | None = None
    marks: frozenset[str] = frozenset()
    why_kept: str = ""


@dataclass(frozen=True)
class Pruned:
    """What was removed, as (target's name, file name), and a sentence for each removal that failed.

    `locked`: what the store itself lets nobody remove yet. That is no failure: a later prune removes it.
    """

    removed: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()
    locked: tuple[str, ...] = ()


@dataclass(frozen=True)
class PruneResult(Result):
    """The plans, and `target:name` of each copy that was removed; None for a dry run."""

    plans: tuple[TargetPlan, ...]
    removed: tuple[str, ...] | None = None
    locked: tuple[str, ...] = ()

    def facts(self) -> dict[str, object]:
        """What was removed, and what is locked for longer than was known; the plans may be long."""
        facts: dict[str, object] = {} if self.removed is None else {"removed": list(self.removed)}
        return facts | ({"locked": list(self.locked)} if self.locked else {})


@dataclass(frozen=True)
class PruneJob:
    """Removes from `targets` what their policies no longer keep; `dry_run`: it only plans."""

    targets: Sequence[Target]
    zone: ZoneInfo
    dry_run: bool = False
    databases: Sequence[str] | None = None
    """None: of every one."""
    why_kept: WhyKept = _all_may_go
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    kind: ClassVar[RunKind] = "prune"

    @property
    def needs_lock(self) -> bool:
        """A plan alone gets in nobody's way."""
        return not self.dry_run

    def __call__(self, run: Run) -> Outcome[PruneResult]:
        """A target that can't be listed is a problem of the outcome, and the others are pruned.

        Raises HubbackupError naming each removal that failed, StoreError where no target can be listed.
        """
        now = self.now().astimezone(self.zone)
        with run.stage("plan"):
            found = scan_each(self.targets).or_raise()
            listed = [one for one in found.listed if self.databases is None or one.name.database in self.databases]
            problems = tuple(f"nothing is pruned in {target.name}: {error}" for target, error in found.failed)
            plans = make_plans(listed, found.stores, now, reader(found.stores, self.zone), self.why_kept)
        if self.dry_run:
            return Outcome("dry run: nothing was removed", PruneResult(tuple(plans)), problems)
        with run.stage("prune"):
            pruned = apply_plans(plans)
            for database in (None,) if self.databases is None else self.databases:
                swept = sweep(found.stores, database, self.zone, now, self.why_kept)
                pruned = replace(
                    pruned, removed=pruned.removed + swept.removed, problems=pruned.problems + swept.problems
                )
        if pruned.problems:
            raise HubbackupError("; ".join((*problems, *pruned.problems)), remedy="the next prune tries again")
        removed = tuple(f"{target}:{name}" for target, name in pruned.removed)
        return Outcome("prune finished", PruneResult(tuple(plans), removed, pruned.locked), problems)


def reader(stores: Sequence[Repository], zone: ZoneInfo) -> Load:
    """Reads from `stores`; one that does not answer is not asked again."""
    silent: set[str] = set()
    return lambda listed: read_backups(listed, stores, zone, silent)


def make_plans(
    listed: Iterable[Listed],
    targets: Sequence[Target],
    now: datetime,
    load: Load,
    why_kept: WhyKept = _all_may_go,
) -> list[TargetPlan]:
    """Plan each target and each database by itself. Nothing is done. `now` is in the operator's time zone.

    `listed` comes from all the targets at once: a pin or a suspicion in one of them counts in each.
    """
    databases: dict[str, list[Listed]] = {}
    for one in listed:
        databases.setdefault(one.name.database, []).append(one)
    return [
        made
        for database in sorted(databases)
        for made in _plan(database, databases[database], targets, now, load, why_kept(database))
    ]


def frozen_by(plans: Iterable[TargetPlan]) -> tuple[str, Doubt] | None:
    """The newest backup where it is in doubt, so that nothing is removed, and what is to be done about it."""
    return next(((one.frozen_by, one.doubt) for one in plans if one.doubt is not None), None)


def _plan(
    database: str, listed: Sequence[Listed], targets: Sequence[Target], now: datetime, load: Load, why_kept: str
) -> list[TargetPlan]:
    """Plan by what is known, read what that plan rests on, and plan again, until it rests on what was read."""
    known = {one.name: _Known(one, now) for one in listed}
    plans: list[TargetPlan] = []
    while True:
        published = [one for one in known.values() if one.published]
        newest = max(published, key=lambda one: (one.started_at, str(one.listed.name)), default=None)
        doubt = newest.doubt if newest is not None else None
        frozen_by = str(newest.listed.name) if newest is not None and doubt is not None else ""
        frozen = why_kept or (f"{frozen_by} is {doubt.state}" if doubt is not None else "")
        unread = {newest.listed.name} if newest is not None else set()
        for target in targets:
            here = [one for one in known.values() if target.name in one.listed.copies]
            decisions = _decisions(here, target, now, frozen)
            marks = frozenset(
                one.listed.name.mark(mark)
                for one in here
                for mark, held_in in one.listed.marks.items()
                if target.name in held_in
            )
            plans.append(TargetPlan(target, database, tuple(decisions), frozen_by, doubt, marks, why_kept))
            resting_on = {one.candidate.name for one in decisions if not one.settled}
            unread |= {one.listed.name for one in here if one.listed.copies[target.name].name in resting_on}
        asked = [one.listed for one in known.values() if one.listed.name in unread and not one.read]
        if not asked:
            return plans
        plans.clear()  # of a long backlog there is room for one plan
        for backup in load(asked):
            known[backup.name].learn(backup)


def _decisions(here: Sequence[_Known], target: Target, now: datetime, frozen_by: str) -> list[Decision]:
    """The plan for one target. It removes only what goes whether the unreadable ones are good or not.

    So one that an archive class holds neither takes the place of a good one nor goes before its time.
    """
    decisions = plan([one.candidate(target) for one in here], target.policy, now, frozen_by=frozen_by)
    if not any(one.unreadable for one in here):
        return decisions
    presumed = [one.candidate(target, presume=True) for one in here]
    otherwise = {one.candidate.name: one for one in plan(presumed, target.policy, now, frozen_by=frozen_by)}
    return [one if one.keep else otherwise[one.candidate.name] for one in decisions]


class _Known:
    """What is known of a backup: what the listing shows, and what its manifest says once that was read.

    Not the manifest itself, which may be long, and there may be very many.
    """

    __slots__ = ("doubt", "foreign", "good_in", "listed", "published", "read", "started_at", "unreadable")

    def __init__(self, listed: Listed, now: datetime) -> None:
        self.listed = listed
        self.read = False
        self.started_at = listed.name.local_time.replace(tzinfo=now.tzinfo)
        self.published = bool(listed.manifests_in)
        self.doubt: Doubt | None = None
        self.unreadable = False
        self.foreign = False
        self.good_in = tuple(store for store in listed.copies if listed.published_in(store))

    def learn(self, backup: Backup) -> None:
        """The manifest was read."""
        self.read = True
        self.started_at = backup.started_at
        self.published = backup.proven
        self.doubt = next(iter(backup.doubts), None)
        self.unreadable = backup.unreadable
        self.foreign = backup.foreign
        self.good_in = tuple(store for store in backup.copies if backup.good_in(store))

    def candidate(self, target: Target, *, presume: bool = False) -> Candidate:
        """One in doubt does not count as good: not for the minimum, not for a week, a month or a year.

        Nor does an unreadable one, unless `presume`.
        """
        pinned, store = Mark.PINNED in self.listed.marks, target.name
        good = store in self.good_in and self.doubt is None
        good = good or (presume and self.unreadable and self.listed.published_in(store))
        entry = self.listed.copies[store]
        return Candidate(entry.name, self.started_at, good, pinned, self.foreign, target.lock_end(entry))


def apply_plans(plans: Sequence[TargetPlan]) -> Pruned:
    """Remove what the plans say, oldest first. One failed removal does not stop the others.

    But a target that does not answer is left alone from there on.
    """
    removed: list[tuple[str, str]] = []
    problems: list[str] = []
    locked: list[str] = []
    for made in plans:
        for decision in reversed(made.decisions):
            name = BackupName.parse(decision.candidate.name)
            if decision.keep or name is None:
                continue
            try:
                remove(made.target.store, name, made.marks)
            except StoreError as error:
                if _is_locked(made.target, name):
                    locked.append(f"{made.target.name}:{name}")
                    continue
                problems.append(f"{name} stays in {made.target.describe()}: {error}")
                if isinstance(error, StoreSilentError):
                    break
                continue
            removed.append((made.target.name, str(name)))
    return Pruned(tuple(removed), tuple(problems), tuple(locked))


def _is_locked(target: Target, name: BackupName) -> bool:
    """Whether the store says that nobody can remove the backup yet: locked by an earlier setting, or by its own."""
    try:
        until = target.locked_until(str(name))
    except StoreError:
        return False
    return until is not None and until > datetime.now(UTC)


def sweep(
    targets: Sequence[Target],
    database: str | None,
    zone: ZoneInfo,
    now: datetime,
    why_kept: WhyKept = _all_may_go,
) -> Pruned:
    """Remove the manifests and marks of backups that a rule of their bucket has removed, as it was asked to.

    Where nothing is ever pruned they stay: they are small, and nothing counts them. So do those of a pinned one.
    """
    removed: list[tuple[str, str]] = []
    problems: list[str] = []
    for target in targets:
        if not (target.expire_days and target.policy.days):
            continue
        try:
            for listed in scan([target], database, orphans=True):
                started_at = listed.name.started_at(zone)
                if listed.copies or Mark.PINNED in listed.marks or not target.has_expired(started_at, now):
                    continue
                if why_kept(listed.name.database):
                    continue
                remove(target.store, listed.name, {listed.name.mark(mark) for mark in listed.marks})
                removed.append((target.name, listed.name.manifest))
        except StoreError as error:
            problems.append(f"manifests of expired backups stay in {target.describe()}: {error}")
    return Pruned(tuple(removed), tuple(problems))


def remove(store: Store, name: BackupName, marks: Container[str]) -> None:
    """Remove a backup from one store, with those of its marks that are among the files `marks`.

    Raises StoreError; then its file is still listed, for the next try.
    """
    store.delete(name.manifest)
    for mark in Mark:
        if name.mark(mark) in marks:
            store.delete(name.mark(mark))
    store.delete(str(name))
