"""The drill: a real restore by the real code, into a server that is thrown away, compared and timed.

A backup is proven by reading it; that it *restores* is proven only by restoring it. What a drill finds is what a
restore on the worst day would have found: a missing role, an extension that the image lacks, a wrong count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import ClassVar, Self

from hubbackup.catalog.target import Target
from hubbackup.dump.census import DumpFacts
from hubbackup.errors import HubbackupError, NotProvenError, StoppedError, UsageError
from hubbackup.jobs.history import RunRecord
from hubbackup.jobs.kinds import RunKind
from hubbackup.jobs.results import DrillResult, RestoreResult
from hubbackup.jobs.run import Outcome, Run
from hubbackup.postgres.databases import Databases
from hubbackup.postgres.session import Connection
from hubbackup.postgres.side_databases import derived_name, derived_time
from hubbackup.restore.job import RestoreJob
from hubbackup.restore.loading_role import LoadingRole, own_role
from hubbackup.restore.preflight import Request, globals_of
from hubbackup.runners import Runner
from hubbackup.verify.source import Source

NOTHING = ("", "0", "f", "false")
"""Answers of the operator's own checks that mean: this is not what the database should hold."""


@dataclass(frozen=True)
class DrillServer:
    """The server that a drill restores into. `keeps_roles`: the roles of the backup's server exist there already.

    `chosen`: its operator has said that it is to be used, whoever loads; else nobody loads there as a superuser.
    """

    runner: Runner
    connection: Connection
    description: str
    keeps_roles: bool
    chosen: bool = True


@dataclass(frozen=True)
class DrillJob:
    """All that a drill needs, put together by `app`."""

    database: str
    find_source: Callable[[Run], AbstractContextManager[Source]]
    store: str
    open_server: Callable[[Run], AbstractContextManager[DrillServer]]
    checks: tuple[str, ...] = ()
    jobs: int = 1
    """As `Request.jobs`."""
    passed: Callable[[Source], Sequence[str]] = lambda source: ()
    """Told of a backup that restores; returns a sentence for each thing that could not be noted."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    kind: ClassVar[RunKind] = "drill"
    needs_lock: ClassVar[bool] = True

    def __call__(self, run: Run) -> Outcome[DrillResult]:
        """Restore, compare, check, time, remove. Raises HubbackupError for what does not restore."""
        with run.stage("find"):
            found_at = time.monotonic()
            with self.find_source(run) as source:
                fetch_seconds = time.monotonic() - found_at
                with run.stage("server"), self.open_server(run) as server:
                    return self._drill(run, source, server, fetch_seconds)

    def _drill(self, run: Run, source: Source, server: DrillServer, fetch_seconds: float) -> Outcome[DrillResult]:
        target = derived_name(self.database, "drill", self.now())
        started_at = time.monotonic()
        with Place(server, target) as place:
            restored = place.restore(run, source, jobs=self.jobs)
            rto_seconds = fetch_seconds + time.monotonic() - started_at
            with run.stage("checks"):
                databases = Databases(server.runner, place.role.connection, target)
                answers = {check: self._check(databases, target, check) for check in self.checks}
        result = DrillResult(
            name=source.name,
            store=self.store,
            database=self.database,
            place=place.description,
            rto_seconds=round(rto_seconds, 1),
            load_seconds=restored.load_seconds,
            rows=restored.rows,
            tables=restored.tables,
            checks=answers,
            left_out=restored.left_out,
        )
        return Outcome("drill passed", result, (*self.passed(source), *place.problems))

    def _check(self, databases: Databases, target: str, check: str) -> str:
        """The answer of one of the operator's own queries. Raises NotProvenError where it is nothing."""
        answer = databases.sql(check.rstrip().rstrip(";") + ";", target, own_settings=True).strip()
        if answer.lower() in NOTHING:
            raise NotProvenError(
                f"the check {check!r} answers {answer or 'nothing'!r} on the restored database",
                remedy="look into the backup (hubbackup restore NAME --into a_new_database), or mend DRILL_SQL",
            )
        return answer


