"""A month of Hub Chantier: real files and a real history as hubbackup leaves them, for what tells of backups.

The nights are made up, the way to the snapshot is the real one: a directory, a second store, a history, a survey.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO
from zoneinfo import ZoneInfo

from hubbackup.catalog.backup import BackupName, Manifest
from hubbackup.catalog.schema_proofs import SchemaProofs
from hubbackup.catalog.target import LocalTarget, Policy, Target
from hubbackup.config.schedule import Schedule
from hubbackup.errors import NotFoundError, StoreDeniedError
from hubbackup.jobs.history import History
from hubbackup.status.collect import Collector, Scope
from hubbackup.status.snapshot import AlertFacts, KeptDatabase, Snapshot
from hubbackup.stores import Draft, Entry
from hubbackup.stores.local import LocalStore

PARIS = ZoneInfo("Europe/Paris")
NOW = datetime(2026, 2, 8, 9, 4, tzinfo=PARIS).astimezone(UTC)
CANARY = "canary-secret-91c7"
"""In every field of a manifest that may hold a secret: nothing that is shown may contain it."""


@dataclass
class ListedStore:
    """A store that knows sizes of its files and the bytes of its small ones; `down` makes it fail as S3 does."""

    name: str = "s3"
    remote: bool = True
    files: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    down: str = ""
    opened: list[str] = field(default_factory=list)
    listed: int = 0

    def describe(self) -> str:
        return "s3://hub-chantier-backups/backups/"

    def entries(self) -> Iterator[Entry]:
        self.listed += 1
        self._check()
        for name in sorted(self.files):
            yield self.stat(name)

    def stat(self, name: str) -> Entry:
        self._check()
        if name not in self.files:
            raise NotFoundError(f"there is no {name}")
        return Entry(name, self.files[name][0], NOW)

    def open(self, name: str, *, start: int = 0, end: int | None = None) -> AbstractContextManager[BinaryIO]:
        self.stat(name)
        self.opened.append(name)
        return io.BytesIO(self.files[name][1][start:end])

    def create(self, name: str, *_: object, **__: object) -> Draft:
        raise AssertionError(f"nothing that only shows may write {name}")

    def delete(self, name: str) -> None:
        raise AssertionError(f"nothing that only shows may remove {name}")

    def clean(self) -> list[str]:
        raise AssertionError("nothing that only shows may clean up")

    def _check(self) -> None:
        if self.down:
            raise StoreDeniedError(self.down, remedy="check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")


class Site:
    """A directory of backups, an S3 that is a dictionary, and the record of the runs that filled them."""

    def __init__(self, directory: Path, database: str = "hub_chantier", *, with_s3: bool = True) -> None:
        self.database = database
        self.local = LocalStore(directory)
        self.s3 = ListedStore()
        self.with_s3 = with_s3
        self.history = History(directory / ".hubbackup" / "history.jsonl")
        self.schedule = Schedule.parse("0 3 * * *", "Europe/Paris")
        self.drill_schedule: Schedule | None = Schedule.parse("0 5 1 * *", "Europe/Paris")
        self.kept: tuple[KeptDatabase, ...] = ()
        self.alerts = AlertFacts()
        self.schema_proofs = SchemaProofs(lambda: directory / ".hubbackup" / "schemas.json")
        self._runs = 0

    def collector(self, *databases: str) -> Collector:
        """The real survey of this site."""
        fetch = "docker compose cp backup-cron:/var/backups/hub-chantier/{name} ."
        local = LocalTarget("the local store", self.local, Policy(7, 1), fetch=fetch)
        s3 = Target("S3", self.s3, Policy(30, 1), fetch=f"aws s3 cp {self.s3.describe()}{{name}} .")
        return Collector(
            Scope(
                databases=lambda: databases or (self.database,),
                several=len(databases) > 1,
                targets=[local, s3] if self.with_s3 else [local],
                history=self.history,
                schedule=self.schedule,
                zone=PARIS,
                drill_schedule=self.drill_schedule,
                aside=lambda: self.kept,
                alerts=lambda: self.alerts,
                schema_proofs=self.schema_proofs,
            )
        )

    def snapshot(self, now: datetime = NOW) -> Snapshot:
        """What the survey sees, but for the size of the disk, which would be the test machine's."""
        taken = self.collector().take(now)
        sized = [
            replace(store, where="/var/backups/hub-chantier", free_bytes=52_100_000_000, size_bytes=80_000_000_000)
            if store.name == "local"
            else store
            for store in taken.stores
        ]
        return replace(taken, stores=tuple(sized))

    def add_backup(
        self,
        started_at: datetime,
        *,
        plain_bytes: int = 512_000_000,
        seconds: float = 11.0,
        stores: tuple[str, ...] = ("local", "s3"),
        proven: bool = True,
        problems: tuple[str, ...] = (),
        copies: tuple[str, ...] | None = None,
        record: bool = True,
        changes: str = "",
        **manifest: Any,
    ) -> str:
        """A backup in `stores`, and its run. `copies` is what the run itself left, where more came later."""
        name = BackupName(self.database, started_at.astimezone(PARIS).replace(tzinfo=None, microsecond=0))
        stored_bytes = plain_bytes // 10
        data = a_manifest(name, started_at, plain_bytes, stored_bytes, seconds, **manifest).to_json()
        for store in stores:
            if store == "local":
                path = self.local.directory / str(name)
                path.touch(mode=0o600)
                os.truncate(path, stored_bytes)
                if proven:
                    (self.local.directory / name.manifest).write_bytes(data)
            else:
                self.s3.files[str(name)] = (stored_bytes, b"")
                if proven:
                    self.s3.files[name.manifest] = (len(data), data)
        if record:
            facts = {
                "database": self.database,
                "name": str(name),
                "plain_bytes": plain_bytes,
                "stored_bytes": stored_bytes,
                "copies": list(stores if copies is None else copies),
                "problems": list(problems),
                "changes": changes,
            }
            self.add_run("backup", started_at, seconds * 1.3, 3 if problems else 0, **facts)
        return str(name)

    def add_run(self, kind: str, started_at: datetime, seconds: float, exit_code: int, **facts: Any) -> str:
        """A line of the history."""
        self._runs += 1
        run_id = f"{started_at.astimezone(UTC):%Y%m%dT%H%M%S}-{self._runs:06x}"
        self.history.add(kind, run_id, started_at, round(seconds, 3), exit_code, facts)
        return run_id

    def add_failure(self, started_at: datetime, cause: str = "") -> None:
        """A night without a backup."""
        self.add_run("backup", started_at, 2.1, 1, stage="prepare", cause=cause or STOPPED_CONTAINER, remedy=START)


