"""Restore: prove the file, fill a new database beside the live one, compare it with the census, swap.

The live database is untouched until the swap, which is one transaction: whatever dies at whatever moment, it is
wholly the old one or wholly the new one. psql by itself commits a dump that is cut at a line end and exits 0;
therefore the file is proven before its first byte goes to psql, psql must answer a nonce after the last, and
the rows are counted again.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hubbackup import roles
from hubbackup.census import DumpFacts
from hubbackup.databases import Databases, Server, derived_name, derived_time
from hubbackup.errors import HubbackupError, NotProvenError, StoppedError, StreamError, ToolError, UsageError
from hubbackup.jobs import Outcome, Run
from hubbackup.postgres import (
    Connection,
    DatabaseProperties,
    describe,
    explain,
    properties_from_json,
    psql_argv,
)
from hubbackup.preflight import Request, globals_of, preflight
from hubbackup.psql_dialect import Dialect, psql_version
from hubbackup.runners import Process, Runner, tool_error
from hubbackup.sources import Source
from hubbackup.stream import Cancel
from hubbackup.verify import Expected, prove, proven_chunks

ANSWER_BYTES = 64 << 10


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
    """Takes a backup within this run; returns its name."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __call__(self, run: Run) -> Outcome:
        """Restore. Raises HubbackupError's kinds; then the live database is as it was (see `in_place`)."""
        request = self.request
        with run.stage("find"), self.find_source(run) as source:
            with run.stage("prove"):
                facts = self._prove(run, source)
            with run.stage("prepare"):
                runner = self.open_runner(run.cancel)
                connection = self.connection(run.run_id)
                databases = Databases(runner, connection, request.target)
                self._remove_leftovers(run, databases)
                server = databases.look()
                notes = preflight(runner, connection.user, server, request, source, facts)
                self.confirm(Preview(source, facts, request, server, tuple(notes)))
                made_roles = self._make_roles(databases, server, source)
                server = databases.look()
                like = self._properties(runner, connection, server, source)
            safety = ""
            if request.in_place and request.target in server.databases:
                with run.stage("safety backup"):
                    safety = self.safety_backup(run)
            return self._restore(run, runner, connection, databases, server, source, facts, like, safety, made_roles)

    def _restore(
        self,
        run: Run,
        runner: Runner,
        connection: Connection,
        databases: Databases,
        server: Server,
        source: Source,
        facts: DumpFacts,
        like: DatabaseProperties | None,
        safety: str,
        made_roles: list[str],
    ) -> Outcome:
        request = self.request
        started_at = self.now()
        fresh = derived_name(request.target, "restore", started_at)
        aside = derived_name(request.target, "before", started_at)
        live = server.databases.get(request.target) if request.replace else None
        missing = set(facts.roles) - server.roles if request.no_owner else set()
        run.log.info("restore.started", message="Restauration demarree", name=source.name, database=request.target)
        try:
            if safety:
                with run.stage("drop"):
                    databases.drop(request.target)
                live = None
            with run.stage("create"):
                databases.create(fresh, like, server)
            with roles.stand_ins(databases, fresh, missing), run.stage("load"):
                self._load(run, runner, connection, fresh, source, server)
            with run.stage("compare"):
                compare(databases, fresh, facts)
            with run.stage("analyze"):
                databases.sql("ANALYZE;", fresh)
                if like is not None:
                    databases.dress(fresh, like, server)
            with run.stage("swap"):
                databases.swap(live=request.target, aside=aside, new=fresh, cancel=run.cancel)
        except BaseException as error:
            self._give_up(runner, connection, fresh, safety)
            if safety and isinstance(error, HubbackupError) and not isinstance(error, StoppedError):
                raise HubbackupError(
                    f"{error}; the database {request.target} had been dropped (--in-place)",
                    remedy=f"its last state is in {safety}: hubbackup restore {safety} --yes",
                ) from error
            raise
        rows = sum(facts.rows.values())
        fields: dict[str, Any] = {
            "name": source.name,
            "proven": source.manifest is not None,
            "database": request.target,
            "rows": rows,
            "tables": facts.table_count,
            "plain_bytes": facts.plain_bytes,
            "kept_as": aside if live else "",
            "kept_bytes": live.size_bytes if live else 0,
            "safety_backup": safety,
            "roles_created": made_roles,
        }
        return Outcome("Restauration terminee", fields)

    def _prove(self, run: Run, source: Source) -> DumpFacts:
        with run.progress("prove", source.stored_bytes) as progress:
            facts = prove(source.open, source.manifest, name=source.name, cancel=run.cancel, progress=progress)
        if facts.meta_commands:
            raise NotProvenError(
                f"{source.name} holds a command for psql itself ({facts.meta_commands[0]}): no pg_dump wrote it",
                remedy="do not restore it; find out who made this file",
            )
        return facts

    def _make_roles(self, databases: Databases, server: Server, source: Source) -> list[str]:
        if not self.request.with_globals:
            return []
        return roles.create_missing(databases, globals_of(source), server.roles)

    def _properties(
        self, runner: Runner, connection: Connection, server: Server, source: Source
    ) -> DatabaseProperties | None:
        """What the new database is to be like: as the manifest says, else as the live one is."""
        if source.manifest is not None:
            return properties_from_json(source.manifest.properties)
        if self.request.replace and self.request.target in server.databases:
            return describe(runner, connection, self.request.target)
        return None

    def _load(
        self, run: Run, runner: Runner, connection: Connection, database: str, source: Source, server: Server
    ) -> None:
        """Feed the proven dump to psql, and demand that psql got to its end. Raises HubbackupError's kinds."""
        expected = Expected.of(source.manifest) if source.manifest is not None else None
        dialect = Dialect(psql=psql_version(runner), server_major=server.major)
        nonce = f"hubbackup-{secrets.token_hex(16)}"
        with runner.start(psql_argv(), connection.env(database), stdin=True) as process:
            answers = _Answers(process)
            answers.start()
            broken: StreamError | None = None
            try:
                with source.open() as stream, run.progress("load", source.stored_bytes) as progress:
                    chunks = proven_chunks(stream, expected, name=source.name, cancel=run.cancel, progress=progress)
                    for chunk in dialect.adapt(chunks):
                        process.write(chunk)
                process.write(f"\nSELECT '{nonce}';\n".encode())
                process.close_stdin()
            except StreamError as error:
                broken = error  # psql ended early: what it said of the reason is better than this
            text = answers.text(run.cancel)
            end = process.wait()
        if end.code != 0:
            raise _load_error(explain(tool_error("psql", end), connection, database), source)
        if broken is not None or nonce not in text.splitlines():
            raise NotProvenError(
                f"psql ended without an error before it had read all of {source.name}",
                remedy="nothing was changed; look into the database's log, and try again",
            )

    def _remove_leftovers(self, run: Run, databases: Databases) -> None:
        """Databases that an earlier, killed restore of this target left half-filled."""
        server = databases.look()
        for name in server.databases:
            if derived_time(name, self.request.target, "restore"):
                databases.drop(name)
                run.log.warning("restore.leftover", message=f"Reste supprime: {name}", database=name)
        roles.remove_stand_ins(databases)

    def _give_up(self, runner: Runner, connection: Connection, fresh: str, safety: str) -> None:
        """Remove the half-filled database; what can't be removed now, the next restore removes."""
        with contextlib.suppress(HubbackupError):
            Databases(runner.detached(), connection, self.request.target).drop(fresh)


