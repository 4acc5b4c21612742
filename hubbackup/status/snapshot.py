"""What is known of the backups at one moment: plain immutable facts, from which page, metrics and status are made.

Nothing here holds a secret, and nothing refers to a store or a file that is still to be read: whoever has a
snapshot can show it without asking anybody. Times are aware UTC, names are printable text.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from hubbackup.catalog.backup import CLOCK_TOLERANCE
from hubbackup.catalog.origin import Origin
from hubbackup.catalog.schema_proofs import SchemaProof
from hubbackup.config.schedule import Schedule
from hubbackup.jobs.history import RunRecord, whole_runs


@dataclass(frozen=True, slots=True)
class BackupFacts:
    """One backup, and where it is. What only a manifest says is None or empty where there is none to trust."""

    name: str
    database: str
    started_at: datetime
    stored_bytes: int
    good_in: tuple[str, ...]
    """The stores that hold it whole, with its manifest."""
    not_good_in: tuple[str, ...] = ()
    """The stores that hold a file of its name that can't be trusted."""
    damaged_in: tuple[str, ...] = ()
    """Those of them whose copy the last verification found damaged."""
    pinned: bool = False
    sealed: bool = False
    """It takes a private key to read it."""
    plain_bytes: int | None = None
    dump_seconds: float | None = None
    verify_seconds: float | None = None
    rows: int | None = None
    tables: int | None = None
    verified: str = ""
    """How it was read back before it was published: `full` or `hash`."""
    problem: str = ""
    """Why there is no manifest to trust."""
    origin: str = ""
    """`ours`, `earlier`, `foreign` or `unproven`; empty where its manifest was not read."""
    warnings: tuple[str, ...] = ()
    """Why it is suspicious, as long as nobody has accepted it."""
    unrestorable: str = ""
    """Why a server refused its schema; empty where none did."""
    left_out: str = ""
    """What it was made without; empty where nothing was left out."""

    @property
    def foreign(self) -> bool:
        """It is not ours: nothing counts on it."""
        return self.origin == Origin.FOREIGN

    def from_future(self, now: datetime) -> bool:
        """It is good, and made while the clock was ahead, or the clock is behind now."""
        return self.good and self.started_at > now + CLOCK_TOLERANCE

    @property
    def good(self) -> bool:
        """It is proven and whole in at least one store."""
        return bool(self.good_in)


@dataclass(frozen=True)
class StoreFacts:
    """One store: whether it answered, and what it holds. `problem` is empty where all is well."""

    name: str
    title: str
    """Its name in a sentence."""
    where: str
    keeps: str
    """Its retention policy, in words."""
    on_disk: bool = False
    """It is on this machine's own disk."""
    problem: str = ""
    remedy: str = ""
    fetch: str = ""
    """How a file is fetched by hand: a command with `{name}`; empty where there is none."""
    free_bytes: int | None = None
    size_bytes: int | None = None
    """Of the disk; like `free_bytes` None where the store has no such limit."""


@dataclass(frozen=True)
class AlertFacts:
    """Who is told of failures, and whether that works. `sinks` are their labels, without secrets."""

    sinks: tuple[str, ...] = ()
    heartbeat: bool = False
    waiting: int = 0
    """Messages that no sink, or not every one, has taken yet."""
    sent_at: datetime | None = None
    sent: str = ""
    """The title of the last one that was taken."""
    failed_at: datetime | None = None
    failure: str = ""

    @property
    def failing(self) -> bool:
        """The last attempt of all was not taken."""
        return self.failed_at is not None and (self.sent_at is None or self.sent_at < self.failed_at)


@dataclass(frozen=True)
class KeptDatabase:
    """What a restore put aside (`before`), or what a killed one left half-filled (`restore`)."""

    name: str
    size_bytes: int
    kind: str


@dataclass(frozen=True)
class Aside:
    """The databases beside the live ones, where the server could be asked: else `problem` says why not."""

    databases: tuple[KeptDatabase, ...] | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Leaving:
    """A copy that the retention will remove at `at`, should every run until then be good."""

    at: datetime
    store: str
    database: str
    name: str
    reason: str


@dataclass(frozen=True)
class Snapshot:
    """All of it. Sequences are newest first, but for `leaving`, which is in the order of what comes."""

    taken_at: datetime
    version: str
    schedule: Schedule
    databases: tuple[str, ...]
    stores: tuple[StoreFacts, ...]
    backups: tuple[BackupFacts, ...] = ()
    runs: tuple[RunRecord, ...] = ()
    leaving: tuple[Leaving, ...] = ()
    drill_schedule: Schedule | None = None
    watched_since: Mapping[str, datetime] = field(default_factory=dict)
    """Since when there should be backups of each database."""
    aside: Aside = Aside()
    alerts: AlertFacts = AlertFacts()
    schema_proofs: Mapping[str, SchemaProof] = field(default_factory=dict)
    """What is known of each database's schema: when it was last shown to restore."""
    several: bool = False
    """Whether more than one database is backed up, of which a run's record says whose it is."""
    gone: Mapping[str, datetime] = field(default_factory=dict)
    """The databases that the server has no more, and since when; their backups are kept."""
    tally: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """How many runs of a kind came to a result since the daemon started."""

    def title(self, store: str) -> str:
        """A store's name in a sentence; of one that is not there any more the name itself."""
        return next((one.title for one in self.stores if one.name == store), store)

    def last_good(self, database: str, store: str = "") -> BackupFacts | None:
        """The newest good backup of `database`, in `store` where one is named. One from the future is never it."""
        latest = self.taken_at + CLOCK_TOLERANCE
        for backup in self.backups:
            mine = backup.database == database and backup.good and (not store or store in backup.good_in)
            if mine and backup.started_at <= latest:
                return backup
        return None

    def in_store(self, store: str, database: str = "") -> list[BackupFacts]:
        """The backups that are good in `store`, newest first."""
        return [b for b in self.backups if store in b.good_in and database in ("", b.database)]

    def typed(self, database: str) -> str:
        """What a command needs behind it to be about this database: nothing, where it is the only one."""
        return f" {shlex.quote(database)}" if self.several else ""

    def runs_of(self, kind: str) -> list[RunRecord]:
        """The runs of one kind, newest first; one for several databases is there for each of them."""
        return [run for run in self.runs if run.kind == kind]

    def last_run(self, kind: str, database: str = "") -> RunRecord | None:
        """The newest run of one kind; of several databases what it came to for this one, or for the worst."""
        if not self.several:
            return next((run for run in self.runs if run.kind == kind and run.is_about(self.databases[0])), None)
        mine = (run for run in self.runs if run.kind == kind and run.is_about(database))
        return next(mine if database else whole_runs(mine), None)
