"""The composition root: the one place that turns settings into concrete targets, runners and jobs.

`App` has a verb for each job. What they are put together from is the `installation`: `stores` makes the targets,
`server` what reaches the databases, `state` what is kept of earlier runs. `database_jobs` has what is done for each
database, `contents` what looks into a backup. A verb imports what its job is made of when it is called, so that
each command loads that alone: its start takes half as long.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hubbackup.app.installation import Installation
from hubbackup.catalog.backup import BackupName, Mark
from hubbackup.errors import LockHeldError

if TYPE_CHECKING:
    from hubbackup.all_databases.job import Shown
    from hubbackup.app.contents import Contents
    from hubbackup.app.database_jobs import DatabaseJobs
    from hubbackup.catalog.known_databases import Seen
    from hubbackup.jobs.kinds import RunKind
    from hubbackup.jobs.leftovers import Leftovers
    from hubbackup.jobs.progress import ProgressMaker
    from hubbackup.jobs.results import (
        AdoptResult,
        BackupResult,
        BackupsResult,
        DrillResult,
        MarkResult,
        RecoverResult,
        RestoreResult,
        SchemaDrillResult,
        ServerRestoreResult,
        UndoResult,
    )
    from hubbackup.jobs.run import Outcome, Run
    from hubbackup.lifecycle.thaw import ThawOrder
    from hubbackup.recover.job import RecoverRequest
    from hubbackup.recover.row_report import RowReport
    from hubbackup.restore.job import Preview
    from hubbackup.restore.preflight import Request
    from hubbackup.retention.prune import PruneResult
    from hubbackup.status.collect import Collector
    from hubbackup.verify.adopt import Stranger
    from hubbackup.verify.copies import CopySelector
    from hubbackup.verify.job import CopyResult, VerifyJob, VerifyResult
    from hubbackup.verify.repair import RepairResult
    from hubbackup.verify.selector import BackupSelector


class App(Installation):
    """The program for one set of settings: a verb for each of its jobs."""

    def of(self, database: str = "") -> DatabaseJobs:
        """The jobs of one database, POSTGRES_DB where none is named."""
        from hubbackup.app.database_jobs import DatabaseJobs

        return DatabaseJobs(self, database or self.database)

    @property
    def contents(self) -> Contents:
        """What is in backups, to be looked into."""
        from hubbackup.app.contents import Contents

        return Contents(self)

    def backup(
        self,
        databases: Sequence[str] = (),
        *,
        upload: bool = True,
        slot: datetime | None = None,
        progress: ProgressMaker | None = None,
    ) -> Outcome[BackupResult] | Outcome[BackupsResult]:
        """Back up these databases now, or those of the settings, in one run under the lock; for a `slot` of the
        schedule only those of which none has been made since, by another daemon. Raises HubbackupError."""
        from hubbackup.app.hooks import hooks_of, with_hooks
        from hubbackup.backup.beside import SharedGlobals
        from hubbackup.backup.several import BackupsJob

        self.chosen.demand()
        only = self.chosen.names.only if not databases else databases[0] if len(databases) == 1 else None
        hooks = hooks_of(self.settings, self.server)
        if only is not None:
            one = with_hooks(self.of(only).backup_job(upload=upload, slot=slot), hooks, [only])
            return self.run(one, progress, only)
        roles = SharedGlobals()
        job = BackupsJob(
            choose=lambda run: self.chosen.find(run, databases, partial(self._tell_seen, run)),
            waits=slot is not None,
            job_of=lambda name: self.of(name).backup_job(upload=upload, slot=slot, roles=roles),
        )
        return self.run(with_hooks(job, hooks, databases or self.chosen.at_hand()), progress)

    def _tell_seen(self, run: Run, seen: Seen) -> None:
        """Say in the log what is new on the server; of what is gone, people are told too."""
        for name in seen.new:
            run.log.info("database.new", message=f"a database that is new here: {name}", database=name)
        for name in seen.gone:
            run.log.warning(
                "database.gone",
                message=f"the database {name} is not on the server any more; its backups are kept",
                database=name,
                remedy=f"to have it again: hubbackup restore --latest --database {shlex.quote(name)}",
            )
        if seen.gone:
            self.notifier.tell_gone(seen.gone)

    def restore(
        self,
        request: Request,
        wanted: BackupSelector,
        *,
        confirm: Callable[[Preview], None],
        progress: ProgressMaker | None = None,
    ) -> Outcome[RestoreResult]:
        """Restore one backup, under the lock. Raises HubbackupError."""
        from hubbackup.restore.job import RestoreJob
        from hubbackup.verify.selector import find

        home = self.of(self.chosen.home)
        job = RestoreJob(
            request=request,
            find_source=lambda run: find(
                run, wanted, self.targets(), self.zone, self.state.directory, self.identities
            ),
            open_runner=self.server.open_restore_runner,
            connection=self.server.connection,
            confirm=confirm,
            safety_backup=lambda run: (
                home.backup_job().safety_backup(run, request.target, any_schema=request.untried)
                + self.chosen.option(request.target)
            ),
            try_schema=home.schema_drill(self.targets(), request.target).ensure,
            restored=self.state.restored,
        )
        return self.run(job, progress, self.chosen.several(request.target))

    def thaw(self, typed: str, store: str, order: ThawOrder) -> None:
        """Have a copy in a bucket thawed. Raises ThawingError where it is not there yet. No lock: it takes hours."""
        from hubbackup.app.lifecycle import Lifecycle

        Lifecycle(self, store).thaw(typed, order)

    def restore_all(
        self,
        request: Request,
        store: str = "all",
        *,
        foreign: bool = False,
        shown: Shown,
        progress: ProgressMaker | None = None,
    ) -> Outcome[ServerRestoreResult]:
        """Restore every database that the stores (or that one) hold, under the lock. Raises HubbackupError."""
        from hubbackup.all_databases.job import AllDatabasesJob

        job = AllDatabasesJob(
            request=request,
            targets=self.targets(store),
            zone=self.zone,
            scratch=self.state.directory,
            identities=self.identities,
            open_runner=self.server.open_restore_runner,
            connection=self.server.connection,
            restored=self.state.restored,
            shown=shown,
            foreign=foreign,
        )
        return self.run(job, progress)

    def recover(
        self,
        request: RecoverRequest,
        name: str = "",
        *,
        database: str = "",
        confirm: Callable[[RowReport], None],
        progress: ProgressMaker | None = None,
    ) -> Outcome[RecoverResult]:
        """Compare one table's rows in a backup with the live ones, and bring some back, under the lock."""
        from hubbackup.recover.job import RecoverJob
        from hubbackup.verify.selector import BackupSelector, find, located

        database = database or self.database_of(name)
        wanted = BackupSelector(database, name)
        job = RecoverJob(
            request=request,
            database=database,
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
        return self.run(job, progress, self.chosen.several(database))

    def drill_schema(
        self, name: str = "", store: str = "", progress: ProgressMaker | None = None, *, database: str = ""
    ) -> Outcome[SchemaDrillResult]:
        """Restore the schema of one backup, elsewhere."""
        database = database or self.database_of(name)
        return self.run(self.of(database).schema_drill_job(name, store), progress, database)

    def drill(
        self, name: str = "", store: str = "", progress: ProgressMaker | None = None, *, database: str = ""
    ) -> Outcome[DrillResult]:
        """Restore one backup for real, elsewhere. Without a `store`, the targets take turns.

        So do the databases, where neither one of them nor a backup is named.
        """
        database = database or (self.database_of(name) if name else self._next_database())
        return self.run(self.of(database).drill_job(name, store), progress, database)

    def _next_database(self) -> str:
        from hubbackup.restore.drill import next_database

        return self.chosen.names.only or next_database(self.chosen.at_hand(), self.state.history.runs())

    def database_of(self, name: str) -> str:
        """The database that a command with the backup `name` is about: its own, where there are several."""
        parsed = BackupName.parse(Path(name).name) if name and self.chosen.names.only is None else None
        return parsed.database if parsed is not None else self.database

    def leftovers(self) -> list[Leftovers]:
        """What is to be removed when the daemon starts, before any run."""
        return [self.server.drill_leftovers()]

    def verify(self, job: VerifyJob, progress: ProgressMaker | None = None) -> Outcome[VerifyResult]:
        """Read copies again. No lock: nothing is changed but a mark. Raises HubbackupError."""
        return self.run(job, progress)

    def verify_job(self, wanted: CopySelector, store: str = "all") -> VerifyJob:
        """Read the wanted copies through, decoded: of the databases here, where it does not say of which."""
        from hubbackup.verify.job import VerifyJob

        targets = self.targets(store)
        databases = (wanted.database,) if wanted.database else self.chosen.at_hand()
        return VerifyJob(
            choose=lambda run: wanted.copies(targets, self.zone, databases),
            history=self.state.copy_history,
            decode=True,
            read_unproven=bool(wanted.name),
            identities=self.identities,
            must_open=self.keys_named and not wanted.everything,
        )

    def verify_due(self) -> Outcome[VerifyResult]:
        """Read the copies that were read longest ago, within the day's budget."""
        from hubbackup.verify.copies import due_copies
        from hubbackup.verify.job import VerifyFailedError, VerifyJob
        from hubbackup.verify.repair import repairable

        store, budget_bytes = self.settings.verify_store, self.settings.verify_daily_bytes
        job = VerifyJob(
            choose=lambda run: due_copies(  # a store that is not configured fails the run: else nobody would hear it
                self.targets(store), self.zone, self.state.copy_history, budget_bytes, datetime.now(UTC)
            ),
            history=self.state.copy_history,
            decode=False,
            identities=self.identities,
        )
        try:
            return self.verify(job)
        except VerifyFailedError as error:
            damaged = repairable(error.result) if self.settings.verify_repair else []
            try:
                if damaged:
                    self.repair(damaged)
            except LockHeldError as held:
                self.log.warning("repair.skipped", message=str(held), remedy="hubbackup verify --all --repair")
            raise

    def repair(self, damaged: Sequence[CopyResult], progress: ProgressMaker | None = None) -> Outcome[RepairResult]:
        """Make copies that a verification found damaged good again, from any store. Raises HubbackupError."""
        from hubbackup.verify.repair import RepairJob

        scratch = self.state.directory
        return self.run(RepairJob(damaged, self.targets(), scratch, self.state.copy_history), progress)

    def undo_restore(self, target: str) -> Outcome[UndoResult]:
        """Swap back what the last restore of the database `target` put aside. Raises HubbackupError."""
        from hubbackup.restore.undo import UndoJob

        return self.run(UndoJob(target, self.server.open_runner, self.server.connection, self.state.restored))

    def prune(
        self, *, dry_run: bool = False, databases: Sequence[str] = (), everything: bool = False
    ) -> Outcome[PruneResult]:
        """Remove what the policies no longer keep, or with `dry_run` only plan it. Raises HubbackupError.

        Of `databases`; else of those that are backed up here, or were left out by name, and with `everything` of
        every one that the stores hold. Never of one that is gone: what there is may be all that is left of it.
        """
        from hubbackup.retention.prune import GONE, NOT_OURS, PruneJob

        gone, ours = self.chosen.gone(), self.chosen.ours()

        def why_kept(database: str) -> str:
            if database in gone:
                return GONE
            chosen = databases or everything or database in ours or self.chosen.names.excludes(database)
            return "" if chosen else NOT_OURS

        return self.run(PruneJob(self.targets(), self.zone, dry_run, tuple(databases) or None, why_kept))

    def mark(self, typed: str, mark: Mark, *, on: bool, kind: RunKind) -> Outcome[MarkResult]:
        """Pin, unpin or accept one backup, in every store that has it."""
        from hubbackup.catalog.marks import MarkJob

        return self.run(MarkJob(typed, mark, on, self.targets(), kind))

    def adopt(
        self,
        typed: Sequence[str],
        *,
        confirm: Callable[[Sequence[Stranger]], None],
        progress: ProgressMaker | None = None,
    ) -> Outcome[AdoptResult]:
        """Take the named backups for ours, or all of before; `confirm` is asked for foreign ones."""
        from hubbackup.verify.adopt import AdoptJob

        return self.run(AdoptJob(typed, self.targets(), self.manifest_key.make, confirm), progress)

    def collector(self, database: str = "") -> Collector:
        """The collector of everything that page, metrics and `hubbackup status` show, of all databases or one."""
        from hubbackup.status.collect import Collector, Scope

        return Collector(
            Scope(
                databases=(lambda: (database,)) if database else self.chosen.at_hand,
                several=self.chosen.names.only is None,
                gone=self.chosen.gone,
                targets=self.targets(),
                history=self.state.history,
                schedule=self.settings.schedule,
                zone=self.zone,
                drill_schedule=self.settings.drills,
                watched_since=lambda name: self.notifier.watch(self.chosen.one_of_several(name)).began(),
                aside=lambda: self.server.kept_databases(self.chosen.home, database),
                alerts=self.alert_facts,
                schema_proofs=self.state.schema_proofs if self.settings.backup_schema_drill else None,
            )
        )
