"""The composition root: the one place that turns settings into concrete targets, runners and jobs.

`App` has a verb for each job; `stores` makes the targets, `server` what reaches the database, `state` what is kept
of earlier runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import structlog

from hubbackup.app.identities import identities_of
from hubbackup.app.manifest_key import ManifestKey
from hubbackup.app.server import DatabaseServer
from hubbackup.app.state import State
from hubbackup.app.stores import choose, local_target, remote_targets
from hubbackup.backup.dump import DumpOptions
from hubbackup.backup.job import BackupJob
from hubbackup.backup.pipeline import FileOptions
from hubbackup.catalog.backup import BackupName, Manifest, Mark
from hubbackup.catalog.marks import MarkJob
from hubbackup.catalog.schema_proofs import SchemaVerdict
from hubbackup.catalog.target import LocalTarget, Target
from hubbackup.config.load import LoadedSettings
from hubbackup.config.reader import Reader, at_terminal, compose_facts, on_host
from hubbackup.config.settings import Settings
from hubbackup.contents.overview import Known, has_index, known
from hubbackup.contents.stored import StoredBackup, find_stored
from hubbackup.errors import SettingsError, StoreError
from hubbackup.jobs.leftovers import Leftovers
from hubbackup.jobs.progress import ProgressMaker
from hubbackup.jobs.results import (
    AdoptResult,
    BackupResult,
    DrillResult,
    MarkResult,
    RecoverResult,
    RestoreResult,
    SchemaDrillResult,
    UndoResult,
)
from hubbackup.jobs.run import Job, Outcome, R_co, Run, guarded
from hubbackup.jobs.state_file import read_json, write_json
from hubbackup.notify.notifier import Notifier
from hubbackup.restore.drill import DrillJob, whose_turn
from hubbackup.restore.job import Preview, RestoreJob
from hubbackup.restore.preflight import Request
from hubbackup.restore.schema_drill import SchemaDrill, SchemaDrillJob
from hubbackup.restore.undo import UndoJob
from hubbackup.retention.prune import PruneJob, PruneResult
from hubbackup.status.collect import Collector, Scope
from hubbackup.status.snapshot import AlertFacts
from hubbackup.streams.age import HEADER_BYTES
from hubbackup.streams.age_keys import Ask
from hubbackup.streams.cancel import Cancel
from hubbackup.verify.adopt import AdoptJob, Stranger
from hubbackup.verify.job import CopySelector, VerifyJob, VerifyResult, due_copies
from hubbackup.verify.kept import KeptSchema
from hubbackup.verify.ranges import Parts
from hubbackup.verify.sealed import demand_key
from hubbackup.verify.source import BackupSelector, Source, find, find_in, located, of_kept

if TYPE_CHECKING:
    from hubbackup.recover.job import RecoverRequest
    from hubbackup.recover.row_report import RowReport


class App:
    """The program for one set of settings. Nothing is opened or asked before it is needed."""

    def __init__(self, loaded: LoadedSettings, *, cancel: Cancel, log: structlog.stdlib.BoundLogger) -> None:
        self.loaded = loaded
        self.settings: Settings = loaded.settings
        self.cancel = cancel
        self.log = log
        self.identities = identities_of(self.settings)
        """The private keys at hand; the command line may name others, by `open_with`."""
        self._keys_named = False

    def open_with(self, files: Sequence[str], ask: Ask | None) -> None:
        """Open sealed backups with the keys in these files (else in the setting's), `ask`ing for passphrases."""
        self.identities = identities_of(self.settings, files, ask)
        self._keys_named = bool(files)

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
    def state(self) -> State:
        """What hubbackup remembers between runs."""
        return State(self.settings.backup_dir)

    @cached_property
    def server(self) -> DatabaseServer:
        """The database's server, and the one of a drill."""
        return DatabaseServer(self.settings, self.cancel)

    @cached_property
    def manifest_key(self) -> ManifestKey:
        """What tells our backups from those of others."""
        given = self.settings.backup_manifest_key.get_secret_value()
        return ManifestKey(self.state.home, given, has_backups=self._has_backups)

    def _has_backups(self) -> bool:
        """Whether this server has made backups before, or holds any."""
        if self.state.history.last("backup") is not None:
            return True
        try:
            return any(BackupName.parse(entry.name) for entry in local_target(self.settings).entries())
        except StoreError:
            return False

    @cached_property
    def local(self) -> LocalTarget:
        """BACKUP_DIR."""
        return replace(local_target(self.settings), trust=self.manifest_key.trust)

    @cached_property
    def remotes(self) -> tuple[Target, ...]:
        """The configured targets beside the local one."""
        made = remote_targets(self.settings, self.cancel)
        return tuple(replace(target, trust=self.manifest_key.trust) for target in made)

    def targets(self, which: str = "all") -> list[Target]:
        """The one of that name, or `all`, the local one first. Raises UsageError for one that is not configured."""
        return choose([self.local, *self.remotes], which)

    @cached_property
    def notifier(self) -> Notifier:
        """What reports how runs end. Raises SettingsError where a sink's URL is not valid."""
        return Notifier(
            self.loaded,
            log=self.log,
            database=self.settings.postgres_db,
            history=self.state.history,
            state_directory=lambda: self.state.directory,
            local=self.local,
            typable=lambda text: self.host_reader.typable(text),
        )

    @property
    def reader(self) -> Reader:
        """Who has typed this process's command, and so reads its answer."""
        return at_terminal(read_json(self.state.compose_file))

    @property
    def host_reader(self) -> Reader:
        """Who reads what nobody typed a command for: alerts, the daemon's log, the status page."""
        return on_host(read_json(self.state.compose_file))

    def alert_facts(self) -> AlertFacts:
        """Whether anybody is told of failures. A bad URL is a fact of its own here, not an error."""
        try:
            return self.notifier.facts()
        except SettingsError as error:
            return AlertFacts(sinks=("NOTIFICATION_URLS",), failed_at=datetime.now(UTC), failure=str(error))

    def learn_compose(self, labels: Mapping[str, str]) -> None:
        """Keep what our container's labels tell of the compose files in use, for the remedies."""
        with contextlib.suppress(OSError):
            write_json(self.state.compose_file, compose_facts(labels))

    def backup_job(self, *, upload: bool = True) -> BackupJob:
        """A backup of the configured database."""
        settings = self.settings
        return BackupJob(
            database=self.database,
            open_runner=self.server.open_runner,
            connection=self.server.connection,
            local=self.local,
            remotes=self.remotes if upload else (),
            zone=self.zone,
            options=DumpOptions(
                file=FileOptions(
                    settings.backup_format,
                    settings.backup_compression_level,
                    settings.backup_rate_limit,
                    settings.recipients,
                ),
                identities=identities_of(settings),  # nobody is asked for a passphrase by a backup
                verify=settings.backup_verify,
                with_globals=settings.backup_globals,
            ),
            find_key=self.manifest_key.make,
            restored=self.state.restored,
            keep_before_days=settings.backup_keep_before_days,
            try_schema=self._try_schema if settings.backup_schema_drill else None,
        )

    def _try_schema(
        self, run: Run, manifest: Manifest, targets: Sequence[Target], kept: KeptSchema | None
    ) -> SchemaVerdict:
        """Whether the schema of a backup that was just published in `targets` restores, where that is to be tried.

        Of a sealed one it was kept while it was made: no key is needed.
        """

        def find(run: Run) -> contextlib.AbstractContextManager[Source]:
            if kept is not None:
                return contextlib.nullcontext(of_kept(self.local, kept))
            return self._find_in(run, self.local, manifest.name)

        return self.schema_drill(targets, manifest.database).after_backup(run, manifest, find)

    def _find_in(self, run: Run, target: Target, name: str) -> contextlib.AbstractContextManager[Source]:
        directory = self.state.directory
        return find_in(run, target, name, self.database, self.zone, directory, self.identities)

    def schema_drill(self, targets: Sequence[Target], database: str = "") -> SchemaDrill:
        """Tries whether a schema of `database` restores; what is refused is marked in `targets`."""
        return SchemaDrill(
            database=database or self.database,
            open_server=lambda run: self.server.drill_server(run, self.database, schema_only=True),
            proofs=self.state.schema_proofs,
            targets=targets,
        )

    def backup(self, *, upload: bool = True, progress: ProgressMaker | None = None) -> Outcome[BackupResult]:
        """Take one backup now, under the lock. Raises HubbackupError."""
        return self.run(self.backup_job(upload=upload), progress)

    def restore(
        self,
        request: Request,
        wanted: BackupSelector,
        *,
        confirm: Callable[[Preview], None],
        progress: ProgressMaker | None = None,
    ) -> Outcome[RestoreResult]:
        """Restore one backup, under the lock. Raises HubbackupError."""
        job = RestoreJob(
            request=request,
            find_source=lambda run: find(
                run, wanted, self.targets(), self.zone, self.state.directory, self.identities
            ),
            open_runner=self.server.open_restore_runner,
            connection=self.server.connection,
            confirm=confirm,
            safety_backup=lambda run: self.backup_job().safety_backup(
                run, request.target, any_schema=request.untried
            ),
            try_schema=self.schema_drill(self.targets(), request.target).ensure,
            restored=self.state.restored,
        )
        return self.run(job, progress)

    def recover(
        self,
        request: RecoverRequest,
        name: str = "",
        *,
        confirm: Callable[[RowReport], None],
        progress: ProgressMaker | None = None,
    ) -> Outcome[RecoverResult]:
        """Compare one table's rows in a backup with the live ones, and bring some back, under the lock."""
        wanted = BackupSelector(self.database, name)
        from hubbackup.recover.job import RecoverJob  # here: no other command needs it

        job = RecoverJob(
            request=request,
            database=self.database,
            find_source=lambda run: find(
                run,
                located(wanted, self.targets()),
                self.targets(),
                self.zone,
                self.state.directory,
                self.identities,
            ),
            open_runner=self.server.open_restore_runner,
            connection=self.server.connection,
            confirm=confirm,
        )
        return self.run(job, progress)

    def drill_schema(
        self, name: str = "", store: str = "", progress: ProgressMaker | None = None
    ) -> Outcome[SchemaDrillResult]:
        """Restore the schema of one backup, elsewhere."""
        chosen = self.targets(store or self.local.name)[0]
        job = SchemaDrillJob(
            drill=self.schema_drill(self.targets()),
            find_source=lambda run: self._find_in(run, chosen, name),
        )
        return self.run(job, progress)

    def drill(self, name: str = "", store: str = "", progress: ProgressMaker | None = None) -> Outcome[DrillResult]:
        """Restore one backup for real, elsewhere. Without a `store`, the targets take turns."""
        chosen = self.targets(store)[0] if store else whose_turn(self.targets(), self.state.history)
        job = DrillJob(
            database=self.database,
            find_source=lambda run: self._find_in(run, chosen, name),
            store=chosen.name,
            open_server=lambda run: self.server.drill_server(run, self.database),
            checks=self.settings.drill_checks,
            jobs=self.settings.restore_sessions,
            passed=self.schema_drill(self.targets()).passed,
        )
        return self.run(job, progress)

    def stored(self, typed: str, store: str = "all", *, foreign: bool = False) -> StoredBackup:
        """A backup where it rests, to be looked into; see `find_stored`."""
        return find_stored(typed, self.targets(store), self.zone, foreign=foreign)

    def parts(self, stored: StoredBackup, progress: ProgressMaker | None = None) -> Parts:
        """The same, to be read in parts; a sealed one by the keys at hand.

        Raises IdentityError where they don't open it, NotProvenError, StoreError.
        """
        demand_key(stored.name, lambda: stored.open_at(0, HEADER_BYTES), stored.manifest, self.identities)
        key = self.manifest_key.trust().key
        return stored.parts(
            cancel=self.cancel,
            progress=progress,
            new_decoder=lambda: stored.format.decoder(self.identities),
            digest_key=key.for_digests if key is not None and stored.format.sealed else None,
        )

    def known(self, stored: StoredBackup, progress: ProgressMaker | None = None) -> Known:
        """What it holds, by its manifest, or where that has no index by reading it through."""
        if not has_index(stored):
            demand_key(stored.name, lambda: stored.open_at(0, HEADER_BYTES), stored.manifest, self.identities)
        decoder = partial(stored.format.decoder, self.identities)
        return known(stored, cancel=self.cancel, progress=progress, new_decoder=decoder)

    def leftovers(self) -> list[Leftovers]:
        """What is to be removed when the daemon starts, before any run."""
        return [self.server.drill_leftovers(self.state.lock)]

    def verify(self, job: VerifyJob, progress: ProgressMaker | None = None) -> Outcome[VerifyResult]:
        """Read copies again. No lock: nothing is changed but a mark. Raises HubbackupError."""
        return self.run(job, progress)

    def verify_job(self, wanted: CopySelector, store: str = "all") -> VerifyJob:
        """Read the wanted copies through, decoded."""
        targets = self.targets(store)
        return VerifyJob(
            choose=lambda run: wanted.copies(targets, self.zone, self.database),
            history=self.state.copy_history,
            decode=True,
            read_unproven=bool(wanted.name),
            identities=self.identities,
            must_open=self._keys_named and not wanted.everything,
        )

    def verify_due(self) -> Outcome[VerifyResult]:
        """Read the copies that were read longest ago, within the day's budget."""
        targets = self.targets(self.settings.verify_store)
        budget_bytes = self.settings.verify_daily_bytes
        job = VerifyJob(
            choose=lambda run: due_copies(
                targets, self.zone, self.state.copy_history, budget_bytes, datetime.now(UTC)
            ),
            history=self.state.copy_history,
            decode=False,
            identities=self.identities,
        )
        return self.verify(job)

    def undo_restore(self, target: str) -> Outcome[UndoResult]:
        """Swap back what the last restore of the database `target` put aside. Raises HubbackupError."""
        return self.run(UndoJob(target, self.server.open_runner, self.server.connection, self.state.restored))

    def prune(self, *, dry_run: bool = False, database: str | None = None) -> Outcome[PruneResult]:
        """Remove what the policies no longer keep, or with `dry_run` only plan it. Raises HubbackupError.

        Of every database that the stores hold, or of one.
        """
        return self.run(PruneJob(self.targets(), self.zone, dry_run, database))

    def mark(self, typed: str, mark: Mark, *, on: bool, kind: str) -> Outcome[MarkResult]:
        """Pin, unpin or accept one backup, in every store that has it."""
        return self.run(MarkJob(typed, mark, on, self.targets(), kind))

    def adopt(
        self,
        typed: Sequence[str],
        *,
        confirm: Callable[[Sequence[Stranger]], None],
        progress: ProgressMaker | None = None,
    ) -> Outcome[AdoptResult]:
        """Take the named backups for ours, or all of before; `confirm` is asked for foreign ones."""
        return self.run(AdoptJob(typed, self.targets(), self.manifest_key.make, confirm), progress)

    def run(self, job: Job[R_co], progress: ProgressMaker | None = None) -> Outcome[R_co]:
        """One guarded run of a job. Raises HubbackupError."""
        return guarded(
            job,
            lock=self.state.lock,
            cancel=self.cancel,
            log=self.log,
            history=self.state.history,
            progress=progress,
            observers=self.notifier.observers,
        )

    def collector(self) -> Collector:
        """The collector of everything that page, metrics and `hubbackup status` show."""
        return Collector(
            Scope(
                databases=(self.database,),
                targets=self.targets(),
                history=self.state.history,
                schedule=self.settings.schedule,
                zone=self.zone,
                drill_schedule=self.settings.drills,
                watched_since=lambda: self.notifier.watch.began(),
                aside=lambda: self.server.kept_databases(self.database),
                alerts=self.alert_facts,
                schema_proofs=self.state.schema_proofs if self.settings.backup_schema_drill else None,
            )
        )
