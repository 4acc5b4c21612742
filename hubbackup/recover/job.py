"""Recover: the rows of one table in a backup beside the live ones, and what is missing or changed brought back.

All of it is one transaction of one session: the backup's rows go into a temporary table, are compared by key, and
what is written is written with exactly the counts that were shown, or not at all. Nothing is ever deleted.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from hubbackup.dump.identifiers import literal
from hubbackup.errors import HubbackupError, NotProvenError, RunnerError, ToolError, UsageError
from hubbackup.jobs.kinds import RunKind
from hubbackup.jobs.results import RecoverResult
from hubbackup.jobs.run import Outcome, Run
from hubbackup.postgres import live_table, session
from hubbackup.postgres.conversation import Conversation, converse
from hubbackup.postgres.live_table import LiveTable
from hubbackup.postgres.session import Connection
from hubbackup.recover import condition as where
from hubbackup.recover import errors as refusals
from hubbackup.recover.row_report import Apply, RowReport, backup_notes, choose_key, column_notes, differences
from hubbackup.recover.sql import Comparison
from hubbackup.recover.table_rows import StoredTable, find_rows
from hubbackup.runners import Runner
from hubbackup.streams.cancel import Cancel
from hubbackup.verify.source import Source

MOST_COLUMNS = 800
"""Two rows side by side may have 1664 for the server."""
PINNED = "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);"
AS_ANY_INSERT = """\
SELECT pg_catalog.set_config('session_replication_role', 'origin', true)
WHERE pg_catalog.current_setting('session_replication_role') OPERATOR(pg_catalog.<>) 'origin';
SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('hubbackup.path'), true);
"""
"""The table's triggers fire, its foreign keys are checked, and both find the names that they find for everybody."""
DURABLE = """\
SELECT set_config('synchronous_commit', 'local', true) WHERE current_setting('synchronous_commit') = 'off';
"""


@dataclass(frozen=True)
class RecoverRequest:
    """What is asked for: a table, as typed; SQL for the rows meant; the columns of a key; what is to be done."""

    table: str
    condition: str = ""
    key: str = ""
    apply: Apply = ""


@dataclass(frozen=True)
class RecoverJob:
    """All that a recovery needs, put together by `app`."""

    request: RecoverRequest
    database: str
    find_source: Callable[[Run], contextlib.AbstractContextManager[Source]]
    open_runner: Callable[[Cancel], Runner]
    connection: Callable[[str], Connection]
    confirm: Callable[[RowReport], None]
    """Shown what was found; where something is to be done, raises UsageError if the operator does not agree."""
    kind: ClassVar[RunKind] = "recover"
    needs_lock: ClassVar[bool] = True

    def __call__(self, run: Run) -> Outcome[RecoverResult]:
        """Compare, and do what was asked. Raises HubbackupError; then the live table is as it was."""
        started = time.monotonic()
        with run.stage("find"), self.find_source(run) as source:
            with run.stage("prove"):
                stored = find_rows(run, source, self.request.table)
            runner, connection = self.open_runner(run.cancel), self.connection(run.run_id)
            with converse(runner, connection, self.database) as talk:
                work = _Work(run, self.request, talk, stored)
                with run.stage("look"):
                    table = work.look()
                with run.stage("load"):
                    comparison = work.load(table, connection.load_path)
                with run.stage("compare"):
                    report = work.compare(comparison, source, self.database)
                asked = time.monotonic()
                self.confirm(report)
                started += time.monotonic() - asked
                advanced: list[str] = []
                remarks = list(report.notes)
                if report.to_insert or report.to_update:
                    with run.stage("apply"):
                        advanced, said = work.apply(comparison, report)
                        remarks += said
                    with run.stage("commit"):
                        self._commit(talk, runner, connection)
        for remark in remarks:
            run.log.warning("recover.remark", message=remark)
        return Outcome(
            "recover finished",
            _result(report, advanced, remarks),
            seconds=round(time.monotonic() - started, 3),
        )

    def _commit(self, talk: Conversation, runner: Runner, connection: Connection) -> None:
        """Where the answer to it is lost, the server knows whether it was done. Raises HubbackupError where not."""
        number = int(talk.ask("SELECT txid_current()"))
        try:
            talk.say(f"{DURABLE}COMMIT;")
        except (RunnerError, NotProvenError) as error:
            if isinstance(error, ToolError) and error.exit_code_of_tool != session.NOT_CONNECTED:
                raise refusals.of_apply(error, self.request.table) from error
            answer = session.sql(runner.detached(), connection, self.database, f"SELECT txid_status({number});")
            if answer.strip() != "committed":
                raise


