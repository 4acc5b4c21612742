"""The snapshot as Prometheus reads it. Every name, label and help text is in docs/metrics.md, held by a test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hubbackup.jobs.history import RESULTS, RunRecord
from hubbackup.jobs.kinds import KINDS
from hubbackup.status.snapshot import BackupFacts, Snapshot
from hubbackup.status.verdict import Verdict

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[tuple[str, ...], float]


@dataclass(frozen=True)
class Gauge:
    """One gauge of the exposition: how it is called, and how its samples come out of a snapshot."""

    name: str
    help: str
    labels: tuple[str, ...]
    samples: Callable[[Snapshot, datetime], Iterator[Sample]]


def _per_copy(
    value: Callable[[Snapshot, str, str], float | None],
) -> Callable[[Snapshot, datetime], Iterator[Sample]]:
    """A gauge's samples for each database in each store; None leaves one out."""

    def samples(snapshot: Snapshot, _: datetime) -> Iterator[Sample]:
        for database, store in itertools.product(snapshot.databases, snapshot.stores):
            found = None if store.problem else value(snapshot, database, store.name)
            if found is not None:
                yield (database, store.name), found

    return samples


def _of_last_good(
    figure: Callable[[BackupFacts], float | None],
) -> Callable[[Snapshot, datetime], Iterator[Sample]]:
    def value(snapshot: Snapshot, database: str, store: str) -> float | None:
        newest = snapshot.last_good(database, store)
        return figure(newest) if newest else None

    return _per_copy(value)


def _next_runs(snapshot: Snapshot, now: datetime) -> Iterator[Sample]:
    for kind, schedule in (("backup", snapshot.schedule), ("drill", snapshot.drill_schedule)):
        due = schedule.next_after(now) if schedule else None
        if due:
            yield (kind,), due.timestamp()


def _last_runs(figure: Callable[[RunRecord], float]) -> Callable[[Snapshot, datetime], Iterator[Sample]]:
    def samples(snapshot: Snapshot, _: datetime) -> Iterator[Sample]:
        for kind in KINDS:
            run = snapshot.last_run(kind)
            if run:
                yield (kind,), figure(run)

    return samples


def _of_each_database(
    figure: Callable[[RunRecord], float],
) -> Callable[[Snapshot, datetime], Iterator[Sample]]:
    """A gauge's samples by database, of what its last backup run came to."""

    def samples(snapshot: Snapshot, _: datetime) -> Iterator[Sample]:
        for database in snapshot.databases:
            run = snapshot.last_run("backup", database)
            if run:
                yield (database,), figure(run)

    return samples


def _last_drill_success(snapshot: Snapshot, _: datetime) -> Iterator[Sample]:
    last = [drill for database in snapshot.databases if (drill := snapshot.last_run("drill", database))]
    if last:
        yield (), all(drill.result in ("success", "degraded") for drill in last)


def _last_drill(
    figure: Callable[[RunRecord], float | None],
) -> Callable[[Snapshot, datetime], Iterator[Sample]]:
    def samples(snapshot: Snapshot, _: datetime) -> Iterator[Sample]:
        for drill in snapshot.runs_of("drill"):
            if (value := figure(drill)) is not None and drill.result != "failed":
                yield (), value
                return

    return samples


def _strangers(snapshot: Snapshot, database: str, store: str, *, foreign: bool) -> int:
    """Those that are foreign, or else those that are from the future."""
    mine = [one for one in snapshot.backups if one.database == database]
    if foreign:
        return sum(one.foreign and store in one.not_good_in for one in mine)
    return sum(one.from_future(snapshot.taken_at) and store in one.good_in for one in mine)


def _schema_proofs(snapshot: Snapshot, _: datetime) -> Iterator[Sample]:
    for database, proof in snapshot.schema_proofs.items():
        if proof.passed_at is not None:
            yield (database,), proof.passed_at.timestamp()


