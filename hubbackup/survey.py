"""Gather the snapshot: one look at the stores, the manifests and the history of runs.

A store that doesn't answer is a fact of the snapshot, never an error of the survey. Manifests are read once and
remembered as long as their file stays the same, so that looking every few minutes costs S3 one listing.
"""

from __future__ import annotations

import io
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, BinaryIO
from zoneinfo import ZoneInfo

from hubbackup import package_version
from hubbackup.catalog import MANIFEST_MAX_BYTES, Backup, BackupName, list_backups
from hubbackup.errors import NotFoundError, StoreError
from hubbackup.outlook import removals
from hubbackup.prune import make_plans
from hubbackup.report.history import History
from hubbackup.report.snapshot import BackupFacts, Leaving, RunFacts, Snapshot, StoreFacts
from hubbackup.report.words import printable
from hubbackup.retention import Policy
from hubbackup.schedule import Schedule
from hubbackup.stores import Entry, Store
from hubbackup.stores.local import LocalStore

OUTLOOK_RUNS = 60
"""So many coming runs are played through to tell what goes when."""


@dataclass(frozen=True)
class Scope:
    """What to look at, put together by `app`."""

    databases: tuple[str, ...]
    stores: Sequence[tuple[Store, Policy]]
    history: History
    schedule: Schedule
    zone: ZoneInfo
    drill_schedule: Schedule | None = None


class Survey:
    """Takes snapshots of one Scope. Not for several threads at once: it remembers what it has read and counted."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._memories: dict[str, dict[Entry, bytes]] = {store.name: {} for store, _ in scope.stores}
        self._counted = {str(record["run_id"]) for record in scope.history.runs()}
        self._tally: Counter[tuple[str, str]] = Counter()

    def take(self, now: datetime) -> Snapshot:
        """Look at everything now (aware). Raises StoppedError where the process is asked to stop."""
        scope = self._scope
        views = [_View(store, self._memories[store.name]) for store, _ in scope.stores]
        backups = [b for b in _list_what_answers(views, scope.zone) if b.name.database in scope.databases]
        for view in views:
            self._memories[view.name] = view.worth_remembering()
        runs = tuple(sorted(self._runs(), key=lambda run: run.started_at, reverse=True))
        answering = [
            (store, policy) for (store, policy), view in zip(scope.stores, views, strict=True) if not view.error
        ]
        return Snapshot(
            taken_at=now,
            version=package_version(),
            schedule=scope.schedule,
            drill_schedule=scope.drill_schedule,
            databases=tuple(printable(name) for name in scope.databases),
            stores=tuple(
                _store_facts(store, policy, view.error)
                for (store, policy), view in zip(scope.stores, views, strict=True)
            ),
            backups=tuple(_backup_facts(backup) for backup in reversed(backups)),
            runs=runs,
            leaving=tuple(_outlook(backups, answering, scope.schedule, now)),
            tally=dict(self._tally),
        )

    def _runs(self) -> Iterator[RunFacts]:
        """The recorded runs. A new one is counted here, since the record is trimmed and a counter must not fall."""
        present = set()
        for record in self._scope.history.runs():
            run = _run_facts(record)
            if run is None:
                continue
            present.add(run.run_id)
            if run.run_id not in self._counted:
                self._tally[run.kind, run.result] += 1
            yield run
        self._counted = present


@dataclass
class _View:
    """A store as it was listed once, with the small files that were read of it before."""

    store: Store
    memory: dict[Entry, bytes]
    error: StoreError | None = None
    listing: dict[str, Entry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name = self.store.name
        try:
            self.listing = {entry.name: entry for entry in self.store.entries()}
        except StoreError as error:
            self.error = error

    def entries(self) -> Iterator[Entry]:
        """What there was."""
        return iter(self.listing.values())

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A small file whole. A store that fails to give it has an `error` from here on."""
        entry = self.listing[name]
        if entry not in self.memory:
            try:
                with self.store.open(name) as stream:
                    self.memory[entry] = stream.read(MANIFEST_MAX_BYTES)
            except NotFoundError:
                raise
            except StoreError as error:
                self.error = error
                raise
        return io.BytesIO(self.memory[entry])

    def worth_remembering(self) -> dict[Entry, bytes]:
        """What is still there; all of it where the store failed, since it may answer again."""
        if self.error:
            return self.memory
        return {entry: data for entry, data in self.memory.items() if self.listing.get(entry.name) == entry}


