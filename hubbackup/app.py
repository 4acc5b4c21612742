"""The composition root: the one place that turns settings into concrete runners, stores and jobs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import structlog

from hubbackup.backup.dump import DumpOptions
from hubbackup.backup.job import BackupJob
from hubbackup.backup.pipeline import AtRest
from hubbackup.catalog.backup import BackupName, Mark
from hubbackup.catalog.marks import MarkJob
from hubbackup.catalog.target import LocalTarget, Policy, Target
from hubbackup.config.settings import LoadedSettings, Settings
from hubbackup.errors import SettingsError, UsageError
from hubbackup.health import health_path
from hubbackup.jobs.history import History
from hubbackup.jobs.lock import locked
from hubbackup.jobs.progress import ProgressMaker
from hubbackup.jobs.run import Outcome, Run, guarded
from hubbackup.notify.notifier import Notifier
from hubbackup.postgres import session
from hubbackup.postgres.databases import Databases, ServerDatabase
from hubbackup.postgres.session import Connection
from hubbackup.restore.drill import DrillJob, Place
from hubbackup.restore.job import Preview, RestoreJob, undo
from hubbackup.restore.preflight import Request
from hubbackup.restore.source import BackupSelector, find, find_in
from hubbackup.runners import Runner
from hubbackup.runners.engine import Engine
from hubbackup.status.collect import Collector, Scope
from hubbackup.stores.local import LocalStore
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.codecs import Compression
from hubbackup.verify.job import CopySelector, VerifyJob, due_copies

if TYPE_CHECKING:
    from hubbackup.stores.s3 import S3Store
    from hubbackup.stores.s3_calls import S3Limits

STATE_DIRECTORY = ".hubbackup"
"""In BACKUP_DIR, hidden from the guide's `ls`: lock and history, so that they outlive the container."""


IDLE_SECONDS = 600.0
"""A dump that sends no byte for so long has died; pg_dump waits at most half of it for a lock."""
ASK_SECONDS = 10.0
"""For a question that may go unanswered."""
RESTORE_IDLE_SECONDS = 24 * 3600.0
"""psql is silent while the server builds an index, and a large one takes hours."""