START = "docker compose -f docker-compose.prod.yml up -d db"
STOPPED_CONTAINER = "the container of the service db is not running (exited)"
S3_TIMEOUT = "no copy in s3: could not upload part 3 to s3://hub-chantier-backups/backups/: no answer in 300 s"


def a_manifest(
    name: BackupName, started_at: datetime, plain_bytes: int, stored_bytes: int, seconds: float, **changes: Any
) -> Manifest:
    """A manifest of that backup, valid, with the canary where secrets may be."""
    facts: dict[str, Any] = {
        "name": str(name),
        "database": name.database,
        "run_id": f"{started_at.astimezone(UTC):%Y%m%dT%H%M%S}-abcdef",
        "started_at": started_at.astimezone(UTC),
        "finished_at": started_at.astimezone(UTC) + timedelta(seconds=seconds),
        "dump_seconds": round(seconds * 0.8, 3),
        "verify_seconds": round(seconds * 0.2, 3),
        "plain_bytes": plain_bytes,
        "stored_bytes": stored_bytes,
        "sha256": "0" * 64,
        "compression": "gzip:1",
        "verified": "full",
        "server_version": "16.4",
        "pg_dump_version": "16.4",
        "system_identifier": "7300000000000000000",
        "rows": {"public.pointages": plain_bytes // 320, "public.chantiers": 412, "public.utilisateurs": 96},
        "table_count": 38,
        "large_objects": 0,
        "extensions": (),
        "roles": ("hubchantier",),
        "properties": {"comment": CANARY},
        "globals_sql": f"ALTER ROLE hubchantier PASSWORD '{CANARY}';",
        "hubbackup_version": "0.1.0",
    }
    return Manifest.model_validate(facts | changes)


def a_month(directory: Path, *, days: int = 30) -> Site:
    """Thirty nights up to NOW: a slowly growing base, one failed night, one whose upload came late, two drills."""
    site = Site(directory)
    tonight = datetime(2026, 2, 8, 3, 0, tzinfo=PARIS)
    for age in range(days, -1, -1):
        at = tonight - timedelta(days=age)  # by the clock on the wall
        if age == 5:
            site.add_failure(at)
            continue
        workday = at.weekday() < 5
        plain_bytes = 488_000_000 + (days - age) * 1_130_000 + (at.day * 7919 % 13) * 180_000
        seconds = 10.4 + (days - age) * 0.05 + (at.day * 104729 % 17) / 9 + (1.2 if workday else 0)
        stores = ("local", "s3") if age <= 7 else ("s3",)
        late = age == 2
        site.add_backup(
            at,
            plain_bytes=plain_bytes,
            seconds=seconds,
            stores=stores,
            problems=(S3_TIMEOUT,) if late else (),
            copies=("local",) if late else ("local", "s3"),
            changes=f"pointages +{340 + at.day * 7919 % 212}, photos +{at.day % 4 + 1}, 36 tables unchanged",
        )
    for at, rto_seconds, of_load in (
        (datetime(2026, 1, 11, 5, 0), 41.8, {}),  # by an earlier version
        (datetime(2026, 2, 1, 5, 0), 43.2, {"load_seconds": 31.4}),
    ):
        name = BackupName(site.database, at.replace(hour=3))
        drilled = {"name": str(name), "store": "s3", "ok": True, "rto_seconds": rto_seconds, **of_load}
        site.add_run("drill", at.replace(tzinfo=PARIS), rto_seconds + 9, 0, **drilled)
    site.kept = (KeptDatabase("hub_chantier_before_20260205_101204", 507_000_000, "before"),)
    site.alerts = AlertFacts(
        sinks=("mailtos#1",),
        sent_at=tonight - timedelta(days=4) + timedelta(seconds=20),
        sent="OK: backup of hub_chantier on srv1 works again",
        failed_at=tonight - timedelta(days=5) + timedelta(seconds=31),
        failure="mailtos#1: no answer within 30 s",
    )
    return site
