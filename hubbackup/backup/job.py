"""One backup: dump -> file -> targets, behind the publish gate (docs/how-it-works.md, "When a backup is good").

The order is the promise: nothing has a final name before every check passed, the manifest comes last, older
backups are removed only once a new good one is there.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar
from zoneinfo import ZoneInfo

from hubbackup.backup.anomalies import last_counting, last_normal
from hubbackup.backup.beside import SharedGlobals
from hubbackup.backup.dump import DumpOptions, DumpSource, Made, make
from hubbackup.backup.leaving_out import NO_PATTERNS
from hubbackup.backup.results import result_of
from hubbackup.backup.room import Room
from hubbackup.backup.served import find_served, last_of_server
from hubbackup.backup.upkeep import Upkeep, harmless
from hubbackup.backup.upload import Upload, begun_here, unfinished
from hubbackup.catalog.backup import BackupName, Manifest, write_manifest
from hubbackup.catalog.diff import summary
from hubbackup.catalog.listing import newest_first
from hubbackup.catalog.origin import SigningKey
from hubbackup.catalog.restored import Restored
from hubbackup.catalog.schema_proofs import REFUSED, SchemaVerdict
from hubbackup.catalog.target import LocalTarget, Policy, Target
from hubbackup.config.bucket import S3
from hubbackup.dump.schema_text import SchemaText
from hubbackup.errors import (
    ExistsError,
    HubbackupError,
    RunnerError,
    StoreError,
    StoreFullError,
    UnrestorableError,
)
from hubbackup.jobs.kinds import RunKind
from hubbackup.jobs.leftovers import Leftovers, remove_leftovers
from hubbackup.jobs.results import BackupResult
from hubbackup.jobs.run import Outcome, Run
from hubbackup.postgres import client, run_lock
from hubbackup.postgres.databases import Databases
from hubbackup.postgres.session import Connection
from hubbackup.postgres.side_databases import expired_names
from hubbackup.runners import Runner
from hubbackup.stores.local import LocalDraft, LocalStore
from hubbackup.streams.cancel import Cancel
from hubbackup.verify.kept import KeptSchema


@dataclass(frozen=True)
class BackupJob:
    """All that a backup needs, put together by `app`."""

    database: str
    open_runner: Callable[[Cancel], Runner]
    connection: Callable[[str], Connection]
    local: LocalTarget
    remotes: Sequence[Target]
    zone: ZoneInfo
    options: DumpOptions
    find_key: Callable[[], SigningKey]
    """The key of the manifests, made where there is none. Raises HubbackupError."""
    restored: Restored | None = None
    keep_before_days: int = 7
    shared_globals: SharedGlobals | None = None
    try_schema: Callable[[Run, Manifest, Sequence[Target], KeptSchema | None], SchemaVerdict] | None = None
    """Whether the schema of the backup that was just published in these targets restores."""
    slot: datetime | None = None
    """When a scheduled run was due: it makes nothing where a good backup of since then is in a remote target."""
    locks: bool = True
    """Whether it locks the database against runs elsewhere; else its caller has."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    kind: ClassVar[RunKind] = "backup"
    needs_lock: ClassVar[bool] = True
    begins_itself: ClassVar[bool] = True

    def __call__(self, run: Run) -> Outcome[BackupResult]:
        """Take the backup, upload it, prune. Raises HubbackupError where there is no good backup, LockHeldError
        where a run elsewhere is at work on the database."""
        with contextlib.ExitStack() as stack:
            return self._back_up(run, stack)

    def _back_up(self, run: Run, stack: contextlib.ExitStack) -> Outcome[BackupResult]:
        """`stack` lets go what is kept until the end."""
        problems: list[str] = []
        started_at = self.now()
        with run.stage("prepare"):
            key, unsigned = self._key(run)
            source = self._begin(run, started_at, key, stack)
            served = self._served(run)
            if served is not None:
                return served
            run.begin()
        room = Room(run, self.local, self.database, self.zone, self.now)
        room.prepare(source.normal.stored_bytes if source.normal is not None else 0)
        try:
            made, copies = self._take(run, source, problems, stack)
        except StoreFullError as error:
            room.make_again(error)
            problems.clear()
            made, copies = self._take(run, replace(source, started_at=self.now()), problems, stack)
        manifest = made.manifest
        if not copies:
            raise StoreError(f"{manifest.name} is not in any store: {'; '.join(problems)}")
        # From here on the backup is good, and nothing that fails may make it a failed one.
        holders = [target for target in (self.local, *self.remotes) if target.name in copies]
        upkeep = Upkeep(run, self.local, holders, self.database, self.zone, self.now, problems)
        verdict = SchemaVerdict("untried")
        with harmless(run, "the schema drill", problems):
            verdict = self._try_schema(run, made, copies)
        if verdict.state == "refused":
            problems.append(f"{REFUSED}: {verdict.why}")
        with harmless(run, "the upkeep of the stores", problems):
            upkeep(manifest.name, source.key)
        dropped: list[str] = []
        with harmless(run, "the removal of replaced databases", problems), run.stage("clean up"):
            dropped += self._drop_replaced(run, source, problems)
        changes: dict[str, str] = {}
        with harmless(run, "the comparison with the last backup", problems):
            changes |= _changes(source.before, manifest)
        result = replace(
            result_of(manifest, copies),
            uploaded_late=tuple(upkeep.uploaded),
            pruned=(*room.removed, *upkeep.pruned),
            dropped=tuple(dropped),
            warnings=manifest.warnings,
            left_out=manifest.without or None,
            unmatched=made.unmatched or None,
            unrestorable=verdict.why if verdict.state == "refused" else None,
            remedy=verdict.remedy if verdict.state == "refused" else None,
            changes=changes.get("changes"),
            changes_since=changes.get("changes_since"),
        )
        return Outcome("Backup termine", result, (*unsigned, *problems))

    def _take(
        self, run: Run, source: DumpSource, problems: list[str], stack: contextlib.ExitStack
    ) -> tuple[Made, list[str]]:
        """Dump, prove, publish; returns what was made, and the names of the stores that hold it."""
        keep = self.options.file.format.sealed and self.try_schema is not None
        schema = stack.enter_context(SchemaText()) if keep else None
        with self._draft(source.started_at, problems) as (working, draft):
            draft.growing.expected_bytes = _expected_bytes(source)
            uploads = [Upload(run, target, draft.name, draft.growing, source.begun) for target in self.remotes]
            try:
                for upload in uploads:
                    upload.start()
                made = make(run, source, self.options, draft, schema)
                manifest = made.manifest
                problems += made.lacking
                with run.stage("publish"):
                    draft.commit()
                    _publish(working, manifest)
                    for upload in uploads:
                        upload.publish(manifest)
                with run.stage("upload"):
                    problems += self._finish_uploads(run, uploads, manifest.stored_bytes)
            finally:
                for upload in uploads:
                    upload.discard()
                for upload in uploads:
                    upload.join(timeout=5)
        copies = [] if working is not self.local.store else [self.local.name]
        copies += [upload.target.name for upload in uploads if upload.published]
        return made, copies

    def _served(self, run: Run) -> Outcome[BackupResult] | None:
        """The end of a scheduled run whose slot somebody else has served."""
        if self.slot is None or not self.remotes:
            return None
        found = find_served(run, self.remotes, self.zone, self.database, self.slot, self.now())
        return found.outcome(self.slot) if found is not None else None

    def _try_schema(self, run: Run, made: Made, copies: Sequence[str]) -> SchemaVerdict:
        """Before anything is pruned: what can't be restored counts for nothing."""
        if self.try_schema is None or self.local.name not in copies:
            return SchemaVerdict("untried")
        targets = [one for one in (self.local, *self.remotes) if one.name in copies]
        return self.try_schema(run, made.manifest, targets, made.kept)

    def safety_backup(self, run: Run, database: str, *, any_schema: bool = False) -> str:
        """Back up `database` before it is dropped; returns the words that find it. Nothing is pruned meanwhile.

        Raises UnrestorableError where a server refuses its schema, which is not asked for `any_schema`; another
        HubbackupError where there is no good backup.
        """
        keep_all = Policy(days=0)
        job = replace(
            self,
            database=database,
            local=replace(self.local, policy=keep_all),
            remotes=[replace(target, policy=keep_all) for target in self.remotes],
            keep_before_days=0,
            options=replace(self.options, exclude=NO_PATTERNS),  # nothing else will have it
            slot=None,
            locks=False,
            try_schema=None if any_schema else self.try_schema,
        )
        made = job(run).result
        if made.unrestorable:
            raise UnrestorableError(
                f"{made.name} can't be restored: {made.unrestorable}", why=made.unrestorable, remedy=made.remedy or ""
            )
        where = "" if self.local.name in made.copies else made.copies[0]
        return f"--from-s3 {made.name}" if where == S3 else made.name + (where and f" --from {where}")

    def _key(self, run: Run) -> tuple[SigningKey | None, list[str]]:
        """What the manifest is signed with, or why there is nothing: then the backup is taken all the same."""
        try:
            return self.find_key(), []
        except HubbackupError as error:
            if not self.remotes and not os.access(self.local.store.directory, os.X_OK):
                return None, []  # the run fails by that itself, a moment later
            problem = f"the backup is not signed, so it does not count as one of ours: {error}"
            run.log.warning("key.failed", message=problem, remedy=error.remedy)
            return None, [problem]

    def _last(self, run: Run) -> tuple[Manifest | None, Manifest | None]:
        """What the backup is measured by, and what it is compared with; a local store that can't be read is not a
        reason not to back up to S3."""
        try:
            found = itertools.tee(newest_first([self.local], self.zone, self.database))
            return last_normal(found[0], self.now()), last_counting(found[1], self.now())
        except StoreError as error:
            if not self.remotes:
                raise
            run.log.warning("local.unreadable", message=str(error), remedy=error.remedy)
            return None, None

    def _begin(
        self, run: Run, started_at: datetime, key: SigningKey | None, stack: contextlib.ExitStack
    ) -> DumpSource:
        """Find the database, end what a killed run left there and on disk, lock it, and look at what is to be dumped.

        Raises LockHeldError where a run elsewhere is at work on it.
        """
        normal, before = self._last(run)
        runner = self.open_runner(run.cancel)
        connection = self.connection(run.run_id)
        dead, begun = run.dead_runs.ids, begun_here(self.local)
        remove_leftovers(run.log, [self._sessions_of_the_dead(run, runner, connection), unfinished(self.local)])
        properties = client.describe(runner, connection, self.database)
        if self.locks:
            lock = stack.enter_context(run_lock.locked(run, runner, connection, self.database, dead))
            begun = frozenset() if lock.why_not else begun
        if before is None and normal is None and self.remotes:
            found = last_of_server(
                run, self.remotes, self.zone, self.database, properties.system_identifier, self.now()
            )
            normal = before = found
        if normal is not None and self.restored is not None:
            normal = self.restored.measure(self.database, normal, properties.system_identifier)
        return DumpSource(
            self.database, runner, connection, properties, normal, started_at, key, before, begun, self.shared_globals
        )

    def _sessions_of_the_dead(self, run: Run, runner: Runner, connection: Connection) -> Leftovers:
        """The database sessions of runs that died: a pg_dump that waits for a lock does not notice it."""

        def end() -> list[str]:
            dead = run.dead_runs.ids
            ended = client.end_sessions(runner, connection, self.database, dead)
            run.dead_runs.forget(dead)
            return ended

        message = "{count} orphaned database connections ended"
        return Leftovers(end, event="orphans.ended", message=message, level=logging.WARNING)

    @contextmanager
    def _draft(self, started_at: datetime, problems: list[str]) -> Iterator[tuple[LocalStore, LocalDraft]]:
        """A draft under the name of this moment, and the store it is in.

        Where the local store can't be written and S3 can, a temporary directory takes its place.
        """
        with contextlib.ExitStack() as stack:
            working = self.local.store
            try:
                draft = self._create(working, started_at)
            except StoreError as error:
                if not self.remotes:
                    raise
                problems.append(f"no copy in {self.local.name}: {error}")
                directory = Path(tempfile.mkdtemp(prefix="hubbackup-"))
                stack.callback(shutil.rmtree, directory, ignore_errors=True)
                working = LocalStore(directory)
                draft = self._create(working, started_at)
            yield working, stack.enter_context(draft)

    def _create(self, store: LocalStore, started_at: datetime) -> LocalDraft:
        """A draft under the name of `started_at`, or of the next free second."""
        local_time = started_at.astimezone(self.zone).replace(tzinfo=None, microsecond=0)
        while True:
            name = BackupName(self.database, local_time, self.options.file.format)
            try:
                return store.create(str(name))
            except ExistsError:
                local_time += timedelta(seconds=1)

    def _drop_replaced(self, run: Run, source: DumpSource, problems: list[str]) -> list[str]:
        """Drop the databases that restores put aside longer ago than the operator wants them kept.

        One that can't be dropped (it has a subscription, or an active replication slot) is a problem to be reported:
        it fills the disk, but the backup is good.
        """
        dropped = []
        databases = Databases(source.runner, source.connection, self.database)
        for name in expired_names(source.properties.siblings, self.database, self.keep_before_days, self.now()):
            try:
                databases.drop(name)
            except RunnerError as error:
                problems.append(f"the old database {name} can't be dropped: {error}")
                run.log.warning("replaced.stays", message=problems[-1], database=name, remedy=error.remedy)
                continue
            dropped.append(name)
            run.log.info("replaced.dropped", message=f"replaced database dropped: {name}", database=name)
        return dropped

    def _finish_uploads(self, run: Run, uploads: Sequence[Upload], stored_bytes: int) -> list[str]:
        """Wait for every upload; returns a sentence for each that failed, and logs it."""
        problems = []
        for upload in uploads:
            with run.progress("upload", stored_bytes) as progress:
                error = upload.wait(run.cancel, progress)
            if error is not None:
                which = "" if upload.target.name == S3 else f" ({upload.target.name})"
                run.log.warning(
                    "upload.failed",
                    message=f"AVERTISSEMENT: Echec upload S3{which}: {error}",
                    store=upload.target.name,
                    cause=str(error),
                    remedy=error.remedy,
                )
                problems.append(f"no copy in {upload.target.name}: {error}")
        return problems


def _expected_bytes(source: DumpSource) -> int:
    """About how large the file will be: as the last one, or else a tenth of what the database takes."""
    return source.normal.stored_bytes if source.normal is not None else source.properties.size_bytes // 10


def _changes(before: Manifest | None, made: Manifest) -> dict[str, str]:
    """What the result says of the tables beside the last backup that counts; nothing of the first one."""
    if before is None:
        return {}
    return {"changes": summary(before, made), "changes_since": before.name}


def _publish(store: LocalStore, manifest: Manifest) -> None:
    """Write the manifest; where that fails (a full disk), take back the file, which has its final name already."""
    try:
        write_manifest(store, manifest)
    except HubbackupError:
        with contextlib.suppress(HubbackupError):
            store.delete(manifest.name)
        raise