class App:
    """The program for one set of settings. Nothing is opened or asked before it is needed."""

    def __init__(self, loaded: LoadedSettings, *, cancel: Cancel, log: structlog.stdlib.BoundLogger) -> None:
        self.loaded = loaded
        self.settings: Settings = loaded.settings
        self.cancel = cancel
        self.log = log

    @property
    def database(self) -> str:
        """The database to back up. Raises SettingsError where none is named."""
        if not self.settings.postgres_db:
            raise SettingsError(
                "POSTGRES_DB is not set",
                remedy="name the database to back up, in .env.production",
            )
        return self.settings.postgres_db

    @cached_property
    def zone(self) -> ZoneInfo:
        """TZ."""
        return ZoneInfo(self.settings.tz)

    @cached_property
    def history(self) -> History:
        """The record of past runs."""
        return History(self.state_directory / "history.jsonl")

    @cached_property
    def verifications(self) -> History:
        """The record of the copies that were read again: a line each, so many more than there are runs."""
        return History(self.state_directory / "verified.jsonl", keep_lines=20_000, trim_bytes=16 << 20)

    @property
    def lock(self) -> Path:
        """The run lock, shared by every hubbackup that works on this BACKUP_DIR."""
        return self.state_directory / "lock"

    @property
    def state_directory(self) -> Path:
        """In BACKUP_DIR; where that can't be written, the container's own runtime directory, for S3's sake."""
        directory = self.settings.backup_dir
        return directory / STATE_DIRECTORY if os.access(directory, os.W_OK) else health_path().parent

    @cached_property
    def notifier(self) -> Notifier:
        """Who is told how runs end. Raises SettingsError where a sink's URL is none."""
        return Notifier(
            self.loaded,
            log=self.log,
            database=self.settings.postgres_db,
            history=self.history,
            state_directory=lambda: self.state_directory,
            local=self.local,
        )

    @cached_property
    def local(self) -> LocalTarget:
        """BACKUP_DIR."""
        store = LocalStore(self.settings.backup_dir, is_ours=_is_ours)
        return LocalTarget("the local store", store, self._local_policy)

    @cached_property
    def remotes(self) -> tuple[Target, ...]:
        """The configured targets beside the local one: S3, where a bucket is named."""
        return (Target("S3", self.s3(), self._s3_policy),) if self.settings.s3_backup_bucket else ()

    def s3(self, limits: S3Limits | None = None) -> S3Store:
        """The bucket of the settings, asked with as much patience as `limits` have."""
        from hubbackup.stores.s3 import S3Store

        settings = self.settings
        return S3Store(
            settings.s3_backup_bucket,
            settings.s3_prefix,
            endpoint_url=settings.s3_endpoint_url,
            region=settings.aws_default_region,
            access_key_id=settings.aws_access_key_id.get_secret_value(),
            secret_access_key=settings.aws_secret_access_key.get_secret_value(),
            storage_class=settings.s3_storage_class,
            limits=limits,
            # Another host may share the prefix: only uploads of our own database can be our own leftovers.
            is_ours=lambda name: bool(settings.postgres_db) and _database_of(name) == settings.postgres_db,
            cancel=self.cancel,
        )

    def targets(self, which: str = "all") -> list[Target]:
        """The one of that name, or `all`, the local one first. Raises UsageError for one that is not configured."""
        found: list[Target] = [one for one in (self.local, *self.remotes) if which in ("all", one.name)]
        if not found:
            raise UsageError(
                f"the store {which} is not configured", remedy="set S3_BACKUP_BUCKET, or use --store local"
            )
        return found

    @property
    def _local_policy(self) -> Policy:
        settings = self.settings
        return Policy(
            settings.backup_retention_days,
            settings.backup_keep_min,
            settings.backup_keep_weeks,
            settings.backup_keep_months,
            settings.backup_keep_years,
        )

    @property
    def _s3_policy(self) -> Policy:
        """That of the local target, but for what the settings say of S3."""
        settings = self.settings
        overrides = {
            "days": settings.s3_retention_days,
            "keep_min": settings.s3_keep_min,
            "weeks": settings.s3_keep_weeks,
            "months": settings.s3_keep_months,
            "years": settings.s3_keep_years,
        }
        return replace(self._local_policy, **{name: value for name, value in overrides.items() if value is not None})

    def open_runner(self, cancel: Cancel, idle_seconds: float = IDLE_SECONDS) -> Runner:
        """The runner, its container looked up now. Raises RunnerError."""
        settings = self.settings
        if settings.backup_source == "direct":
            from hubbackup.runners.direct import DirectRunner

            return DirectRunner(cancel=cancel, idle_seconds=idle_seconds)
        from hubbackup.runners.docker_exec import DockerExecRunner

        engine = Engine(settings.docker_host)
        return DockerExecRunner(
            engine,
            cancel=cancel,
            service=settings.db_service,
            container=settings.db_container,
            idle_seconds=idle_seconds,
            data_connections=settings.db_data_connection,
        )

    def connection(self, run_id: str) -> Connection:
        """How the tools reach the server; host and port only where they run outside its container."""
        settings = self.settings
        direct = settings.backup_source == "direct"
        return Connection(
            user=settings.postgres_user,
            password=settings.postgres_password.get_secret_value(),
            host=settings.pghost if direct else "",
            port=settings.pgport if direct else None,
            ssl_mode=settings.pgsslmode if direct else "",
            run_id=run_id,
        )

    def backup_job(self, *, upload: bool = True) -> BackupJob:
        """A backup of the configured database."""
        settings = self.settings
        return BackupJob(
            database=self.database,
            open_runner=self.open_runner,
            connection=self.connection,
            local=self.local,
            remotes=self.remotes if upload else (),
            zone=self.zone,
            options=DumpOptions(
                at_rest=AtRest(
                    Compression(settings.backup_compression),
                    settings.backup_compression_level,
                    settings.backup_rate_limit,
                ),
                verify=settings.backup_verify,
                with_globals=settings.backup_globals,
            ),
            keep_before_days=settings.backup_keep_before_days,
        )

    def backup(self, *, upload: bool = True, progress: ProgressMaker | None = None) -> Outcome:
        """Take one backup now, under the lock. Raises HubbackupError."""
        return self.run("backup", self.backup_job(upload=upload), progress=progress)

    def restore(
        self,
        request: Request,
        wanted: BackupSelector,
        *,
        confirm: Callable[[Preview], None],
        progress: ProgressMaker | None = None,
    ) -> Outcome:
        """Restore one backup, under the lock. Raises HubbackupError."""
        job = RestoreJob(
            request=request,
            find_source=lambda run: find(run, wanted, self.targets(), self.zone, self.state_directory),
            open_runner=lambda cancel: self.open_runner(cancel, idle_seconds=RESTORE_IDLE_SECONDS),
            connection=self.connection,
            confirm=confirm,
            safety_backup=lambda run: self.backup_job().safety_backup(run, request.target),
        )
        return self.run("restore", job, progress=progress)

    def kept_databases(self) -> list[ServerDatabase]:
        """What restores put aside or left half-filled, if the server answers soon. Raises HubbackupError."""
        databases = Databases(self.open_runner(self.cancel, ASK_SECONDS), self.connection("status"), self.database)
        server = databases.look()
        return server.of_kind("before") + server.of_kind("restore")

    def drill(self, name: str = "", store: str = "", progress: ProgressMaker | None = None) -> Outcome:
        """Restore one backup for real, elsewhere. Without a `store`, local and S3 take turns."""
        chosen = self.targets(store or self._drill_turn())[0]
        job = DrillJob(
            database=self.database,
            find_source=lambda run: find_in(run, chosen, name, self.database, self.zone, self.state_directory),
            store=chosen.name,
            open_place=self._drill_place,
            checks=self.settings.drill_checks,
        )
        return self.run("drill", job, progress=progress)

    def _drill_turn(self) -> str:
        """S3 first. A drill that failed has had its turn, though its record names no store."""
        turn = "s3"
        for record in self.history.runs():
            if record["kind"] == "drill":
                turn = "local" if record.get("store", turn) == "s3" else "s3"
        return turn if self.remotes else "local"

    @contextmanager
    def _drill_place(self, run: Run) -> Iterator[Place]:
        """A throwaway server made like the database's own, or a scratch database in that server itself."""
        connection = self.connection(run.run_id)
        runner = self.open_runner(self.cancel, RESTORE_IDLE_SECONDS)
        if self.settings.drills_in_database:
            yield Place(runner, connection, "a scratch database", keeps_roles=True)
            return
        from hubbackup.runners.docker_exec import DockerExecRunner
        from hubbackup.runners.throwaway import throwaway_server

        if not isinstance(runner, DockerExecRunner):
            raise SettingsError(
                "DRILL_TARGET=container needs BACKUP_SOURCE=docker", remedy="set DRILL_TARGET=database"
            )
        libraries = session.sql(runner, connection, self.database, "SHOW shared_preload_libraries;").strip()
        options = {"shared_preload_libraries": libraries} if libraries else {}
        with throwaway_server(
            Engine(self.settings.docker_host),
            runner,
            user=connection.user,
            options=options,
            cancel=self.cancel,
            idle_seconds=RESTORE_IDLE_SECONDS,
        ) as server:
            yield Place(server, connection, "a throwaway server", keeps_roles=False)

    def remove_drill_orphans(self) -> int:
        """Remove what a killed drill left of its server; returns how many. Raises HubbackupError."""
        if self.settings.drills_in_database:
            return 0
        from hubbackup.runners.throwaway import remove_orphans

        engine = Engine(self.settings.docker_host)
        found = engine.find_container(service=self.settings.db_service, container=self.settings.db_container)
        with locked(self.lock):
            return remove_orphans(engine, str(found.name))

    def verify(self, job: VerifyJob, progress: ProgressMaker | None = None) -> Outcome:
        """Read copies again. No lock: nothing is changed but a mark. Raises HubbackupError."""
        return self.run("verify", job, progress=progress, with_lock=False)

    def verify_job(self, wanted: CopySelector, store: str = "all") -> VerifyJob:
        """Read the wanted copies through, decoded."""
        targets = self.targets(store)
        return VerifyJob(
            choose=lambda run: wanted.copies(targets, self.zone, self.database),
            history=self.verifications,
            decode=True,
            read_unproven=bool(wanted.name),
        )

    def verify_due(self) -> Outcome:
        """Read the copies that were read longest ago, within the day's budget."""
        targets = self.targets(self.settings.verify_store)
        budget_bytes = self.settings.verify_daily_bytes
        job = VerifyJob(
            choose=lambda run: due_copies(targets, self.zone, self.verifications, budget_bytes, datetime.now(UTC)),
            history=self.verifications,
            decode=False,
        )
        return self.verify(job)

    def undo_restore(self, target: str) -> Outcome:
        """Swap back what the last restore of `target` put aside."""

        def body(run: Run) -> Outcome:
            databases = Databases(self.open_runner(self.cancel), self.connection(run.run_id), target)
            return undo(run, databases, target, datetime.now(UTC))

        return self.run("undo", body)

    def mark(self, typed: str, mark: Mark, *, on: bool, kind: str) -> Outcome:
        """Pin, unpin or accept one backup, in every store that has it."""
        return self.run(kind, MarkJob(typed, mark, on, self.targets(), kind))

    def run(
        self,
        kind: str,
        body: Callable[[Run], Outcome],
        progress: ProgressMaker | None = None,
        *,
        with_lock: bool = True,
    ) -> Outcome:
        """One guarded run of `body`."""
        return guarded(
            kind,
            lock=self.lock if with_lock else None,
            cancel=self.cancel,
            log=self.log,
            history=self.history,
            body=body,
            progress=progress,
            observers=self.notifier.observers,
            shown_in=None if with_lock else self.state_directory,
        )

    def collector(self) -> Collector:
        """A way to look at everything that page, metrics and `hubbackup status` tell."""
        return Collector(
            Scope(
                databases=(self.database,),
                targets=self.targets(),
                history=self.history,
                schedule=self.settings.schedule,
                zone=self.zone,
                drill_schedule=self.settings.drills,
            )
        )

    def missed_run(self, since: datetime | None, now: datetime) -> datetime | None:
        """When a scheduled backup was due and none was made since, or None. `since`: the newest good one's start.

        Where there never was a good one, the oldest recorded run counts as the time since when there should be.
        """
        if since is None:
            first = next(self.history.runs(), None)
            since = datetime.fromisoformat(first["started_at"]).astimezone(UTC) if first else None
        due = self.settings.schedule.next_after(since) if since is not None else None
        return due if due is not None and due <= now else None


def _is_ours(name: str) -> bool:
    return BackupName.owner_of(name) is not None


def _database_of(name: str) -> str:
    owner = BackupName.owner_of(name)
    return owner.database if owner is not None else ""