class _Answers(threading.Thread):
    """Reads psql's stdout while the dump is being written: neither side may block the other."""

    def __init__(self, process: Process) -> None:
        super().__init__(name="psql-answers", daemon=True)
        self._process = process
        self._tail = bytearray()
        self._error: HubbackupError | None = None

    def run(self) -> None:
        try:
            for chunk in self._process.chunks():
                self._tail += chunk
                del self._tail[:-ANSWER_BYTES]
        except HubbackupError as error:
            self._error = error

    def text(self, cancel: Cancel) -> str:
        """The last 64 KiB, once stdout ended. Raises what broke the stream."""
        while self.is_alive():
            self.join(0.2)
            cancel.check()
        if self._error is not None:
            raise self._error
        return self._tail.decode("utf-8", "replace")


def compare(databases: Databases, database: str, facts: DumpFacts) -> None:
    """Raises NotProvenError where `database` does not hold exactly the rows that the dump held."""
    counts = databases.count_rows(database, facts.rows)
    for table, wanted in facts.rows.items():
        found, of_extension = counts[table]
        # An extension fills its own tables first, the dump adds to them.
        if found != wanted and not (of_extension and found >= wanted):
            raise NotProvenError(f"{table} has {found} rows after the restore, the dump held {wanted}")
    large_objects = databases.count_large_objects(database)
    if large_objects != facts.large_objects:
        raise NotProvenError(
            f"there are {large_objects} large objects after the restore, the dump held {facts.large_objects}"
        )


def undo(run: Run, databases: Databases, target: str, now: datetime) -> Outcome:
    """Swap back what the last restore put aside; what is live now is put aside in its turn.

    Raises UsageError where nothing was put aside.
    """
    with run.stage("find"):
        kept = list(kept_aside(databases.look(), target))
        if not kept:
            raise UsageError(f"no restore of {target} can be undone: no database {target}_before_… is there")
        newest = kept[-1]
    aside = derived_name(target, "before", now)
    with run.stage("swap"):
        databases.swap(live=target, aside=aside, new=newest, cancel=run.cancel)
    return Outcome("Restauration annulee", {"database": target, "restored": newest, "kept_as": aside})


def kept_aside(server: Server, target: str) -> Iterator[str]:
    """The databases that restores of `target` put aside, oldest first."""
    times = {name: derived_time(name, target, "before") for name in server.databases}
    yield from sorted((name for name, time in times.items() if time), key=lambda name: times[name])


def _load_error(error: ToolError, source: Source) -> HubbackupError:
    return HubbackupError(
        f"{source.name} could not be loaded: {error}",
        remedy=error.remedy or "nothing was changed; mend what the message names, and try again",
    )
