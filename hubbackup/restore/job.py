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
from hubbackup.dump.census import DumpFacts
from hubbackup.dump.identifiers import readable
from hubbackup.dump.schema_text import SchemaText
from hubbackup.errors import HubbackupError, NotProvenError
from hubbackup.jobs.kinds import RunKind
from hubbackup.jobs.leftovers import Leftovers, remove_leftovers
from hubbackup.jobs.results import RestoreResult
from hubbackup.jobs.run import Outcome, Run
from hubbackup.load.dump_text import DumpReading, DumpText
from hubbackup.load.loose_keys import LooseKeys
from hubbackup.load.part import PartReading
from hubbackup.load.proof import prove
from hubbackup.load.psql_compat import Dialect, parse_version
from hubbackup.load.sessions import Choice, choose_loader, wants_several
from hubbackup.postgres import ddl, run_lock
from hubbackup.postgres.client import DatabaseProperties, describe, properties_from_json
from hubbackup.postgres.databases import Databases
from hubbackup.postgres.run_lock import NO_LOCK, RunLock
from hubbackup.postgres.server import Server
from hubbackup.postgres.session import Connection
from hubbackup.postgres.side_databases import derived_name, time_of
from hubbackup.restore import extensions, roles
from hubbackup.restore.filling import Filling, Work
from hubbackup.restore.in_place import LiveDatabase, try_schema
from hubbackup.restore.lacking import NOTHING, Lost, carry_over, lost
from hubbackup.restore.loading_role import LoadingRole, without_owners_of
from hubbackup.restore.preflight import Request, preflight, roles_of
from hubbackup.runners import Runner
from hubbackup.runners.resources import resources_of
from hubbackup.streams.ahead import ahead
from hubbackup.streams.cancel import Cancel
from hubbackup.verify.source import Source

FRESH_SECONDS = 5.0
"""Where the proof took longer, the server is asked again: containers are replaced, sessions come and go."""


@dataclass(frozen=True)
class Preview:
    """What the operator is shown before anything is done."""

    source: Source
    facts: DumpFacts
    request: Request
    server: Server
    notes: tuple[str, ...]
    untried: str = ""
    """With `--in-place`: why it could not be seen beforehand whether the schema restores."""
    sessions: int = 1
    """How many load at once."""
    lost: Lost = NOTHING
    """What the live database holds, and the backup was made without."""


@dataclass(frozen=True)
class _Reached:
    """The server, and what it has said of itself: `look` has that for a dump's encoding."""

    runner: Runner
    connection: Connection
    databases: Databases
    look: Callable[[str], Server]


