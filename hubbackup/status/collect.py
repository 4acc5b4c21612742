"""Gather the snapshot: one look at the stores, the manifests and the history of runs.

A store that doesn't answer is a fact of the snapshot, never an error of the survey. The manifests of the newest
backups are read once and their contents are remembered as long as their file stays the same, so that looking every
few minutes costs S3 one listing; older backups are known by their names.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import BinaryIO
from zoneinfo import ZoneInfo

from hubbackup import package_version
from hubbackup.catalog.backup import Backup, BackupName, Manifest, Mark
from hubbackup.catalog.listing import Listed, newest, read_backups, scan
from hubbackup.catalog.manifests import Judged, read_manifest
from hubbackup.catalog.origin import Origin, Trust
from hubbackup.catalog.schema_proofs import SchemaProofs
from hubbackup.catalog.target import Target
from hubbackup.config.schedule import Schedule
from hubbackup.errors import HubbackupError, NotProvenError, StoppedError, StoreError, StoreSilentError
from hubbackup.jobs.history import History, RunRecord, whole_runs
from hubbackup.retention.forecast import removals
from hubbackup.retention.prune import GONE, make_plans, reader
from hubbackup.shown_text import printable
from hubbackup.status.snapshot import AlertFacts, Aside, BackupFacts, KeptDatabase, Leaving, Snapshot, StoreFacts
from hubbackup.stores import Entry

OUTLOOK_RUNS = 30
"""Coming runs that are simulated to forecast removals."""
REMEMBERED_BYTES = 8 << 20
"""Of each store, a kilobyte or so of each manifest; what is beyond is read anew each time, as for a backlog that the
next prune removes."""
ASIDE_EVERY = timedelta(hours=1)
READ_MANIFESTS = 120
"""Per database, newest first."""


@dataclass(frozen=True)
class Scope:
    """What to look at, put together by `app`."""

    databases: Callable[[], Sequence[str]]
    targets: Sequence[Target]
    history: History
    schedule: Schedule
    zone: ZoneInfo
    drill_schedule: Schedule | None = None
    watched_since: Callable[[str], datetime | None] = lambda database: None
    """Since when there should be backups of a database."""
    aside: Callable[[], Sequence[KeptDatabase]] | None = None
    """Asks the server for the databases beside the live ones. Raises HubbackupError."""
    alerts: Callable[[], AlertFacts] = AlertFacts
    schema_proofs: SchemaProofs | None = None
    several: bool = False
    """Whether runs say of which database they are."""
    gone: Callable[[], Mapping[str, datetime]] = dict
    """The databases that the server has no more, and since when."""


class Collector:
    """Takes snapshots of one Scope. Not for several threads at once: it remembers what it has read and counted."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._memories = {target.name: _Memory(target.trust()) for target in scope.targets}
        self._counted = {run.run_id for run in scope.history.runs()}
        self._tally: Counter[tuple[str, str]] = Counter()
        self._aside = Aside()
        self._aside_asked: tuple[datetime, Hashable] | None = None

    def take(self, now: datetime) -> Snapshot:
        """Look at everything now (aware). Raises StoppedError where the process is asked to stop."""
        scope = self._scope
        names, gone = scope.databases(), scope.gone()
        views = [_View(target, self._memories[target.name].under(target.trust())) for target in scope.targets]
        found = _Found()
        while any(view.error is None for view in views):
            answering = [view for view in views if not view.error]
            try:
                found = self._look(answering, now, (*names, *gone))
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
            watched_since={printable(name): since for name in names if (since := scope.watched_since(name))},
            aside=self._look_aside(now),
            alerts=scope.alerts(),
            schema_proofs={printable(name): scope.schema_proofs.of(name) for name in names if scope.schema_proofs},
            databases=tuple(printable(name) for name in names),
            several=scope.several,
            gone={
                printable(name): since
                for name, since in gone.items()
                if any(backup.database == printable(name) for backup in found.backups)
            },
            stores=tuple(_store_facts(view.target, view.error) for view in views),
            backups=tuple(sorted(found.backups, key=lambda one: (one.started_at, one.name), reverse=True)),
            runs=tuple(sorted(self._runs(), key=lambda run: run.started_at, reverse=True)),
            leaving=tuple(sorted(found.leaving, key=lambda one: (one.at, one.name, one.store))),
            tally=dict(self._tally),
        )

    def _look(self, views: Sequence[_View], now: datetime, databases: Sequence[str]) -> _Found:
        """The backups of the views that answer, and what the coming runs will remove. Raises StoreError."""
        zone = self._scope.zone
        runs = [due.astimezone(zone) for due in itertools.islice(_due_times(self._scope.schedule, now), OUTLOOK_RUNS)]
        found, gone = _Found(), self._scope.gone()

        def why_kept(database: str) -> str:
            return GONE if database in gone else ""

        for database in databases:
            listed = list(scan(views, database))
            told, _ = newest(listed, READ_MANIFESTS)
            read = {backup.name: backup for backup in read_backups(told, views, zone)}
            found.backups += [_backup_facts(one, read.get(one.name), zone) for one in listed]
            targets = [view.target for view in views]
            for plan in make_plans(listed, targets, now.astimezone(zone), reader(views, zone), why_kept):
                candidates = [decision.candidate for decision in plan.decisions]
                found.leaving += [
                    Leaving(one.at.astimezone(UTC), plan.target.name, printable(database), one.name, one.reason)
                    for one in removals(candidates, plan.target.policy, runs)
                ]
        for view in views:
            if view.error is not None:
                raise view.error
        return found

    def _look_aside(self, now: datetime) -> Aside:
        """Asked after each run and each hour, not more: it starts a command in the database's container."""
        stamp = self._scope.history.stamp()
        asked = self._aside_asked
        if self._scope.aside is None or (asked and asked[1] == stamp and now - asked[0] < ASIDE_EVERY):
            return self._aside
        self._aside_asked = (now, stamp)
        try:
            self._aside = Aside(tuple(self._scope.aside()))
        except StoppedError:
            raise
        except HubbackupError as error:
            self._aside = Aside(problem=str(error))
        return self._aside

    def _runs(self) -> Iterator[RunRecord]:
        """The recorded runs. A new one is counted here, since the record is trimmed and a counter must not fall."""
        runs = [_shown(run) for run in self._scope.history.runs()]
        present = set()
        for run in whole_runs(runs):
            present.add(run.run_id)
            if run.run_id not in self._counted:
                self._tally[run.kind, run.result] += 1
        self._counted = present
        yield from runs


