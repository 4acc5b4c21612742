"""The schema drill: all that a dump holds but its rows, loaded for real into a server that is thrown away.

It takes seconds, so it is done the same night as the schema changed, and not weeks later by a drill of the rows. What
the rows alone show (a CHECK that calls a function, a view that is computed of them) is left to the drill.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from hubbackup.catalog.backup import BackupName, Manifest
from hubbackup.catalog.schema_proofs import (
    REFUSED,
    SchemaProofs,
    SchemaVerdict,
    mark_restorable,
    mark_unrestorable,
)
from hubbackup.catalog.target import Target
from hubbackup.errors import HubbackupError, StoppedError, UnrestorableError
from hubbackup.jobs.kinds import RunKind
from hubbackup.jobs.results import SchemaDrillResult
from hubbackup.jobs.run import Outcome, Run
from hubbackup.postgres.side_databases import derived_name
from hubbackup.restore.drill import DrillServer, Place
from hubbackup.verify.source import Source

NOT_ALLOWED = "42501"
"""SQLSTATE of what the role may not do."""


@dataclass(frozen=True)
class SchemaDrill:
    """Shows that a schema restores, remembers it, and marks what a server refused in each of `targets`."""

    database: str
    open_server: Callable[[Run], AbstractContextManager[DrillServer]]
    proofs: SchemaProofs
    targets: Sequence[Target]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __call__(self, run: Run, source: Source) -> SchemaDrillResult:
        """Raises UnrestorableError where the server refuses it, another HubbackupError where it was not tried."""
        target = derived_name(self.database, "drill", self.now())
        name = BackupName.parse(source.name)
        began = time.monotonic()
        with run.stage("server"), self.open_server(run) as server:
            try:
                with Place(server, target) as place:
                    restored = place.restore(run, source, schema_only=True)
            except UnrestorableError as error:
                if error.sqlstate == NOT_ALLOWED and server.keeps_roles:  # says nothing of the backup
                    raise HubbackupError(str(error), remedy=error.remedy) from error
                if name is not None:
                    _warn(run, mark_unrestorable(self.targets, name, error.why, self.now()))
                raise
        _warn(run, self.passed(source))
        for problem in place.problems:
            run.log.warning("drill.left", message=problem)
        seconds = round(time.monotonic() - began, 1)
        run.log.info(
            "schema_drill.passed",
            message=f"the schema of {source.name} restores: {restored.tables} tables in {seconds} s",
            name=source.name,
            seconds=seconds,
        )
        return SchemaDrillResult(source.name, self.database, place.description, restored.tables, seconds)

    def ensure(self, run: Run, source: Source, digest: str) -> None:
        """As a call, unless this very schema was shown to restore lately."""
        if not self.proofs.of(self.database).holds(digest, self.now()):
            self(run, source)

    def passed(self, source: Source) -> list[str]:
        """Remember that this schema restores, and take the mark away; returns a sentence where that fails."""
        if source.manifest is not None and source.manifest.schema_digest:
            self.proofs.passed(self.database, source.manifest.schema_digest, source.name, self.now())
        name = BackupName.parse(source.name)
        return mark_restorable(self.targets, name) if name is not None else []

    def after_backup(
        self, run: Run, manifest: Manifest, find_source: Callable[[Run], AbstractContextManager[Source]]
    ) -> SchemaVerdict:
        """Try the schema of a backup that was just published, where that is due. Raises StoppedError."""
        proof = self.proofs.of(self.database)
        if proof.holds(manifest.schema_digest, self.now()):
            return SchemaVerdict("proven")
        if not proof.due(manifest.schema_digest, self.now()):
            return SchemaVerdict("untried", proof.skipped_because)
        try:
            with run.stage("schema drill"), find_source(run) as source:
                self(run, source)
        except UnrestorableError as error:
            run.log.error(
                "schema_drill.refused",
                message=f"{REFUSED}: {error.why}",
                name=manifest.name,
                cause=error.why,
                remedy=error.remedy,
            )
            return SchemaVerdict("refused", error.why, error.remedy)
        except StoppedError:
            raise
        except HubbackupError as error:
            facts = {
                "message": f"whether this schema restores could not be tried: {error}",
                "name": manifest.name,
                "cause": str(error),
                "remedy": error.remedy,
            }
            if proof.skipped_because == str(error):  # it was told
                run.log.info("schema_drill.skipped", **facts)
            else:
                run.log.warning("schema_drill.skipped", **facts)
            self.proofs.skipped(self.database, str(error), self.now())
            return SchemaVerdict("untried", str(error), error.remedy)
        return SchemaVerdict("proven")


@dataclass(frozen=True)
class SchemaDrillJob:
    """A schema drill by hand."""

    drill: SchemaDrill
    find_source: Callable[[Run], AbstractContextManager[Source]]
    kind: ClassVar[RunKind] = "schema_drill"
    needs_lock: ClassVar[bool] = True

    def __call__(self, run: Run) -> Outcome[SchemaDrillResult]:
        """Raises UnrestorableError where a server refuses the schema, HubbackupError where none could be asked."""
        with run.stage("find"), self.find_source(run) as source:
            return Outcome("schema drill passed", self.drill(run, source))


def _warn(run: Run, problems: Sequence[str]) -> None:
    for problem in problems:
        run.log.warning("mark.failed", message=problem)
