"""One backup: dump -> file -> stores, behind the publish gate (docs/how-it-works.md, "When a backup is good").

The order is the promise: nothing has a final name before every check passed, the manifest comes last, older
backups go only after a new good one is there.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from hubbackup import package_version, postgres
from hubbackup.aftercare import aftercare
from hubbackup.catalog import BackupName, Manifest, printable_rows, write_manifest
from hubbackup.databases import Databases, expired_names
from hubbackup.errors import ExistsError, HubbackupError, StoreError, ToolError
from hubbackup.jobs import Outcome, Run
from hubbackup.listing import newest_first
from hubbackup.pipeline import Pumped, pump
from hubbackup.plausibility import Figures, last_normal, suspicions
from hubbackup.postgres import Connection, DatabaseProperties
from hubbackup.retention import Policy
from hubbackup.runners import Runner
from hubbackup.runners import run as run_tool
from hubbackup.stores import Store
from hubbackup.stores.local import LocalDraft, LocalStore
from hubbackup.stream import Cancel
from hubbackup.upload import Upload
from hubbackup.verify import Expected, read_through


@dataclass(frozen=True)
class Limits:
    """Every wait of a backup is bounded, in seconds. Silence of the stream is the runner's own limit."""

    lock_wait_seconds: float = 300.0
    upload_seconds: float = 1800.0


