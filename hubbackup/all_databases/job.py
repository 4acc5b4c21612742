"""The restore of every database that the stores hold, one after the other, onto an empty server.

Each is restored as `restore` does it: proven, loaded beside, compared, swapped in. A failure of one stops none of the
others. One that a restore of ours has made here already stays as it is, so that a second call goes on where the first
one was stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from shlex import quote
from typing import ClassVar
from zoneinfo import ZoneInfo

from hubbackup.all_databases.finding import chosen, content_of, opened_by
from hubbackup.all_databases.plan import Planned, ServerPlan, check_room, made_plan
from hubbackup.catalog.listing import scan_each
from hubbackup.catalog.restored import Restored
from hubbackup.catalog.target import Target
from hubbackup.errors import (
    EXIT_FAILED,
    HubbackupError,
    NotProvenError,
    StoppedError,
    StoreError,
)
from hubbackup.jobs.kinds import RunKind
from hubbackup.jobs.progress import ProgressMaker
from hubbackup.jobs.results import DatabaseEnding, RestoreResult, ServerRestoreResult
from hubbackup.jobs.run import Outcome, Run
from hubbackup.postgres.databases import Databases
from hubbackup.postgres.session import Connection
from hubbackup.restore.job import Preview, RestoreJob
from hubbackup.restore.preflight import Request, check_server, free_on_server
from hubbackup.restore.roles import create_missing
from hubbackup.runners import Runner
from hubbackup.shown_text import printable
from hubbackup.streams.age_keys import Identities
from hubbackup.streams.cancel import Cancel
from hubbackup.units import listed
from hubbackup.verify.choice import tell_unreadable
from hubbackup.verify.source import Source, taken

REMEDY = "what is restored stays; mend the cause, and the same command goes on with the others"


class NotAllRestoredError(HubbackupError):
    """Some of the databases are not there; `result` says what became of each."""

    def __init__(self, message: str, result: ServerRestoreResult, *, remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.result = result
        self.exit_code = EXIT_FAILED


@dataclass(frozen=True)
class Shown:
    """What the operator sees, and is asked. `confirm` raises UsageError where they do not agree."""

    confirm: Callable[[ServerPlan], None]
    begun: Callable[[Planned, Preview], None]
    ended: Callable[[DatabaseEnding], None]


@dataclass(frozen=True)
class AllDatabasesJob:
    """All that it needs, put together by `app`. `request` is what is asked of each restore, but for its target."""

    request: Request
    targets: Sequence[Target]
    zone: ZoneInfo
    scratch: Path
    identities: Identities
    open_runner: Callable[[Cancel], Runner]
    connection: Callable[[str], Connection]
    restored: Restored
    shown: Shown
    foreign: bool = False
    """Take foreign backups of databases that have none of ours."""
    kind: ClassVar[RunKind] = "restore"
    needs_lock: ClassVar[bool] = True

    def __call__(self, run: Run) -> Outcome[ServerRestoreResult]:
        """Restore them. Raises NotAllRestoredError where one is not there at the end; other kinds of HubbackupError
        before anything is done, and StoppedError."""
        with run.stage("find"):
            plan = self._plan(run)
        if plan.restored:
            with run.stage("ask"):
                self.shown.confirm(plan)
        started = time.monotonic()
        made = self._make_roles(run, plan)
        endings = [one.ending() for one in plan.others]
        for ending in endings:
            self._tell(run, ending)
        endings = [*self._restore_each(run, plan), *endings]
        return _outcome(endings, plan, made, round(time.monotonic() - started, 3))

    def _plan(self, run: Run) -> ServerPlan:
        """What is to be done. Raises HubbackupError where nothing can be, or where something must be decided."""
        found = scan_each(self.targets).or_raise()
        tell_unreadable(run, found.failed)
        choices = chosen(run, found.listed, found.stores, self.zone, foreign=self.foreign)
        opened = opened_by(self.identities, choices)
        runner, connection = self.open_runner(run.cancel), self.connection(run.run_id)
        databases = Databases(runner, connection, opened[0].database)
        server = databases.look()
        check_server(server, connection.user)
        here = [one.database for one in opened if one.database in server.databases]
        occupied = {name: said for name in here if (said := content_of(databases, name))}
        plan = made_plan(opened, server, self.request, occupied, self.restored, connection.user)
        check_room(plan, free_on_server(runner, connection, server), force=self.request.force)
        return replace(plan, not_listed=tuple(target.name for target, _ in found.failed))

    def _make_roles(self, run: Run, plan: ServerPlan) -> tuple[str, ...]:
        """`--globals`: the roles of the newest backup, all or none. Raises HubbackupError.

        In the database that orders go out from, and not in a restored one: the server keeps a name as bytes of the
        encoding of the session that wrote it, and pg_dumpall has read them from such a database, too.
        """
        if not (self.request.with_globals and plan.restored and plan.roles.made):
            return ()
        with run.stage("roles"):
            first = plan.restored[0].database
            databases = Databases(self.open_runner(run.cancel), self.connection(run.run_id), first)
            for remark in create_missing(databases, databases.home(), plan.roles, plan.server.major):
                run.log.warning("restore.remark", message=remark)
        return plan.roles.made

    def _restore_each(self, run: Run, plan: ServerPlan) -> Iterator[DatabaseEnding]:
        """One after the other, whatever became of those before. Raises StoppedError."""
        gone: HubbackupError | None = None
        for number, planned in enumerate(plan.restored, 1):
            own = replace(
                run,
                log=run.log.bind(database=planned.database),
                progress=_numbered(run.progress, f"{number}/{len(plan.restored)}"),
            )
            request = replace(
                self.request,
                target=planned.database,
                with_globals=self.request.with_globals and bool(planned.globals_sql),
                needed_roles_only=True,
            )
            target = planned.choice.targets[0]
            started = time.monotonic()
            try:
                if gone is not None:
                    raise gone
                target, result = self._restore(own, planned, request)
            except StoppedError:
                raise
            except HubbackupError as error:
                gone = gone or self._gone(run, planned.database)
                ending = DatabaseEnding(
                    planned.database,
                    "failed",
                    planned.name,
                    target.name,
                    seconds=round(time.monotonic() - started, 3),
                    cause=str(error),
                    remedy=error.remedy,
                )
            else:
                ending = _restored(result, target, time.monotonic() - started)
            self._tell(own, ending)
            yield ending

    def _restore(self, run: Run, planned: Planned, request: Request) -> tuple[Target, RestoreResult]:
        """From the first copy that is whole. Raises HubbackupError."""
        begun = False

        def confirm(preview: Preview) -> None:
            nonlocal begun
            begun = True
            self._check_untouched(run, planned)
            self.shown.begun(planned, preview)

        for target in planned.choice.targets:
            job = RestoreJob(
                request=request,
                find_source=partial(self._source, planned, target),
                open_runner=self.open_runner,
                connection=self.connection,
                confirm=confirm,
                restored=self.restored,
            )
            try:
                return target, job(run).result
            except (NotProvenError, StoreError) as error:
                if begun or target is planned.choice.targets[-1]:
                    raise
                message = f"the copy in {target.name} is of no use, the next one is taken: {error}"
                run.log.warning("restore.next_copy", message=message, name=planned.name, store=target.name)
        raise AssertionError("a choice has a target")

    @contextmanager
    def _source(self, planned: Planned, target: Target, run: Run) -> Iterator[Source]:
        assert planned.choice.backup is not None  # noqa: S101 - it is to be restored
        with taken(
            run,
            planned.choice.backup,
            target,
            scratch=self.scratch,
            foreign=planned.choice.foreign,
            identities=self.identities,
        ) as source:
            yield source.opened_by(self.identities)

    def _check_untouched(self, run: Run, planned: Planned) -> None:
        """Raises HubbackupError where somebody has filled the database since the question."""
        databases = Databases(self.open_runner(run.cancel), self.connection(run.run_id), planned.database)
        if planned.database in databases.look().databases and (said := content_of(databases, planned.database)):
            raise HubbackupError(
                f"the database {planned.database} {said} by now, and was empty when this restore began",
                remedy=f"to replace it all the same: hubbackup restore --latest --database {quote(planned.database)}",
            )

    def _gone(self, run: Run, database: str) -> HubbackupError | None:
        """Why there is no server any more; None where there is one."""
        try:
            Databases(self.open_runner(run.cancel), self.connection(run.run_id), database).look()
        except StoppedError:
            return None  # the next one is stopped as well
        except HubbackupError as error:
            return HubbackupError(f"not tried, the server does not answer: {error}", remedy=error.remedy)
        return None

    def _tell(self, run: Run, ending: DatabaseEnding) -> None:
        """Log and show what became of one database."""
        name = printable(ending.database)
        facts = {key: value for key, value in ending.facts().items() if value}
        if ending.is_there:
            words = "is restored" if ending.ending == "restored" else "is there already, restored before"
            run.log.info("restore.database", message=f"{name} {words}", **facts)
        else:
            run.log.error("restore.left", message=f"{name} is not restored: {ending.cause}", **facts)
        self.shown.ended(ending)


def _numbered(make: ProgressMaker, position: str) -> ProgressMaker:
    """Progress that says which of them it is."""
    return lambda what, total_bytes: make(f"{position} {what}", total_bytes)


def _restored(result: RestoreResult, target: Target, seconds: float) -> DatabaseEnding:
    return DatabaseEnding(
        result.database,
        "restored",
        result.name,
        target.name,
        rows=result.rows,
        tables=result.tables,
        seconds=round(seconds, 3),
        kept_as=result.kept_as,
        left_out=result.left_out,
        roles_created=result.roles_created,
        remarks=result.remarks,
    )


def _outcome(
    endings: Sequence[DatabaseEnding], plan: ServerPlan, made: Sequence[str], seconds: float
) -> Outcome[ServerRestoreResult]:
    """How the whole ended: as its worst. Raises NotAllRestoredError."""
    result = ServerRestoreResult(
        tuple(endings),
        restored=sum(one.ending == "restored" for one in endings),
        rows=sum(one.rows for one in endings),
        tables=sum(one.tables for one in endings),
        roles_created=tuple(dict.fromkeys([*made, *(role for one in endings for role in one.roles_created)])),
    )
    if failed := [one for one in endings if not one.is_there]:
        causes = "; ".join(f"{printable(one.database)}: {one.cause}" for one in failed)
        are = "is" if len(failed) == 1 else "are"
        raise NotAllRestoredError(
            f"{len(failed)} of {len(endings)} databases {are} not restored: {causes}", result, remedy=REMEDY
        )
    problems = (
        (f"what is only in {listed(plan.not_listed)} is not here: the store could not be listed",)
        if plan.not_listed
        else ()
    )
    return Outcome(f"{len(endings)} databases are restored", result, problems, seconds)