COPY = ("database", "store")
GAUGES = (
    Gauge(
        "hubbackup_last_success_timestamp_seconds",
        "Start of the newest good backup of a database in a store.",
        COPY,
        _of_last_good(lambda backup: backup.started_at.timestamp()),
    ),
    Gauge(
        "hubbackup_last_success_duration_seconds",
        "How long pg_dump took for the newest good backup.",
        COPY,
        _of_last_good(lambda backup: backup.dump_seconds),
    ),
    Gauge(
        "hubbackup_last_success_verify_seconds",
        "How long reading the newest good backup back took, before it was published.",
        COPY,
        _of_last_good(lambda backup: backup.verify_seconds),
    ),
    Gauge(
        "hubbackup_last_success_plain_bytes",
        "Size of the newest good backup as plain SQL.",
        COPY,
        _of_last_good(lambda backup: backup.plain_bytes),
    ),
    Gauge(
        "hubbackup_last_success_stored_bytes",
        "Size of the newest good backup as it is stored, compressed.",
        COPY,
        _of_last_good(lambda backup: backup.stored_bytes),
    ),
    Gauge(
        "hubbackup_backups",
        "Good backups of a database in a store.",
        COPY,
        _per_copy(lambda snapshot, database, store: len(snapshot.in_store(store, database))),
    ),
    Gauge(
        "hubbackup_unrestorable_backups",
        "Backups of a database in a store whose schema a server refused when it was tried.",
        COPY,
        _per_copy(
            lambda snapshot, database, store: sum(bool(b.unrestorable) for b in snapshot.in_store(store, database))
        ),
    ),
    Gauge(
        "hubbackup_damaged_backups",
        "Backups of a database in a store whose copy a verification found damaged.",
        COPY,
        _per_copy(
            lambda snapshot, database, store: sum(
                one.database == database and store in one.damaged_in for one in snapshot.backups
            )
        ),
    ),
    Gauge(
        "hubbackup_foreign_backups",
        "Backups of a database in a store that are not known to be ours.",
        COPY,
        _per_copy(lambda snapshot, database, store: _strangers(snapshot, database, store, foreign=True)),
    ),
    Gauge(
        "hubbackup_future_backups",
        "Good backups of a database in a store that are from the future.",
        COPY,
        _per_copy(lambda snapshot, database, store: _strangers(snapshot, database, store, foreign=False)),
    ),
    Gauge(
        "hubbackup_backups_stored_bytes",
        "Size of all good backups of a database in a store.",
        COPY,
        _per_copy(lambda snapshot, database, store: sum(b.stored_bytes for b in snapshot.in_store(store, database))),
    ),
    Gauge(
        "hubbackup_oldest_backup_timestamp_seconds",
        "Start of the oldest good backup of a database in a store.",
        COPY,
        _per_copy(
            lambda snapshot, database, store: min(
                (backup.started_at.timestamp() for backup in snapshot.in_store(store, database)), default=None
            )
        ),
    ),
    Gauge(
        "hubbackup_last_run_timestamp_seconds",
        "Start of the last run of a kind, however it ended.",
        ("kind",),
        _last_runs(lambda run: run.started_at.timestamp()),
    ),
    Gauge(
        "hubbackup_last_run_duration_seconds",
        "How long the last run of a kind took, all its stages.",
        ("kind",),
        _last_runs(lambda run: run.seconds),
    ),
    Gauge(
        "hubbackup_last_run_exit_code",
        "Exit code of the last run of a kind: 0 success, 1 failed, 3 degraded, 143 stopped.",
        ("kind",),
        _last_runs(lambda run: run.exit_code),
    ),
    Gauge(
        "hubbackup_last_backup_exit_code",
        "What the last backup run came to for a database, as an exit code.",
        ("database",),
        _of_each_database(lambda run: run.exit_code),
    ),
    Gauge(
        "hubbackup_last_backup_timestamp_seconds",
        "When the last backup run began with a database, however it ended.",
        ("database",),
        _of_each_database(lambda run: run.started_at.timestamp()),
    ),
    Gauge(
        "hubbackup_gone_databases",
        "Databases that the server has no more, whose backups are kept.",
        (),
        lambda snapshot, _: iter([((), len(snapshot.gone))]),
    ),
    Gauge("hubbackup_next_run_timestamp_seconds", "When the next run of a kind is due.", ("kind",), _next_runs),
    Gauge(
        "hubbackup_last_drill_success",
        "Whether the last restore drill of every database brought back what was backed up (1) or not (0).",
        (),
        _last_drill_success,
    ),
    Gauge(
        "hubbackup_last_drill_rto_seconds",
        "Time to a usable database, as the last successful drill measured it.",
        (),
        _last_drill(lambda drill: drill.rto_seconds),
    ),
    Gauge(
        "hubbackup_last_drill_load_seconds",
        "Of that, what loading rows, indexes and constraints took.",
        (),
        _last_drill(lambda drill: drill.load_seconds),
    ),
    Gauge(
        "hubbackup_last_schema_drill_timestamp_seconds",
        "When the schema of a database was last shown to restore.",
        ("database",),
        _schema_proofs,
    ),
    Gauge(
        "hubbackup_store_up",
        "Whether a store answered when it was last looked at.",
        ("store",),
        lambda snapshot, _: (((store.name,), not store.problem) for store in snapshot.stores),
    ),
    Gauge(
        "hubbackup_store_free_bytes",
        "Free disk space of a store that has a disk.",
        ("store",),
        lambda snapshot, _: (((s.name,), s.free_bytes) for s in snapshot.stores if s.free_bytes is not None),
    ),
    Gauge(
        "hubbackup_store_size_bytes",
        "Size of the disk of a store that has one.",
        ("store",),
        lambda snapshot, _: (((s.name,), s.size_bytes) for s in snapshot.stores if s.size_bytes is not None),
    ),
    Gauge(
        "hubbackup_snapshot_timestamp_seconds",
        "When the facts of this page were gathered.",
        (),
        lambda snapshot, _: iter([((), snapshot.taken_at.timestamp())]),
    ),
    Gauge(
        "hubbackup_build_info",
        "Always 1, with the version of hubbackup as a label.",
        ("version",),
        lambda snapshot, _: iter([((snapshot.version,), 1)]),
    ),
)
HEALTHY = ("hubbackup_healthy", "Whether the daemon is alive and scheduling (1) or not (0), as /healthz says.")
VERDICT = ("hubbackup_verdict", "The status page's verdict: 0 all right, 1 needs attention, 2 action needed.")
RUNS = ("hubbackup_runs", "Runs that ended since the daemon started, by kind and result.")