def _list_what_answers(views: Sequence[_View], zone: ZoneInfo) -> list[Backup]:
    """The backups of all the stores that answer, oldest first. A view that fails meanwhile is left out."""
    while True:
        answering = [view for view in views if view.error is None]
        try:
            return list_backups(answering, zone)
        except StoreError:
            if all(view.error is None for view in answering):
                raise


def _backup_facts(backup: Backup) -> BackupFacts:
    manifest = backup.manifest
    good_in = tuple(name for name in backup.copies if backup.good_in(name))
    facts = BackupFacts(
        name=str(backup.name),
        database=printable(backup.name.database),
        started_at=backup.started_at,
        stored_bytes=max(copy.size_bytes for copy in backup.copies.values()),
        good_in=good_in,
        not_good_in=tuple(name for name in backup.copies if name not in good_in),
        problem=backup.problem,
    )
    if manifest is None:
        return facts
    return replace(
        facts,
        plain_bytes=manifest.plain_bytes,
        dump_seconds=manifest.dump_seconds,
        verify_seconds=manifest.verify_seconds,
        rows=sum(manifest.rows.values()),
        tables=manifest.table_count,
        verified=manifest.verified,
        warnings=manifest.warnings,
    )


def _run_facts(record: Mapping[str, Any]) -> RunFacts | None:
    """A line of the history, its types checked: the file is on the operators' disk. None where they are wrong."""
    try:
        started_at = datetime.fromisoformat(str(record["started_at"]))
        exit_code, seconds = int(record["exit_code"]), float(record["seconds"])
    except (TypeError, ValueError, OverflowError):
        return None
    if started_at.tzinfo is None:
        return None
    rto_seconds = record.get("rto_seconds")
    name = _text(record, "name")
    parsed = BackupName.parse(name)
    return RunFacts(
        kind=_text(record, "kind"),
        run_id=_text(record, "run_id"),
        started_at=started_at.astimezone(UTC),
        seconds=seconds,
        exit_code=exit_code,
        stage=_text(record, "stage"),
        cause=_text(record, "cause"),
        problems=_texts(record, "problems"),
        database=_text(record, "database") or (printable(parsed.database) if parsed else ""),
        name=name,
        store=_text(record, "store"),
        copies=_texts(record, "copies"),
        plain_bytes=_whole(record, "plain_bytes"),
        stored_bytes=_whole(record, "stored_bytes"),
        rto_seconds=float(rto_seconds) if isinstance(rto_seconds, int | float) else None,
        ok=record.get("ok") is not False,
    )


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    return printable(value) if isinstance(value, str) else ""


def _texts(record: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = record.get(key)
    return tuple(printable(str(one)) for one in value) if isinstance(value, list) else ()


def _whole(record: Mapping[str, Any], key: str) -> int | None:
    value = record.get(key)
    return value if isinstance(value, int) else None


def _store_facts(store: Store, policy: Policy, error: StoreError | None) -> StoreFacts:
    facts = StoreFacts(store.name, store.describe(), _in_words(policy))
    if isinstance(store, LocalStore) and error is None:
        try:
            facts = replace(facts, free_bytes=store.free_bytes(), size_bytes=store.disk_bytes())
        except StoreError as unknown:
            error = unknown
    return replace(facts, problem=str(error), remedy=error.remedy) if error else facts


def _in_words(policy: Policy) -> str:
    if policy.days == 0:
        return "keeps every backup"
    at_least = "the newest good one" if policy.keep_min == 1 else f"{policy.keep_min} good ones"
    return f"keeps {policy.days} days, and always at least {at_least}"


def _outlook(
    backups: Sequence[Backup], stores: Sequence[tuple[Store, Policy]], schedule: Schedule, now: datetime
) -> list[Leaving]:
    """What the coming runs will remove, in the order in which it goes."""
    runs = list(itertools.islice(_due_times(schedule, now), OUTLOOK_RUNS))
    policies = {store.name: policy for store, policy in stores}
    leaving = []
    for one in make_plans(backups, stores, now):
        candidates = [decision.candidate for decision in one.decisions]
        for removal in removals(candidates, policies[one.store.name], runs):
            leaving.append(Leaving(removal.at, one.store.name, printable(one.database), removal.name, removal.reason))
    return sorted(leaving, key=lambda one: (one.at, one.name, one.store))


def _due_times(schedule: Schedule, now: datetime) -> Iterator[datetime]:
    due = schedule.next_after(now)
    while due is not None:
        yield due
        due = schedule.next_after(due)
