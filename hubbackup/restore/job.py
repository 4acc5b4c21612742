"""Restore: prove the file, fill a new database beside the live one, compare it with the census, swap.

The live database is untouched until the swap, which is one transaction: whatever dies at whatever moment, it is
wholly the old one or wholly the new one. What is loaded is what was proven, and it is counted again (`loading`).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import ClassVar

from hubbackup.catalog.backup import printable_rows
from hubbackup.catalog.restored import Loaded, Restored
from hubbackup.errors import HubbackupError, NotProvenError, StoppedError, ToolError
from hubbackup.jobs.leftovers import Leftovers, remove_leftovers
from hubbackup.jobs.results import RestoreResult
from hubbackup.jobs.run import Outcome, Run
from hubbackup.postgres import ddl, materialized_views
from hubbackup.postgres.census import DumpFacts
from hubbackup.postgres.client import DatabaseProperties, describe, properties_from_json
from hubbackup.postgres.databases import Databases
from hubbackup.postgres.server import Server
from hubbackup.postgres.session import Connection
from hubbackup.postgres.side_databases import derived_name, time_of
from hubbackup.restore import extensions, roles
from hubbackup.restore.analyze import Statistics
from hubbackup.restore.deputies import Deputies
from hubbackup.restore.load import DumpProof, compare, load, prove
from hubbackup.restore.loader import Loader, without_owners_of
from hubbackup.restore.preflight import Request, acting_roles, globals_of, preflight
from hubbackup.restore.psql_compat import Dialect, parse_version
from hubbackup.restore.source import Source
from hubbackup.runners import Runner
from hubbackup.streams.cancel import Cancel


@dataclass(frozen=True)
class Preview:
    """What the operator is shown before anything is done."""

    source: Source
    facts: DumpFacts
    request: Request
    server: Server
    notes: tuple[str, ...]


@dataclass(frozen=True)
class RestoreJob:
    """All that a restore needs, put together by `app`."""

    request: Request
    find_source: Callable[[Run], contextlib.AbstractContextManager[Source]]
    open_runner: Callable[[Cancel], Runner]
    connection: Callable[[str], Connection]
    confirm: Callable[[Preview], None]
    """Raises UsageError where the operator does not agree."""
    safety_backup: Callable[[Run], str]
    """Takes a backup of the target within this run; returns the words that make `hubbackup restore` go back to it."""
    choose_loader: Callable[[DumpFacts], Loader] | None = None
    """Who loads this dump; else `connection` does."""
    restored: Restored | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    kind: ClassVar[str] = "restore"
    needs_lock: ClassVar[bool] = True

    def __call__(self, run: Run) -> Outcome[RestoreResult]:
        """Restore. Raises HubbackupError; then the live database is as it was (see `Request.in_place`)."""
        request = self.request
        started = time.monotonic()
        with run.stage("find"), self.find_source(run) as source:
            with run.stage("prove"):
                proof = prove(run, source)
            with run.stage("prepare"):
                runner = self.open_runner(run.cancel)
                loader = self.choose_loader(proof.facts) if self.choose_loader else None
                connection = loader.connection if loader is not None else self.connection(run.run_id)
                databases = Databases(runner, connection, request.target)
                server = databases.look(proof.encoding)
                properties = self._properties(runner, connection, server, source)
                if loader is not None and loader.without_owners:
                    proof = proof.without_owners(ddl.needed_roles(properties))
                    properties = without_owners_of(properties)
                dialect = Dialect(psql=parse_version(server.psql_version), server_major=server.major)
                dialect.check_origin(source.name, of_proven_origin=source.ours)
                notes = preflight(runner, connection, server, request, source, proof.facts, properties)
                asked = time.monotonic()
                self.confirm(Preview(source, proof.facts, request, server, tuple(notes)))
                started += time.monotonic() - asked
                # Nothing is changed above this line.
                remove_leftovers(run.log, self._leftovers(databases, server))
                plan = roles.NOTHING
                if request.with_globals:
                    needed = set(proof.facts.roles) | ddl.needed_roles(properties)
                    plan = roles.plan_roles(globals_of(source), server, needed)
            work = _Work(run, runner, connection, databases, server, source, proof, properties, plan, dialect)
            result = self._restore(work)
        return Outcome("restore finished", result, seconds=round(time.monotonic() - started, 3))

    def _restore(self, work: _Work) -> RestoreResult:
        request, run, databases, facts = self.request, work.run, work.databases, work.proof.facts
        started_at = self.now()
        live = work.server.databases.get(request.target)
        fresh = derived_name(request.target, "restore", started_at, work.server.databases)
        # By the time of the other, which two restores that begin in one second don't share.
        aside = derived_name(request.target, "before", time_of(fresh), work.server.databases)
        name = work.source.name
        run.log.info("restore.started", message="restore started", name=name, database=request.target)
        last = Databases(work.runner.detached(), work.connection, request.target)
        statistics = Statistics(databases, fresh, facts.rows, work.proof.encoding, work.server.major)
        safety = ""
        dropped = False
        ends = contextlib.ExitStack()
        try:
            with run.stage("create"):
                ends.enter_context(databases.claim(fresh))
                databases.create(fresh, work.properties, work.server)
                extensions.prepare(databases, fresh, facts, work.properties, work.server)
                work, remarks = self._make_roles(work, fresh)
                helpers = Deputies(databases, last, fresh, work.server, self._acting(work))
                ends.enter_context(helpers.at_hand())
                remarks += self._apply_properties(work, fresh, hindering=False)
            if request.in_place and live is not None:
                # The safety backup comes as late as can be: after all that can be found out beforehand.
                with run.stage("safety backup"):
                    safety = self.safety_backup(run)
                with run.stage("drop"):
                    dropped = True
                    message = f"database dropped (--in-place); to go back: hubbackup restore {safety}"
                    run.log.warning("restore.dropping", message=message, database=request.target, safety=safety)
                    databases.drop(request.target)
            statistics.start()
            missing = set(facts.roles) - work.server.roles if request.no_owner else set()
            superusers = facts.requirements.superusers
            with roles.stand_ins(databases, fresh, missing, superusers, helpers), run.stage("load"):
                brought = load(run, work.runner, work.connection, fresh, work.source, work.proof, work.dialect)
            statistics.loaded()
            with run.stage("compare"), run.progress("compare", 0):
                remarks += compare(databases, fresh, work.proof, brought) + self._compare_views(work, fresh)
            with run.stage("finish"), run.progress("statistics", 0):
                remarks += extensions.conclude(databases, fresh, facts, work.properties)
                remarks += self._finish(work, fresh, statistics)
            with run.stage("swap"):
                put_aside = databases.swap(live=request.target, aside=aside, new=fresh, cancel=run.cancel)
            remarks += extensions.after_swap(databases, work.server, request.target) if put_aside else []
        except BaseException as error:
            statistics.abandon()
            with contextlib.suppress(HubbackupError):  # what can't be removed now, the next restore removes
                last.drop(fresh)
            if dropped:
                _tell_of_safety_backup(error, request.target, safety)
            raise
        finally:
            ends.close()
        if self.restored is not None:
            loaded = Loaded(name, facts.plain_bytes, facts.table_count, printable_rows(facts.rows))
            self.restored.note(request.target, loaded, self.now())
        for remark in remarks:
            run.log.warning("restore.remark", message=remark)
        return RestoreResult(
            name=name,
            proven=work.source.manifest is not None,
            database=request.target,
            rows=sum(facts.rows.values()),
            tables=facts.table_count,
            plain_bytes=facts.plain_bytes,
            kept_as=aside if put_aside else "",
            kept_bytes=live.size_bytes if put_aside and live else 0,
            safety_backup=safety,
            remarks=tuple(remarks),
            roles_created=work.plan.made,
        )

    def _compare_views(self, work: _Work, fresh: str) -> list[str]:
        """A materialized view that was out of date at the backup is a remark, not a failure."""
        before = work.source.manifest.materialized_views if work.source.manifest is not None else {}
        if not before:
            return []
        after = materialized_views.counts_of(
            work.databases.sql(materialized_views.COUNT_SQL, fresh, own_settings=True), work.proof.encoding
        )
        return materialized_views.differences(before, after)

    def _make_roles(self, work: _Work, fresh: str) -> tuple[_Work, list[str]]:
        """What `--globals` makes, out of a session in the new database: names are bytes of its encoding."""
        plan = work.plan
        remarks = [*plan.remarks, *roles.create_missing(work.databases, fresh, plan, work.server.major)]
        if plan.made:
            work = replace(work, server=work.databases.look(work.proof.encoding))
        return work, remarks

    def _acting(self, work: _Work) -> set[str]:
        return acting_roles(work.proof.facts, work.properties, work.server, self.request)

    def _finish(self, work: _Work, fresh: str, statistics: Statistics) -> list[str]:
        """Statistics and what a plain dump lacks. Neither is worth a restore: what fails becomes a remark."""
        remarks = []
        try:
            statistics.wait(work.run.cancel)
        except ToolError as error:
            remarks.append(f"there are no statistics yet, run ANALYZE by hand: {error}")
        return remarks + self._apply_properties(work, fresh, hindering=True)

    def _apply_properties(self, work: _Work, fresh: str, *, hindering: bool) -> list[str]:
        """What a plain dump lacks, as `pg_dump --create` has it: before the load, but for what would hinder it."""
        if work.properties is None:
            return []
        refused = work.databases.apply_properties(fresh, work.properties, work.server, hindering=hindering)
        return [f"the server refused what the backup's database had, {sentence}" for sentence in refused]

    def _properties(
        self, runner: Runner, connection: Connection, server: Server, source: Source
    ) -> DatabaseProperties | None:
        """What the new database is to be like: as the manifest says, else as the live one is."""
        if source.manifest is not None:
            try:
                return properties_from_json(source.manifest.properties)
            except (KeyError, TypeError, ValueError) as error:
                raise NotProvenError(
                    f"the manifest of {source.name} does not tell what its database was like: {error!r}",
                    remedy="use another backup; or move the manifest away, and the file is restored as unproven",
                ) from error
        if self.request.replace and self.request.target in server.databases:
            return describe(runner, connection, self.request.target)
        return None

    def _leftovers(self, databases: Databases, server: Server) -> list[Leftovers]:
        """What killed restores left: databases of this target that are half-filled, then roles that stood in."""
        half_filled = Leftovers(
            lambda: databases.remove_leftovers(server, self.request.target),
            event="restore.leftover",
            message="leftover removed: {names}",
            level=logging.WARNING,
        )
        stand_ins = Leftovers(lambda: roles.remove_leftovers(databases))
        return [half_filled, stand_ins] if server.has_stand_ins else [half_filled]


@dataclass(frozen=True)
class _Work:
    """What one restore works with, once everything was found and proven."""

    run: Run
    runner: Runner
    connection: Connection
    databases: Databases
    server: Server
    source: Source
    proof: DumpProof
    properties: DatabaseProperties | None
    plan: roles.RolePlan
    dialect: Dialect


def _tell_of_safety_backup(error: BaseException, target: str, safety: str) -> None:
    """Raises the error that says how to go back, in the place of one of ours."""
    if isinstance(error, HubbackupError) and not isinstance(error, StoppedError):
        raise HubbackupError(
            f"{error}; the database {target} had been dropped (--in-place)",
            remedy=f"its last state is in a safety backup: hubbackup restore {safety} --yes",
        ) from error
