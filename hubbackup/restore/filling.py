"""A new database that becomes what a backup holds: made, loaded, compared, finished. Nothing else is touched."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace

from hubbackup.errors import HubbackupError, StoppedError
from hubbackup.jobs.run import Run
from hubbackup.load.analyze import Statistics
from hubbackup.load.loader import Load, Loader, ignore
from hubbackup.load.proof import DumpProof
from hubbackup.load.psql_compat import Dialect
from hubbackup.load.serial import load_serially
from hubbackup.postgres.client import DatabaseProperties
from hubbackup.postgres.databases import Databases
from hubbackup.postgres.server import Server
from hubbackup.postgres.session import Connection
from hubbackup.restore import extensions, roles
from hubbackup.restore.comparison import compare
from hubbackup.restore.deputies import Deputies
from hubbackup.restore.objects import check_objects
from hubbackup.restore.preflight import Request, acting_roles
from hubbackup.runners import Runner
from hubbackup.verify.source import Source


@dataclass(frozen=True)
class Work:
    """What one restore works with, once everything was found and proven."""

    run: Run
    request: Request
    runner: Runner
    connection: Connection
    databases: Databases
    server: Server
    source: Source
    proof: DumpProof
    properties: DatabaseProperties | None
    plan: roles.RolePlan
    dialect: Dialect
    loader: Loader = load_serially


class Filling:
    """The new database `name`. `make`, then `fill`; in any case `close`, and where it failed `abandon` before.

    `is_kept`: it is all there is, so that whatever fails leaves it as it is. `exists`: it has been made.
    """

    def __init__(self, work: Work, name: str) -> None:
        self.name = name
        self.remarks: list[str] = []
        self.is_kept = self.exists = False
        self.load_seconds = 0.0
        self._before: list[str] = []
        """The remarks on what comes before the load."""
        self._work = work
        self._is_claimed = False
        """Until then, what has its name is somebody else's."""
        self._statistics: Statistics | None = None
        self._helpers: Deputies | None = None
        self._at_hand = contextlib.ExitStack()

    def make(self) -> None:
        """The database, empty, as the backup's own was; its roles, and ours. Raises HubbackupError."""
        work = self._work
        self._at_hand.enter_context(work.databases.claim(self.name))
        self._is_claimed = True
        work.databases.create(self.name, work.properties, work.server)
        self.exists = True
        extensions.prepare(work.databases, self.name, work.proof.facts, work.properties, work.server)
        self.remarks += self._make_roles()
        work = self._work
        acting = acting_roles(work.proof.facts, work.properties, work.server, work.request)
        self._helpers = Deputies(work.databases, self.name, work.server, acting)
        self._at_hand.enter_context(self._helpers.at_hand())
        self.remarks += self._apply_properties(hindering=False)

    def fill(self) -> None:
        """All that the dump holds, compared with it; then what a plain dump lacks. Raises HubbackupError."""
        self._before = list(self.remarks)
        work, facts = self._work, self._work.proof.facts
        assert self._helpers is not None  # noqa: S101 - `make` comes first
        if not work.request.schema_only:
            statistics = Statistics(
                work.databases,
                self.name,
                facts.rows,
                work.proof.encoding,
                work.server.major,
                is_told=work.loader is not load_serially,
            )
            self._statistics = statistics
            statistics.start()
        missing = set(facts.roles) - work.server.roles if work.request.no_owner else set()
        superusers = facts.requirements.superusers
        standing_in = roles.stand_ins(
            work.databases, self.name, missing, superusers, self._helpers, keep=self.is_kept
        )
        with standing_in, work.run.stage("load"):
            began = time.monotonic()
            brought = work.loader(self._load())
            self.load_seconds = time.monotonic() - began
        if self._statistics is not None:
            self._statistics.loaded()
            with work.run.stage("compare"), work.run.progress("compare", 0):
                part = work.proof.part
                views = self._views() if part is None else {}
                self.remarks += compare(work.databases, self.name, work.proof, brought, views)
                self.remarks += work.proof.loose.conclude(work.databases, self.name, work.proof.encoding)
                if part is not None:
                    self.remarks += part.conclude(work.databases, self.name)
                else:
                    self._check_objects()
        with work.run.stage("finish"), work.run.progress("statistics", 0):
            self.remarks += extensions.conclude(work.databases, self.name, facts, work.properties)
            self.remarks += self._finish()

    def _load(self) -> Load:
        work = self._work
        on_full = self._statistics.full if self._statistics is not None else ignore
        return Load(
            work.run,
            work.runner,
            work.connection,
            self.name,
            work.source,
            work.proof,
            work.dialect,
            on_full,
        )

    def may_start_over(self, error: Exception) -> bool:
        """Whether one session might do what several have failed to do."""
        return self._work.loader is not load_serially and not isinstance(error, StoppedError)

    def start_over(self) -> Filling:
        """Remove it, and return the next one, of the same name, for one session to fill. Raises HubbackupError."""
        if self._statistics is not None:
            self._statistics.abandon()
        self.close()
        self._work.databases.last.discard(self.name)
        self.exists = False
        server = self._work.databases.look(self._work.proof.encoding)
        again = Filling(replace(self._work, server=server, plan=roles.NOTHING, loader=load_serially), self.name)
        again.is_kept = self.is_kept
        again.remarks = list(self._before)
        return again

    def abandon(self) -> None:
        """Remove it, unless it is kept. What can't be removed now, the next restore removes."""
        if self._statistics is not None:
            self._statistics.abandon()
        if self._is_claimed and not self.is_kept:
            with contextlib.suppress(HubbackupError):
                self._work.databases.last.discard(self.name)

    def close(self) -> None:
        """Let go what was made for the restore alone."""
        self._at_hand.close()

    def _make_roles(self) -> list[str]:
        """What `--globals` makes, out of a session in the new database: names are bytes of its encoding."""
        work, plan = self._work, self._work.plan
        remarks = [*plan.remarks, *roles.create_missing(work.databases, self.name, plan, work.server.major)]
        if plan.made:
            self._work = replace(work, server=work.databases.look(work.proof.encoding))
        return remarks

    def _views(self) -> dict[str, int | None]:
        """How many rows each materialized view had at the backup."""
        manifest = self._work.source.manifest
        if manifest is None:
            return {}
        without = manifest.left_out.names if manifest.left_out is not None else ()
        return {view: rows for view, rows in manifest.materialized_views.items() if view not in without}

    def _check_objects(self) -> None:
        """All that the dump makes behind its rows is there. Raises NotProvenError."""
        work = self._work
        if work.proof.reading is not None:
            found = check_objects(work.databases, self.name, work.proof.reading, work.proof.encoding)
            counts = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
            message = f"there and valid, by name: {counts or 'nothing beside the tables'}"
            work.run.log.info("restore.objects", message=message, objects=found)

    def _finish(self) -> list[str]:
        """Statistics and what a plain dump lacks. Neither is worth a restore: what fails becomes a remark."""
        remarks = []
        if self._statistics is not None:
            try:
                self._statistics.wait(self._work.run.cancel)
            except StoppedError:
                raise
            except HubbackupError as error:
                remarks.append(f"not all statistics were gathered, run ANALYZE by hand: {error}")
        return remarks + self._apply_properties(hindering=True)

    def _apply_properties(self, *, hindering: bool) -> list[str]:
        """What a plain dump lacks, as `pg_dump --create` has it: before the load, but for what would hinder it."""
        work = self._work
        if work.properties is None:
            return []
        refused = work.databases.apply_properties(self.name, work.properties, work.server, hindering=hindering)
        return [f"the server refused what the backup's database had, {sentence}" for sentence in refused]