@dataclass(frozen=True)
class RestoreJob:
    """All that a restore needs, put together by `app`."""

    request: Request
    find_source: Callable[[Run], contextlib.AbstractContextManager[Source]]
    open_runner: Callable[[Cancel], Runner]
    connection: Callable[[str], Connection]
    confirm: Callable[[Preview], None]
    """Raises UsageError where the operator does not agree."""
    safety_backup: Callable[[Run], str] | None = None
    """Takes a backup of the target within this run, which `in_place` needs; returns the words that make
    `hubbackup restore` go back to it.

    Raises UnrestorableError where a server refuses its schema, unless the request has it `untried`.
    """
    try_schema: Callable[[Run, Source, str], None] | None = None
    """Shows elsewhere that the schema of this digest restores, which `in_place` needs. Raises UnrestorableError where
    a server refuses it, another HubbackupError where none could be asked."""
    choose_role: Callable[[DumpFacts], LoadingRole] | None = None
    """Who loads this dump; else `connection` does."""
    restored: Restored | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    kind: ClassVar[RunKind] = "restore"
    needs_lock: ClassVar[bool] = True
    begins_itself: ClassVar[bool] = True

    def __call__(self, run: Run) -> Outcome[RestoreResult]:
        """Restore. Raises HubbackupError; then the live database is as it was (see `Request.in_place`).

        LockHeldError where a run elsewhere is at work on it.
        """
        request = self.request
        started = time.monotonic()
        with contextlib.ExitStack() as stack, run.stage("find"), self.find_source(run) as source:
            schema = stack.enter_context(SchemaText()) if request.schema_only else None
            left_out = source.manifest.left_out if source.manifest is not None else None
            if source.manifest is not None:
                for table in request.tables:
                    source.manifest.demand(table)
            loose = LooseKeys.of(left_out)
            part = PartReading() if request.tables else None
            whole = schema is None and part is None
            reading = DumpReading(stack.enter_context(DumpText()), take=loose.take) if whole else None
            # Commands in a container take longer to start than the proof of an indexed file to be given.
            asked_at = time.monotonic()
            answer = ahead("look", lambda: self._reach(run)) if self.choose_role is None else None
            with run.stage("prove"):
                on_schema = loose.without(part.add) if part is not None else None
                # What is dropped beforehand is not dropped for rows that nobody has read.
                proof = prove(run, source, schema, reading, on_schema, by_index=not request.in_place)
                proof = replace(proof, loose=loose)
                if part is not None:
                    proof = proof.only(part.part(request.tables, proof.facts, proof.encoding, source.name))
            with run.stage("prepare"):
                role = self.choose_role(proof.facts) if self.choose_role else None
                is_fresh = time.monotonic() - asked_at < FRESH_SECONDS
                reached = answer.result() if answer is not None and is_fresh else self._reach(run, role)
                runner, connection, databases = reached.runner, reached.connection, reached.databases
                server = reached.look(proof.encoding)
                several = wants_several(request.jobs, proof)
                resources = ahead("resources", lambda: resources_of(runner)) if several else None
                lock = NO_LOCK
                if request.replace and request.target in server.databases:
                    lock = stack.enter_context(run_lock.locked(run, runner, connection, request.target, shared=True))
                run.begin()
                properties = self._properties(runner, connection, server, source)
                if role is not None and role.without_owners:
                    proof = proof.without_owners(ddl.needed_roles(properties))
                    properties = without_owners_of(properties)
                dialect = Dialect(psql=parse_version(server.psql_version), server_major=server.major)
                dialect.check_origin(source.name, of_proven_origin=source.ours)
                notes = preflight(runner, connection, server, request, source, proof.facts, properties)
                untried = ""
                if request.in_place and request.target in server.databases:
                    untried = try_schema(self.try_schema, run, source, proof.facts)
                gone = NOTHING
                if request.target in server.databases and not request.schema_only:
                    gone = lost(databases, request.target, left_out, proof.encoding)
                choice = choose_loader(request.jobs, proof, resources.result(), server) if resources else Choice()
                asked = time.monotonic()
                preview = Preview(source, proof.facts, request, server, tuple(notes), untried, choice.sessions, gone)
                self.confirm(preview)
                started += time.monotonic() - asked
                # Nothing is changed above this line.
                remove_leftovers(run.log, self._leftovers(databases, server))
                plan = roles.NOTHING
                if request.with_globals:
                    needed = set(proof.facts.roles) | ddl.needed_roles(properties)
                    text = roles_of(source, server, needed)
                    plan = roles.plan_roles(text, server, needed, only_needed=request.needed_roles_only)
                _tell_how(run, choice, proof.encoding)
            result = self._restore(
                Work(
                    run,
                    request,
                    runner,
                    connection,
                    databases,
                    server,
                    source,
                    proof,
                    properties,
                    plan,
                    dialect,
                    choice.loader,
                ),
                gone,
                lock,
            )
        return Outcome("restore finished", result, seconds=round(time.monotonic() - started, 3))

    def _reach(self, run: Run, role: LoadingRole | None = None) -> _Reached:
        """Find the server, and ask it what is there. Raises HubbackupError."""
        runner = self.open_runner(run.cancel)
        connection = role.connection if role is not None else self.connection(run.run_id)
        databases = Databases(runner, connection, self.request.target)
        return _Reached(runner, connection, databases, databases.ask())

    def _restore(self, work: Work, gone: Lost, lock: RunLock) -> RestoreResult:
        request, run, databases, facts = self.request, work.run, work.databases, work.proof.facts
        taken = work.server.databases
        live = taken.get(request.target)
        in_place = request.in_place and live is not None
        fresh = derived_name(request.target, "loaded" if in_place else "restore", self.now(), taken)
        # By the time of the other, which two restores that begin in one second don't share.
        aside = derived_name(request.target, "before", time_of(fresh), taken)
        filling = Filling(work, fresh)
        if not request.schema_only:
            run.log.info("restore.started", message="restore started", name=work.source.name, database=request.target)
        live_database: LiveDatabase | None = None
        if in_place:
            assert self.safety_backup is not None  # noqa: S101 - `in_place` needs it
            live_database = LiveDatabase(run, request.target, self.safety_backup)
        retried = ""
        try:
            with run.stage("create"):
                filling.make()
            if live_database is not None:
                live_database.back_up()
                lock.expect_its_end()
                live_database.drop(databases, filling)
            try:
                filling.fill()
            except Exception as error:
                if not filling.may_start_over(error):
                    raise
                retried = _tell_retried(run, error)
                filling = filling.start_over()
                filling.make()
                filling.fill()
            with run.stage("swap"):
                oid, arriving = databases.oids(request.target, filling.name)
                if oid and not request.replace:
                    raise HubbackupError(
                        f"there is a database {request.target} by now, which was not there when the restore began",
                        remedy="give --into a name that is free",
                    )
                self._note_arrival(work, arriving)
                lock.expect_its_end()
                put_aside = oid != 0
                databases.swap(live=request.target, oid=oid, aside=aside, new=filling.name, cancel=run.cancel)
            if put_aside:
                filling.remarks += extensions.after_swap(databases, work.server, request.target)
        except BaseException as error:
            filling.abandon()
            if live_database is not None and filling.is_kept:
                live_database.tell_what_is_kept(error, filling.name if filling.exists else "")
            raise
        finally:
            filling.close()
        if self.restored is not None and work.proof.part is None:
            loaded = Loaded(work.source.name, facts.plain_bytes, facts.table_count, printable_rows(facts.rows))
            self.restored.note(request.target, loaded, self.now())
        if put_aside and gone.tables:
            filling.remarks.append(carry_over(gone.tables, aside, request.target, work.proof.encoding))
        remarks = tuple(dict.fromkeys(filling.remarks))  # one that started over has some of them twice
        for remark in remarks:
            run.log.warning("restore.remark", message=remark)
        return RestoreResult(
            name=work.source.name,
            proven=work.source.manifest is not None,
            database=request.target,
            rows=sum(facts.rows.values()),
            tables=facts.table_count,
            plain_bytes=facts.plain_bytes,
            kept_as=aside if put_aside else "",
            kept_bytes=live.size_bytes if put_aside and live else 0,
            safety_backup=live_database.safety if live_database is not None else "",
            remarks=remarks,
            roles_created=work.plan.made,
            only=work.proof.part.tables if work.proof.part is not None else (),
            load_seconds=round(filling.load_seconds, 3),
            retried_serially=retried,
            left_out=(work.source.manifest.without if work.source.manifest is not None else "") or None,
        )

    def _note_arrival(self, work: Work, oid: int) -> None:
        """Before the swap, so that a restore that is killed right after it is known as done all the same."""
        if self.restored is not None and work.proof.part is None:
            place = work.server.place_of(oid)
            self.restored.arriving(self.request.target, work.source.name, place, self.now())

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


def _tell_how(run: Run, choice: Choice, encoding: str) -> None:
    """By how many sessions it is loaded, and what has to be done by one alone."""
    if choice.sessions > 1:
        run.log.info("restore.parallel", message=f"{choice.sessions} sessions load at once", sessions=choice.sessions)
    elif choice.why:
        why = readable(choice.why, encoding)
        run.log.info("restore.serial", message=f"one session loads it all: {why}", what="all", why=why)
    for one in choice.serial:
        what = readable(one.what, encoding)
        run.log.info("restore.serial", message=f"one session: {what}: {one.why}", what=what, why=one.why)


def _tell_retried(run: Run, error: Exception) -> str:
    """Say that one session tries again; returns why."""
    why = str(error) if isinstance(error, HubbackupError) else f"{type(error).__name__}: {error}"
    message = f"several sessions have failed, one starts over: {why}"
    run.log.warning("restore.retried_serially", message=message, cause=why)
    return why
