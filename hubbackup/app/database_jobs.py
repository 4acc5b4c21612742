"""What is done for one database: the jobs that back it up, try its schema, and drill it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from hubbackup.app.identities import identities_of
from hubbackup.app.installation import Installation
from hubbackup.backup.beside import SharedGlobals
from hubbackup.backup.dump import DumpOptions
from hubbackup.backup.job import BackupJob
from hubbackup.backup.leaving_out import Patterns
from hubbackup.backup.pipeline import FileOptions
from hubbackup.catalog.backup import Manifest
from hubbackup.catalog.schema_proofs import SchemaVerdict
from hubbackup.catalog.target import Target
from hubbackup.jobs.history import RunRecord
from hubbackup.jobs.run import Run
from hubbackup.restore.drill import DrillJob, whose_turn
from hubbackup.restore.schema_drill import SchemaDrill, SchemaDrillJob
from hubbackup.verify.kept import KeptSchema
from hubbackup.verify.selector import find_in
from hubbackup.verify.source import Source, of_kept


@dataclass(frozen=True)
class DatabaseJobs:
    """Makes the jobs of `database`; each of several databases has its own."""

    installation: Installation
    database: str

    def backup_job(
        self, *, upload: bool = True, slot: datetime | None = None, roles: SharedGlobals | None = None
    ) -> BackupJob:
        """A backup of it; for a `slot` of the schedule only if nobody else has made one.

        `roles`: the server's, where a run that backs up several databases has read them.
        """
        home = self.installation
        settings = home.settings
        return BackupJob(
            database=self.database,
            open_runner=home.server.open_runner,
            connection=home.server.connection,
            local=home.local,
            remotes=home.remotes if upload else (),
            zone=home.zone,
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
                exclude=Patterns(settings.excluded_tables, settings.excluded_rows),
            ),
            find_key=home.manifest_key.make,
            restored=home.state.restored,
            keep_before_days=settings.backup_keep_before_days,
            slot=slot,
            shared_globals=roles,
            try_schema=self._try_schema if settings.backup_schema_drill else None,
        )

    def _try_schema(
        self, run: Run, manifest: Manifest, targets: Sequence[Target], kept: KeptSchema | None
    ) -> SchemaVerdict:
        """Whether the schema of a backup that was just published in `targets` restores, where that is to be tried.

        Of a sealed one it was kept while it was made: no key is needed.
        """
        local = self.installation.local

        def find(run: Run) -> contextlib.AbstractContextManager[Source]:
            return contextlib.nullcontext(of_kept(local, kept)) if kept else self._find_in(run, local, manifest.name)

        return self.schema_drill(targets, manifest.database).after_backup(run, manifest, find)

    def _find_in(self, run: Run, target: Target, name: str) -> contextlib.AbstractContextManager[Source]:
        home = self.installation
        return find_in(run, target, name, self.database, home.zone, home.state.directory, home.identities)

    def schema_drill(self, targets: Sequence[Target], schema_of: str = "") -> SchemaDrill:
        """Tries whether a schema restores, its own or that of the database `schema_of`.

        What is refused is marked in `targets`.
        """
        server = self.installation.server
        return SchemaDrill(
            database=schema_of or self.database,
            open_server=lambda run: server.drill_server(run, self.database, schema_only=True),
            proofs=self.installation.state.schema_proofs,
            targets=targets,
        )

    def schema_drill_job(self, name: str = "", store: str = "") -> SchemaDrillJob:
        """A restore of the schema of one backup, elsewhere."""
        home = self.installation
        chosen = home.targets(store or home.local.name)[0]
        return SchemaDrillJob(
            drill=self.schema_drill(home.targets()),
            find_source=lambda run: self._find_in(run, chosen, name),
        )

    def _records(self) -> Iterator[RunRecord]:
        """The runs that say something of this database."""
        home = self.installation
        database = home.chosen.one_of_several(self.database)
        return (record for record in home.state.history.runs() if record.is_about(database))

    def _checks(self) -> tuple[str, ...]:
        """DRILL_SQL's: of several databases they are asked of POSTGRES_DB."""
        home = self.installation
        alone = home.chosen.names.only is not None or not home.settings.postgres_db
        return home.settings.drill_checks if alone or self.database == home.settings.postgres_db else ()

    def drill_job(self, name: str = "", store: str = "") -> DrillJob:
        """A real restore of one backup, elsewhere. Without a `store`, the targets take turns."""
        home = self.installation
        chosen = home.targets(store)[0] if store else whose_turn(home.targets(), self._records())
        return DrillJob(
            database=self.database,
            find_source=lambda run: self._find_in(run, chosen, name),
            store=chosen.name,
            open_server=lambda run: home.server.drill_server(run, self.database),
            checks=self._checks(),
            jobs=home.settings.restore_sessions,
            passed=self.schema_drill(home.targets()).passed,
        )
