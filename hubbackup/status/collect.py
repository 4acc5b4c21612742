"""Gather the snapshot: one look at the stores, the manifests and the history of runs.

A store that doesn't answer is a fact of the snapshot, never an error of the survey. The manifests of the newest
backups are read once and their contents are remembered as long as their file stays the same, so that looking every
few minutes costs S3 one listing; older backups are known by their names.
"""

from __future__ import annotations

import io
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import BinaryIO
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from hubbackup import package_version
from hubbackup.catalog.backup import Backup, BackupName, Manifest, Mark, portions
from hubbackup.catalog.listing import Listed, newest, read_backups, scan
from hubbackup.catalog.target import Target
from hubbackup.config.schedule import Schedule
from hubbackup.errors import StoreError, StoreSilentError
from hubbackup.jobs.history import History, RunRecord
from hubbackup.retention.forecast import removals
from hubbackup.retention.prune import make_plans, reader
from hubbackup.shown_text import printable
from hubbackup.status.snapshot import BackupFacts, Leaving, Snapshot, StoreFacts
from hubbackup.stores import Entry

OUTLOOK_RUNS = 30
"""Coming runs that are simulated to forecast removals."""
REMEMBERED_BYTES = 8 << 20
"""Of each store, a kilobyte or so of each manifest; what is beyond is read anew each time, as for a backlog that the
next prune removes."""
BROKEN_BYTES = 4 << 10
"""What is kept of a manifest that makes no sense."""
READ_MANIFESTS = 120
"""Per database, newest first."""


@dataclass(frozen=True)
class Scope:
    """What to look at, put together by `app`."""

    databases: tuple[str, ...]
    targets: Sequence[Target]
    history: History
    schedule: Schedule
    zone: ZoneInfo
    drill_schedule: Schedule | None = None


class Collector:
    """Takes snapshots of one Scope. Not for several threads at once: it remembers what it has read and counted."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._memories: dict[str, dict[Entry, bytes]] = {target.name: {} for target in scope.targets}
        self._counted = {run.run_id for run in scope.history.runs()}
        self._tally: Counter[tuple[str, str]] = Counter()

    def take(self, now: datetime) -> Snapshot:
        """Look at everything now (aware). Raises StoppedError where the process is asked to stop."""
        scope = self._scope
        views = [_View(target, self._memories[target.name]) for target in scope.targets]
        found = _Found()
        while any(view.error is None for view in views):
            answering = [view for view in views if not view.error]
            try:
                found = self._look(answering, now)
                break
            except StoreError:  # a view that failed meanwhile is left out, and the others are asked again
                if all(view.error is None for view in answering):
                    raise
        for view in views:
            self._memories[view.name] = view.worth_remembering()
        return Snapshot(
            taken_at=now,
            version=package_version(),
            schedule=scope.schedule,
            drill_schedule=scope.drill_schedule,
            databases=tuple(printable(name) for name in scope.databases),
            stores=tuple(_store_facts(view.target, view.error) for view in views),
            backups=tuple(sorted(found.backups, key=lambda one: (one.started_at, one.name), reverse=True)),
            runs=tuple(sorted(self._runs(), key=lambda run: run.started_at, reverse=True)),
            leaving=tuple(sorted(found.leaving, key=lambda one: (one.at, one.name, one.store))),
            tally=dict(self._tally),
        )

    def _look(self, views: Sequence[_View], now: datetime) -> _Found:
        """The backups of the views that answer, and what the coming runs will remove. Raises StoreError."""
        zone = self._scope.zone
        runs = [due.astimezone(zone) for due in itertools.islice(_due_times(self._scope.schedule, now), OUTLOOK_RUNS)]
        found = _Found()
        for database in self._scope.databases:
            listed = list(scan(views, database))
            told, _ = newest(listed, READ_MANIFESTS)
            read = {backup.name: backup for backup in read_backups(told, views, zone)}
            found.backups += [_backup_facts(one, read.get(one.name), zone) for one in listed]
            targets = [view.target for view in views]
            for plan in make_plans(listed, targets, now.astimezone(zone), reader(views, zone)):
                candidates = [decision.candidate for decision in plan.decisions]
                found.leaving += [
                    Leaving(one.at.astimezone(UTC), plan.target.name, printable(database), one.name, one.reason)
                    for one in removals(candidates, plan.target.policy, runs)
                ]
        for view in views:
            if view.error is not None:
                raise view.error
        return found

    def _runs(self) -> Iterator[RunRecord]:
        """The recorded runs. A new one is counted here, since the record is trimmed and a counter must not fall."""
        present = set()
        for run in map(_shown, self._scope.history.runs()):
            present.add(run.run_id)
            if run.run_id not in self._counted:
                self._tally[run.kind, run.result] += 1
            yield run
        self._counted = present


@dataclass
class _Found:
    """What one look brought."""

    backups: list[BackupFacts] = field(default_factory=list)
    leaving: list[Leaving] = field(default_factory=list)


@dataclass
class _View:
    """A target as it was listed once, with what its manifests say, as far as it was remembered."""

    target: Target
    memory: dict[Entry, bytes]
    error: StoreError | None = None
    listing: dict[str, Entry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name = self.target.name
        self.remote = self.target.remote
        self._seen: dict[Entry, bytes] = {}
        self._seen_bytes = 0
        try:
            self.listing = {entry.name: entry for entry in self.target.entries()}
        except StoreError as error:
            self.error = error

    def entries(self) -> Iterator[Entry]:
        """What there was."""
        return iter(self.listing.values())

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A manifest without what no snapshot shows. A store that does not answer has an `error` from here on."""
        entry = self.listing[name]
        data = self._seen.get(entry, self.memory.get(entry))
        if data is None:
            try:
                with self.target.open(name) as stream:
                    data = _distilled(b"".join(portions(stream)))
            except StoreSilentError as error:
                self.error = error
                raise
        if entry not in self._seen and self._seen_bytes + len(data) <= REMEMBERED_BYTES:
            self._seen_bytes += len(data)
            self._seen[entry] = data
        return io.BytesIO(data)

    def worth_remembering(self) -> dict[Entry, bytes]:
        """What this look has seen, the newest backups first; where the store failed, what was known before."""
        return self.memory or self._seen if self.error else self._seen