@dataclass
class _Found:
    """What one look brought."""

    backups: list[BackupFacts] = field(default_factory=list)
    leaving: list[Leaving] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A manifest as far as a snapshot shows it, packed; empty where it makes no sense, which `doubt` then says."""

    lean: bytes
    origin: Origin
    doubt: str

    @classmethod
    def of(cls, judged: Judged) -> _Seen:
        """Its rows as one sum, and without what grows with the database."""
        manifest = judged.manifest
        lean = {
            "rows": {"": sum(manifest.rows.values())},
            "materialized_views": {},
            "properties": {},
            "globals_sql": "",
            "extensions": (),
            "roles": (),
        }
        text = manifest.model_copy(update=lean).model_dump_json()
        return cls(text.encode(), judged.origin, judged.doubt)

    def judged(self, name: BackupName) -> Judged:
        """Raises NotProvenError where it makes no sense."""
        if not self.lean:
            raise NotProvenError(self.doubt)
        return Judged(Manifest.from_json(self.lean, name=str(name)), self.origin, self.doubt)


@dataclass(frozen=True)
class _Memory:
    """What was read of a store's manifests, and what was believed of them then."""

    trust: Trust
    seen: dict[Entry, _Seen] = field(default_factory=dict)

    def under(self, trust: Trust) -> _Memory:
        """What still counts where another key is believed now: nothing."""
        return self if trust == self.trust else _Memory(trust)


@dataclass
class _View:
    """A target as it was listed once, with what its manifests say, as far as it was remembered."""

    target: Target
    memory: _Memory
    error: StoreError | None = None
    listing: dict[str, Entry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name = self.target.name
        self.remote = self.target.remote
        self._seen: dict[Entry, _Seen] = {}
        self._seen_bytes = 0
        try:
            self.listing = {entry.name: entry for entry in self.target.entries()}
        except StoreError as error:
            self.error = error

    def entries(self) -> Iterator[Entry]:
        """What there was."""
        return iter(self.listing.values())

    def open(self, name: str, *, start: int = 0, end: int | None = None) -> AbstractContextManager[BinaryIO]:
        """The target's."""
        return self.target.open(name, start=start, end=end)

    def manifest(self, name: BackupName) -> Judged:
        """The manifest without what no snapshot shows. A store that does not answer has an `error` from here on."""
        entry = self.listing[name.manifest]
        seen = self._seen.get(entry) or self.memory.seen.get(entry)
        if seen is None:
            seen = self._read(name, entry)
        size = len(seen.lean) + len(seen.doubt)
        if entry not in self._seen and self._seen_bytes + size <= REMEMBERED_BYTES:
            self._seen_bytes += size
            self._seen[entry] = seen
        return seen.judged(name)

    def vouches(self, name: BackupName, mark: Mark) -> bool:
        """The target's word."""
        return self.target.vouches(name, mark)

    def _read(self, name: BackupName, entry: Entry) -> _Seen:
        put_at = (lambda: entry.modified_at) if self.remote else None
        try:
            return _Seen.of(read_manifest(self.target, name, self.memory.trust, put_at))
        except NotProvenError as error:
            return _Seen(b"", Origin.UNPROVEN, str(error))
        except StoreSilentError as error:
            self.error = error
            raise

    def worth_remembering(self) -> _Memory:
        """What this look has seen, the newest backups first; where the store failed, what was known before."""
        kept = self.memory.seen or self._seen if self.error else self._seen
        return _Memory(self.memory.trust, kept)


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
        sealed=listed.name.format.sealed,
        problem="" if listed.manifests_in else "it has no manifest",
        unrestorable="a drill of its schema failed" if Mark.UNRESTORABLE in listed.marks else "",
    )
    if backup is None:
        return facts
    facts = replace(facts, started_at=backup.started_at, problem=backup.problem, origin=str(backup.origin))
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
        left_out=printable(manifest.without),
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
        remedy=printable(run.remedy),
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
        target.name,
        target.title,
        target.describe(),
        f"keeps {policy}{good}",
        on_disk=disk is not None,
        fetch=target.fetch,
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