@dataclass(frozen=True)
class BackupJob:
    """All that a backup needs, put together by `app`. `remotes` pairs a store with its policy."""

    database: str
    open_runner: Callable[[Cancel], Runner]
    connection: Callable[[str], Connection]
    local: tuple[LocalStore, Policy]
    remotes: Sequence[tuple[Store, Policy]]
    zone: ZoneInfo
    level: int
    verify: Literal["full", "hash"]
    with_globals: Literal["true", "false", "with-passwords"] = "true"
    keep_before_days: int = 7
    limits: Limits = Limits()
    catch_up_seconds: float = 1800.0
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __call__(self, run: Run) -> Outcome:
        """Take the backup, upload it, prune. Raises HubbackupError's kinds where there is no good backup."""
        problems: list[str] = []
        started_at = self.now()
        with run.stage("prepare"):
            normal = self._last_normal(run)
            runner = self.open_runner(run.cancel)
            connection = self.connection(run.run_id)
            self._clean(run, runner, connection)
            properties = postgres.describe(runner, connection, self.database)
            globals_sql = self._globals(run, runner, connection, problems)
        with self._draft(started_at, problems) as (working, draft):
            uploads = [Upload(store, draft.name, draft.growing) for store, _ in self.remotes]
            try:
                for upload in uploads:
                    upload.start()
                manifest = self._make(run, runner, connection, properties, draft, normal, globals_sql, started_at)
                with run.stage("publish"):
                    draft.commit()
                    _publish(working, manifest)
                    for upload in uploads:
                        upload.publish(manifest)
                with run.stage("upload"):
                    problems += self._finish_uploads(run, uploads)
            finally:
                for upload in uploads:
                    upload.discard()
                for upload in uploads:
                    upload.join(timeout=5)
        copies = [] if working is not self.local[0] else [working.name]
        copies += [upload.store.name for upload in uploads if upload.published]
        if not copies:
            raise StoreError(f"{manifest.name} is in no store: {'; '.join(problems)}")
        lacking = [upload.store.name for upload in uploads if not upload.published]
        done = aftercare(run, self, lacking)
        problems += done.problems
        with run.stage("clean up"):
            dropped = self._drop_replaced(run, runner, connection, properties)
        fields = {
            "database": self.database,
            "name": manifest.name,
            "plain_bytes": manifest.plain_bytes,
            "stored_bytes": manifest.stored_bytes,
            "dump_seconds": manifest.dump_seconds,
            "verify_seconds": manifest.verify_seconds,
            "plain_bytes_per_second": round(manifest.plain_bytes / max(manifest.dump_seconds, 0.001)),
            "copies": copies,
            "rows": sum(manifest.rows.values()),
            "tables": manifest.table_count,
            "uploaded_late": done.uploaded,
            "pruned": done.pruned,
            "dropped": dropped,
            "warnings": list(manifest.warnings),
        }
        return Outcome("Backup termine", fields, tuple(problems))

    def _last_normal(self, run: Run) -> Manifest | None:
        """What the backup is measured by; a local store that can't be read is no reason not to back up to S3."""
        try:
            return last_normal(newest_first([self.local[0]], self.zone, self.database))
        except StoreError as error:
            run.log.warning("local.unreadable", message=str(error), remedy=error.remedy)
            if not self.remotes:
                raise
            return None

    def _globals(self, run: Run, runner: Runner, connection: Connection, problems: list[str]) -> str:
        """The server's roles and memberships; where they can't be read the backup is good without, and says so."""
        if self.with_globals == "false":
            return ""
        argv = postgres.globals_argv(passwords=self.with_globals == "with-passwords")
        try:
            return run_tool(runner, argv, connection.env(self.database)).decode()
        except (HubbackupError, UnicodeDecodeError) as error:
            run.cancel.check()
            remedy = "let POSTGRES_USER read pg_roles, or set BACKUP_GLOBALS=false"
            run.log.warning("globals.failed", message=f"Roles non sauvegardes: {error}", remedy=remedy)
            problems.append(f"no roles in the backup: {error}")
            return ""

    def _clean(self, run: Run, runner: Runner, connection: Connection) -> None:
        """Remove what a killed run left: partial files, unfinished uploads, pg_dump's orphaned backends."""
        ended = postgres.end_backends(runner, connection, self.database)
        if ended:
            run.log.warning("orphans.ended", message=f"{ended} orphaned database connections ended", count=ended)
        for store in (self.local[0], *(store for store, _ in self.remotes)):
            try:
                leftovers = store.clean()
            except StoreError as error:
                run.log.warning("clean.failed", message=str(error), store=store.name)
                continue
            if leftovers:
                run.log.info("leftovers.removed", message="Restes supprimes", store=store.name, names=leftovers)

    @contextmanager
    def _draft(self, started_at: datetime, problems: list[str]) -> Iterator[tuple[LocalStore, LocalDraft]]:
        """A draft under the name of this moment, and the store it is in.

        Where the local store can't be written and S3 can, a temporary directory takes its place.
        """
        with contextlib.ExitStack() as stack:
            working = self.local[0]
            try:
                draft = self._create(working, started_at)
            except StoreError as error:
                if not self.remotes:
                    raise
                problems.append(f"no copy in {working.name}: {error}")
                directory = Path(tempfile.mkdtemp(prefix="hubbackup-"))
                stack.callback(shutil.rmtree, directory, ignore_errors=True)
                working = LocalStore(directory)
                draft = self._create(working, started_at)
            yield working, stack.enter_context(draft)

    def _create(self, store: LocalStore, started_at: datetime) -> LocalDraft:
        """A draft under the name of `started_at`, or of the next free second."""
        local_time = started_at.astimezone(self.zone).replace(tzinfo=None, microsecond=0)
        while True:
            try:
                return store.create(str(BackupName(self.database, local_time)))
            except ExistsError:
                local_time += timedelta(seconds=1)

    def _make(
        self,
        run: Run,
        runner: Runner,
        connection: Connection,
        properties: DatabaseProperties,
        draft: LocalDraft,
        normal: Manifest | None,
        globals_sql: str,
        started_at: datetime,
    ) -> Manifest:
        """Dump into `draft` and pass every check of the gate; returns the manifest to publish it with."""
        run.log.info("backup.started", message="Backup demarre", database=self.database, name=draft.name)
        clock = time.monotonic()
        with run.stage("dump"):
            pumped = self._dump(run, runner, connection, draft, normal)
            draft.sync()
            draft.growing.finish()
        dump_seconds = time.monotonic() - clock
        with run.stage("verify"):
            postgres.check_versions(
                pg_dump_version=pumped.facts.pg_dump_version, server_version=properties.server_version
            )
            self._read_back(run, draft, pumped)
        verify_seconds = time.monotonic() - clock - dump_seconds
        facts = pumped.facts
        rows = printable_rows(facts.rows)
        figures = Figures(facts.plain_bytes, facts.table_count, rows, properties.system_identifier)
        warnings = suspicions(figures, Figures.of(normal), normal.name) if normal is not None else []
        if warnings:
            run.log.warning(
                "backup.suspicious",
                message=f"Backup suspect, rotation suspendue: {'; '.join(warnings)}",
                name=draft.name,
                warnings=warnings,
                remedy=f"look into the database; if this is right: hubbackup accept {draft.name}",
            )
        return Manifest(
            name=draft.name,
            database=self.database,
            run_id=run.run_id,
            started_at=started_at,
            finished_at=self.now(),
            dump_seconds=round(dump_seconds, 3),
            verify_seconds=round(verify_seconds, 3),
            plain_bytes=facts.plain_bytes,
            stored_bytes=pumped.stored_bytes,
            sha256=pumped.sha256,
            compression=f"gzip:{self.level}",
            verified=self.verify,
            server_version=properties.server_version,
            pg_dump_version=facts.pg_dump_version,
            system_identifier=properties.system_identifier,
            rows=rows,
            table_count=facts.table_count,
            large_objects=facts.large_objects,
            extensions=facts.extensions,
            roles=facts.roles,
            properties=asdict(properties),
            globals_sql=globals_sql,
            hubbackup_version=package_version(),
            warnings=tuple(warnings),
        )

    def _dump(
        self, run: Run, runner: Runner, connection: Connection, draft: LocalDraft, normal: Manifest | None
    ) -> Pumped:
        total_bytes = normal.plain_bytes if normal else 0
        env = connection.env(self.database)
        for way in postgres.DUMP_WAYS:
            argv = postgres.dump_argv(way, lock_wait_seconds=self.limits.lock_wait_seconds)
            try:
                with runner.start(argv, env) as process, run.progress("dump", total_bytes) as progress:
                    return pump(process, draft, level=self.level, cancel=run.cancel, progress=progress)
            except ToolError as error:
                untouched = draft.size_bytes == 0  # where bytes came already, that was no refusal
                if untouched and postgres.refuses_way(error) and way != postgres.DUMP_WAYS[-1]:
                    continue
                explained = postgres.explain(error, connection, self.database)
                raise postgres.explain_lock(explained, runner, connection, self.database) from error
            except HubbackupError:
                # pg_dump may still run: a dropped connection does not stop it, the end of its backend does.
                with contextlib.suppress(HubbackupError):
                    postgres.end_backends(runner.detached(), connection, self.database)
                raise
        raise StoreError("unreachable: the last way always returns or raises")

    def _read_back(self, run: Run, draft: LocalDraft, pumped: Pumped) -> None:
        plain_bytes = pumped.facts.plain_bytes if self.verify == "full" else None
        expected = Expected(pumped.stored_bytes, pumped.sha256, plain_bytes)
        with draft.path.open("rb", buffering=0) as stream, run.progress("verify", pumped.stored_bytes) as progress:
            read_through(stream, expected, name=draft.name, cancel=run.cancel, progress=progress)

    def _drop_replaced(
        self, run: Run, runner: Runner, connection: Connection, properties: DatabaseProperties
    ) -> list[str]:
        """Drop the databases that restores put aside longer ago than the operator wants them kept."""
        expired = expired_names(properties.siblings, self.database, self.keep_before_days, self.now())
        databases = Databases(runner, connection, self.database)
        for name in expired:
            databases.drop(name)
            run.log.info("replaced.dropped", message=f"Ancienne base supprimee: {name}", database=name)
        return expired

    def _finish_uploads(self, run: Run, uploads: Sequence[Upload]) -> list[str]:
        """Wait for every upload; returns a sentence for each that failed, and logs it."""
        problems = []
        for upload in uploads:
            error = upload.wait(run.cancel, self.limits.upload_seconds)
            if error is not None:
                run.log.warning(
                    "upload.failed",
                    message=f"AVERTISSEMENT: Echec upload S3: {error}",
                    store=upload.store.name,
                    cause=str(error),
                    remedy=error.remedy,
                )
                problems.append(f"no copy in {upload.store.name}: {error}")
        return problems


def _publish(store: LocalStore, manifest: Manifest) -> None:
    """Write the manifest; where that fails (a full disk), take back the file, which has its final name already."""
    try:
        write_manifest(store, manifest)
    except HubbackupError:
        with contextlib.suppress(HubbackupError):
            store.delete(manifest.name)
        raise