@dataclass(frozen=True, eq=False)
class SnapshotCollector(Collector):
    """One exposition. Without a snapshot, which is the first seconds of a daemon, only the health is known."""

    snapshot: Snapshot | None
    verdict: Verdict | None
    healthy: bool
    now: datetime

    def collect(self) -> Iterator[Metric]:
        """Every metric family, in a fixed order."""
        yield GaugeMetricFamily(*HEALTHY, value=self.healthy)
        if self.snapshot is None:
            return
        if self.verdict is not None:
            yield GaugeMetricFamily(*VERDICT, value=int(self.verdict.level))
        for gauge in GAUGES:
            family = GaugeMetricFamily(gauge.name, gauge.help, labels=gauge.labels)
            for labels, value in gauge.samples(self.snapshot, self.now):
                family.add_metric(labels, value)
            yield family
        runs = CounterMetricFamily(*RUNS, labels=("kind", "result"))
        # From zero, so that the first failure of a kind is seen as an increase.
        kinds = dict.fromkeys((*KINDS, *(kind for kind, _ in self.snapshot.tally)))
        for kind, result in itertools.product(kinds, RESULTS):
            runs.add_metric((kind, result), self.snapshot.tally.get((kind, result), 0))
        yield runs


def exposition(snapshot: Snapshot | None, verdict: Verdict | None, *, healthy: bool, now: datetime) -> bytes:
    """The text that Prometheus scrapes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SnapshotCollector(snapshot, verdict, healthy, now))
    return generate_latest(registry)