def _distilled(data: bytes) -> bytes:
    """The manifest with its rows as one sum and without what grows with the database; of a broken one, its beginning.

    A broken one stays broken: its beginning alone must not make sense.
    """
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError:
        return data if len(data) <= BROKEN_BYTES else data[:BROKEN_BYTES] + b"\0"
    lean = {
        "rows": {"": sum(manifest.rows.values())},
        "properties": {},
        "globals_sql": "",
        "extensions": (),
        "roles": (),
    }
    return manifest.model_copy(update=lean).to_json()


def _backup_facts(listed: Listed, backup: Backup | None, zone: ZoneInfo) -> BackupFacts:
    """What is known of a backup: by its name alone where its manifest was not read."""
    good = backup.good_in if backup is not None else listed.published_in
    good_in = tuple(name for name in listed.copies if good(name))
    facts = BackupFacts(
        name=str(listed.name),
        database=printable(listed.name.database),
        started_at=listed.name.started_at(zone),
        stored_bytes=max(copy.size_bytes for copy in listed.copies.values()),
        good_in=good_in,
        not_good_in=tuple(name for name in listed.copies if name not in good_in),
        damaged_in=tuple(name for name in listed.copies if name in listed.marks.get(Mark.BAD, ())),
        pinned=Mark.PINNED in listed.marks,
        problem="" if listed.manifests_in else "it has no manifest",
        unrestorable="a drill of its schema failed" if Mark.UNRESTORABLE in listed.marks else "",
    )
    if backup is None:
        return facts
    facts = replace(facts, started_at=backup.started_at, problem=backup.problem)
    if backup.unrestorable:
        facts = replace(facts, unrestorable=printable(backup.doubts[0].why))
    manifest = backup.manifest
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
        warnings=manifest.warnings if backup.suspicious else (),
    )


def _shown(run: RunRecord) -> RunRecord:
    """The record in texts that can be shown; where it names no database, its backup does."""
    parsed = BackupName.parse(run.name)
    return run._replace(
        kind=printable(run.kind),
        run_id=printable(run.run_id),
        stage=printable(run.stage),
        cause=printable(run.cause),
        problems=tuple(map(printable, run.problems)),
        database=printable(run.database or (parsed.database if parsed else "")),
        name=printable(run.name),
        store=printable(run.store),
        copies=tuple(map(printable, run.copies)),
    )


def _store_facts(target: Target, error: StoreError | None) -> StoreFacts:
    policy, disk = target.policy, target.disk
    good = f" good one{'s' * (policy.keep_min > 1)}" if policy.days else ""
    facts = StoreFacts(
        target.name, target.title, target.describe(), f"keeps {policy}{good}", on_disk=disk is not None
    )
    if disk is not None and error is None:
        try:
            facts = replace(facts, free_bytes=disk.free_bytes(), size_bytes=disk.disk_bytes())
        except StoreError as unknown:
            error = unknown
    return replace(facts, problem=str(error), remedy=error.remedy) if error else facts


def _due_times(schedule: Schedule, now: datetime) -> Iterator[datetime]:
    due = schedule.next_after(now)
    while due is not None:
        yield due
        due = schedule.next_after(due)