class Place:
    """Where a drill restores: who loads is chosen once the dump is known, and inside. At the end all of it goes.

    In a server that is thrown away there is nothing to choose, and nothing to remove.
    """

    def __init__(self, server: DrillServer, target: str) -> None:
        self._server = server
        self._target = target
        self._databases = Databases(server.runner, server.connection, target)
        self._ends = ExitStack()
        self.role = LoadingRole(server.connection)
        self.problems: list[str] = []
        """A sentence for what could not be removed."""

    def __enter__(self) -> Self:
        if self._server.keeps_roles:
            self._ends.enter_context(self._databases.claim(self._target))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.close()

    def restore(self, run: Run, source: Source, *, schema_only: bool = False, jobs: int = 1) -> RestoreResult:
        """The backup, or its schema alone: of that no role is demanded. Raises HubbackupError."""
        job = RestoreJob(
            request=Request(
                self._target,
                replace=False,
                with_globals=bool(globals_of(source)) and not self._server.keeps_roles,
                no_owner=schema_only,
                schema_only=schema_only,
                jobs=jobs,
            ),
            find_source=lambda run: nullcontext(source),
            open_runner=lambda cancel: self._server.runner,
            connection=lambda run_id: self._server.connection,
            confirm=lambda preview: None,
            choose_role=self.choose_role if self._server.keeps_roles else None,
        )
        try:
            return job(run).result
        except UsageError as error:
            # What an operator could decide otherwise in a restore is a failure of a drill: nobody is there at 3 a.m.
            raise HubbackupError(str(error), remedy=error.remedy) from error

    def choose_role(self, facts: DumpFacts) -> LoadingRole:
        """Who loads this dump where roles stay, and asks the operator's own queries of what was loaded."""
        runner, connection = self._server.runner, self._server.connection
        own = own_role(runner, connection, self._databases, facts)
        self.role = self._ends.enter_context(own)
        self._ends.callback(self._remove)  # before its role goes
        if not self._server.chosen and not self.role.without_owners and self._databases.look().rights.superuser:
            raise HubbackupError(
                f"nobody but the superuser {connection.user} can load it into the live server: {self.role.why}",
                remedy="DRILL_TARGET=database allows that; BACKUP_SOURCE=docker has a throwaway server",
            )
        return self.role

    @property
    def description(self) -> str:
        """For people: where it was, and, in the live server, by whom."""
        if not self._server.keeps_roles:
            return self._server.description
        by = f"{self.role.connection.user}, {self.role.why}" if self.role.why else "a role of its own"
        return f"{self._server.description}, loaded by {by}"

    def _remove(self) -> None:
        try:
            for name in self._databases.last.look().databases:
                if name == self._target or derived_time(name, self._target, "restore"):
                    self._databases.last.discard(name)
        except StoppedError:
            raise
        except HubbackupError as error:
            self.problems.append(f"what it made in the live server stays until the next drill: {error}")


def whose_turn(targets: Sequence[Target], records: Iterable[RunRecord]) -> Target:
    """The target that the next drill reads: the remote ones first, then the local one, and round again.

    A drill that failed has had its turn, though its record names no store. A target whose copies are all archived
    has none.
    """
    readable = [target for target in targets if not target.frozen]
    order = sorted(readable or targets, key=lambda target: not target.remote)
    names = [target.name for target in order]
    turn = 0
    for record in records:
        if record.kind == "drill":
            store = record.store or names[turn]
            turn = (names.index(store) + 1) % len(names) if store in names else 0
    return order[turn]


def next_database(databases: Sequence[str], records: Iterable[RunRecord]) -> str:
    """The database that the next drill is of: one that never had one, or else the one that waits longest."""
    last = {record.database: record.started_at for record in records if record.kind == "drill"}
    return min(databases, key=lambda name: (name in last, last.get(name), name))
