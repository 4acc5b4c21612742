"""What this backup leaves out: the operator's patterns, as they match now, for pg_dump and for the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hubbackup.catalog.backup import printable
from hubbackup.catalog.left_out import LeftOut
from hubbackup.dump.identifiers import readable
from hubbackup.errors import SettingsError
from hubbackup.jobs.run import Run
from hubbackup.postgres.client import some
from hubbackup.postgres.excluded import Excluded, excluded
from hubbackup.postgres.session import Connection
from hubbackup.runners import Runner

SHOWN = 5


@dataclass(frozen=True)
class Patterns:
    """BACKUP_EXCLUDE_TABLES and BACKUP_EXCLUDE_TABLE_DATA: of tables, and of tables whose rows alone are meant."""

    tables: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.tables or self.rows)


NO_PATTERNS = Patterns()


@dataclass(frozen=True)
class LeavingOut:
    """`record` goes into the manifest, `options` to pg_dump. `unmatched`: the patterns that match nothing."""

    record: LeftOut | None = None
    options: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()

    def as_found(self, run: Run, rows: Mapping[str, int]) -> LeftOut | None:
        """The record, of what the dump really has no `rows` of."""
        there = self.record.names & rows.keys() if self.record is not None else frozenset()
        if self.record is None or not there:
            return self.record
        message = f"pg_dump has not left out {some(sorted(there))}, which it was to"
        run.log.warning("exclude.remark", message=message, remedy="report this to hubbackup's authors")
        tables, emptied = (
            tuple(n for n in names if n not in there) for names in (self.record.tables, self.record.rows)
        )
        return self.record.model_copy(update={"tables": tables, "rows": emptied})


def leaving_out(
    run: Run, runner: Runner, connection: Connection, database: str, encoding: str, patterns: Patterns
) -> LeavingOut:
    """Look up what the patterns match, and say it in the log. Raises SettingsError, HubbackupError."""
    if not patterns:
        return LeavingOut()
    found = excluded(runner, connection, database, encoding, patterns.tables, patterns.rows)
    # Of several databases a pattern may be meant for another one; the run says whether it is for none.
    for sentence, remedy in remarks(found, encoding, idle=not run.database):
        run.log.warning("exclude.remark", message=sentence, remedy=remedy)
    if found.tables and not found.kept:
        raise SettingsError(
            f"BACKUP_EXCLUDE_TABLES leaves out every table of {database}: nothing would be backed up",
            remedy="choose patterns that match fewer"
            + ", or leave the database out by BACKUP_DATABASES or BACKUP_EXCLUDE_DATABASES" * bool(run.database),
        )
    record = LeftOut(
        table_patterns=patterns.tables,
        row_patterns=patterns.rows,
        tables=tuple(printable(one.title) for one in found.tables),
        rows=tuple(printable(one.title) for one in found.rows),
        foreign_keys=tuple((printable(table), printable(name)) for table, name in found.foreign_keys),
    )
    if sentence := record.sentence(encoding):
        run.log.info("exclude.applied", message=f"left out of this backup: {sentence}", left_out=sentence)
    return LeavingOut(record, tuple(found.options), tuple(found.idle))


def remarks(found: Excluded, encoding: str, *, idle: bool = True) -> list[tuple[str, str]]:
    """What there is to say of patterns, for the log and for the doctor: a sentence and a remedy each.

    `idle`: also of those that match nothing here.
    """
    told = [unmatched(text) for text in found.idle if idle]
    for title, by in found.needed[:SHOWN]:
        told.append(
            (
                f"of {readable(title, encoding)} only the rows are left out: without it {by} could not be restored",
                f"leave that out too, or name {readable(title, encoding)} in BACKUP_EXCLUDE_TABLE_DATA",
            )
        )
    if (more := len(found.needed) - SHOWN) > 0:
        told.append((f"of {more} more tables only the rows are left out, since others need them", ""))
    if found.foreign_keys:
        keys = some([_key(one, encoding) for one in found.foreign_keys])
        told.append(
            (
                f"these foreign keys refer to what is left out: {keys}; a restore makes those that hold, and says"
                " which don't",
                "leave out the rows of those tables too, or take this one back in",
            )
        )
    return told


def unmatched(pattern: str, where: str = "") -> tuple[str, str]:
    """The sentence and the remedy for a pattern that matches nothing; `where`: in which databases."""
    sentence = f"the pattern {pattern} matches nothing{where}: nothing is left out by it"
    return sentence, "mend it, or take it out of the settings"


def _key(one: Sequence[str], encoding: str) -> str:
    table, name = one
    return f"{readable(name, encoding)} of {readable(table, encoding)}"