def _result(report: RowReport, advanced: list[str], remarks: list[str]) -> RecoverResult:
    return RecoverResult(
        name=report.backup,
        database=report.database,
        table=report.table,
        rows=report.rows,
        chosen=report.chosen,
        missing=report.missing,
        different=report.different,
        only_live=report.only_live,
        inserted=report.to_insert,
        updated=report.to_update,
        advanced=tuple(advanced),
        remarks=tuple(remarks),
    )


@dataclass(frozen=True)
class _Work:
    """The steps, each a part of the one conversation."""

    run: Run
    request: RecoverRequest
    talk: Conversation
    stored: StoredTable

    def look(self) -> LiveTable:
        """The live table. Raises UsageError where there is none whose rows could be compared."""
        stored = self.stored
        answer = self.talk.ask(live_table.query(stored.schema, stored.table))
        if not answer:
            raise UsageError(
                f"the live database has no table {stored.name}",
                remedy=f"bring it back beside the live one: hubbackup restore … --into NEW --table {stored.name}",
            )
        table = live_table.from_answer(stored.schema, stored.table, answer)
        if table.kind not in ("table", "partitioned table"):
            raise UsageError(f"in the live database {stored.name} is a {table.kind}: its rows are not its own")
        if table.in_recovery:
            raise HubbackupError("the server only lets read: it is a standby", remedy="use the primary server")
        if not table.may_make_temporary:
            raise HubbackupError(
                "the role may not make temporary tables in this database, and the rows are compared in one",
                remedy="as a superuser: GRANT TEMPORARY ON DATABASE … TO the role; or use a superuser",
            )
        return table

    def load(self, table: LiveTable, load_path: str) -> Comparison:
        """The backup's rows in a temporary table, each of them."""
        stored, talk = self.stored, self.talk
        comparison: Comparison | None = None
        with refused(lambda error: refusals.of_load(error, stored.name)):
            for columns, rows in stored.each():
                if comparison is None:
                    comparison = self._begin(table, columns, load_path)
                talk.copy(comparison.copy(columns, stored.encoding or "UTF8"), rows)
            if comparison is None:  # a partitioned table without partitions
                comparison = self._begin(table, tuple(column.name for column in table.columns), "")
            talk.say(f"{PINNED}\n{comparison.analyze()}")
            found = int(talk.ask(comparison.row_count()))
        if found != stored.rows:
            raise NotProvenError(f"the server took {found} rows of {stored.name}, the backup holds {stored.rows}")
        return comparison

    def _begin(self, table: LiveTable, columns: tuple[str, ...], load_path: str) -> Comparison:
        if len(columns) > MOST_COLUMNS:
            raise UsageError(
                f"{self.stored.name} has {len(columns)} columns, {MOST_COLUMNS} can be compared",
                remedy=f"beside the live one: hubbackup restore … --into NEW --table {self.stored.name}",
            )
        key = choose_key(table, columns, self.request.key)
        comparison = Comparison(table, columns, secrets.token_hex(4), key, self.request.condition)
        path = f"SELECT pg_catalog.set_config('search_path', {literal(load_path)}, true);" if load_path else ""
        self.talk.say(f"{comparison.create()}\n{path}")
        return comparison

    def compare(self, comparison: Comparison, source: Source, database: str) -> RowReport:
        """What is missing, different, and only in live. Raises UsageError for a key or a condition that is none."""
        talk, request = self.talk, self.request
        with refused(lambda error: refusals.of_key(error, request.key)):
            self._check_key(comparison)
        with refused(lambda error: refusals.of_condition(error, request.condition)):
            if request.condition:
                talk.say(where.validation(*comparison.conditioned()))
            talk.ask(comparison.compare())
            talk.say(comparison.analyze(found=True))
            rows, chosen, missing, different, only_live = json.loads(talk.ask(comparison.counts()))
            only_live_sample = json.loads(talk.ask(comparison.only_live_sample())) if only_live else []
            counts = json.loads(talk.ask(comparison.differences())) if different else []
        return RowReport(
            backup=source.name,
            taken_at=source.started_at,
            database=database,
            table=self.stored.name,
            key=comparison.key_names,
            key_title=comparison.key.title,
            apply=request.apply,
            rows=rows,
            chosen=chosen,
            missing=missing,
            different=different,
            only_live=only_live,
            differing={name: count for name, count in zip(comparison.compared, counts, strict=False) if count},
            shown=comparison.shown,
            missing_sample=tuple(map(tuple, json.loads(talk.ask(comparison.missing_sample())))) if missing else (),
            different_sample=differences(talk.ask(comparison.different_sample()), comparison) if different else (),
            only_live_sample=tuple(map(tuple, only_live_sample)),
            notes=(*backup_notes(source), *column_notes(comparison)),
        )

    def _check_key(self, comparison: Comparison) -> None:
        """Raises UsageError where several rows have one key, or a key that was typed has a NULL."""
        sure = comparison.key.is_sure
        for live in (False,) if sure else (False, True):
            several, nulls = json.loads(self.talk.ask(comparison.repeated(live=live)))
            where_ = "the live table" if live else "the backup"
            columns = ", ".join(comparison.key_names)
            if several or (nulls and not sure):
                what = f"{several} keys stand in several rows" if several else f"{nulls} rows have a NULL in it"
                raise UsageError(
                    f"{comparison.key.title} ({columns}) does not tell the rows of {where_} apart: {what}",
                    remedy="name other columns, or more of them: --key COLUMNS",
                )

    def apply(self, comparison: Comparison, report: RowReport) -> tuple[list[str], list[str]]:
        """Write what was promised; returns the sequences that were advanced, and remarks. Raises HubbackupError."""
        talk, table = self.talk, self.stored.name
        changed = report.apply == "changed"
        with refused(lambda error: refusals.of_apply(error, table)):
            talk.say(AS_ANY_INSERT)
            updated, inserted = map(
                int, talk.ask(comparison.apply(list(report.differing), changed=changed)).split("|")
            )
            if (inserted, updated) != (report.to_insert, report.to_update):
                raise refusals.changed_meanwhile(
                    table,
                    f", or its triggers and rules kept some out: {inserted} of {report.to_insert} would have been"
                    f" inserted, {updated} of {report.to_update} set back",
                )
            talk.say(f"SET CONSTRAINTS ALL IMMEDIATE;\n{PINNED}")
            remarks = []
            if unlike := int(talk.ask(comparison.unlike(changed=changed))):
                remarks.append(f"{unlike} rows are not as the backup has them: triggers of the table changed them")
            advanced = []
            for sequence in comparison.table.sequences:
                if sequence.column not in comparison.inserted:
                    continue
                if not sequence.may_set:
                    remarks.append(f"the sequence {sequence.name} can't be looked at: as its owner, set it by setval")
                elif value := talk.ask(comparison.advance(sequence, changed=changed)):
                    advanced.append(f"{sequence.name}: {value}")
        return advanced, remarks


@contextmanager
def refused(meaning: Callable[[ToolError], HubbackupError]) -> Iterator[None]:
    """Say what the server's refusal means inside."""
    try:
        yield
    except ToolError as error:
        raise meaning(error) from error
