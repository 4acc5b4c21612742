"""`hubbackup diff`."""

from __future__ import annotations

import json as json_format
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from hubbackup.app import App
from hubbackup.catalog import diff as tables_diff
from hubbackup.catalog.diff import Content, Diff, State, TableChange
from hubbackup.cli.columns import Column
from hubbackup.cli.options import Identity, Json, Store
from hubbackup.cli.output import print_columns, print_json_with_items, say
from hubbackup.cli.session import make_opening_app
from hubbackup.cli.terminal import print_warnings, progress
from hubbackup.contents.comparison import Comparison, compare, order
from hubbackup.contents.live import LIVE, LiveDatabase
from hubbackup.contents.overview import newest_name
from hubbackup.contents.row_comparison import Difference, room_in
from hubbackup.contents.stored import StoredBackup
from hubbackup.contents.table_rows import StoredRows, TableRows
from hubbackup.contents.tables import Tables
from hubbackup.errors import EXIT_SUCCESS, UsageError
from hubbackup.jobs.run import new_run_id
from hubbackup.shown_text import bounded, printable

HELD_BYTES = 4 << 20
"""Of the JSON's rows, in memory."""
SHOWN = 20
"""Rows of each kind for people, those with the smallest keys."""
VALUE_BYTES = 80
COLUMNS = (Column("TABLE"), Column("BEFORE"), Column("AFTER"), Column("CHANGE"))
SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def diff(
    earlier: Annotated[str, typer.Argument(metavar="A", help="A backup's name.")],
    later: Annotated[
        str,
        typer.Argument(
            metavar="B",
            help="Another one's, or `live`: the database as it is now. Default: the newest.",
            show_default=False,
        ),
    ] = "",
    table: Annotated[
        str, typer.Option("--table", metavar="TABLE", help="Compare the rows of this table, by its primary key.")
    ] = "",
    store: Store = "all",
    identity: Identity = None,
    json: Json = False,
) -> int:
    """Show what is different between two backups, or live.

    Tables that are new or gone, that have more rows or fewer, that are unchanged for certain, or changed or moved.
    """
    if earlier == LIVE:
        raise UsageError("live is not a backup", remedy="hubbackup diff NAME live compares it with one")
    app = make_opening_app(identity)
    sides = _Sides(app, store, app.database_of(earlier), json)
    before = sides.stored(earlier)
    after = sides.live() if later == LIVE else sides.stored(later or sides.newest())
    print_warnings([*before.remarks, *(after.remarks if isinstance(after, StoredBackup) else ())])
    if table:
        _compare_rows(app, compare(sides.rows(before, table), sides.rows(after, table)), json=json)
    else:
        _compare_tables(sides, before, after, json=json)
    return EXIT_SUCCESS


@dataclass(frozen=True)
class _Sides:
    """What can be compared."""

    app: App
    store: str
    database: str
    quiet: bool

    def newest(self) -> str:
        return newest_name(self.app.targets(self.store), self.app.zone, self.database)

    def stored(self, typed: str) -> StoredBackup:
        return self.app.contents.stored(typed, self.store, foreign=True)

    def live(self) -> LiveDatabase:
        server = self.app.server
        connection = server.connection(new_run_id(datetime.now(UTC)))
        return LiveDatabase(server.open_runner(self.app.cancel), connection, self.database)

    def content(self, side: StoredBackup) -> Content:
        return self.app.contents.known(side, progress(quiet=self.quiet))[1]

    def rows(self, side: StoredBackup | LiveDatabase, typed: str) -> TableRows:
        if isinstance(side, LiveDatabase):
            return side.rows(typed)
        side.demand(typed)
        tables = Tables(self.app.contents.parts(side, progress(quiet=self.quiet)))
        return StoredRows(side.name, tables, tables.find(typed))


def _title(side: StoredBackup | LiveDatabase) -> str:
    return side.name if isinstance(side, StoredBackup) else side.where


# -- all tables


def _compare_tables(sides: _Sides, before: StoredBackup, after: StoredBackup | LiveDatabase, *, json: bool) -> None:
    old = sides.content(before)
    new = sides.content(after) if isinstance(after, StoredBackup) else after.content(old.tables)
    found = tables_diff.diff(old, new)
    if json:
        facts = {"before": _title(before), "after": _title(after), "changes": found.sentence()}
        print_json_with_items(facts, "tables", map(_table_facts, found.tables))
        return
    say(f"From {_title(before)} to {_title(after)}: {found.sentence()}")
    if found.count(State.SAME_COUNT):
        say(_why_uncertain(old, new, after))
    _print_tables(found)


def _why_uncertain(old: Content, new: Content, after: StoredBackup | LiveDatabase) -> str:
    if isinstance(after, LiveDatabase):
        return "The live tables were counted; --table TABLE compares the rows of one."
    if old.digest_kind and new.digest_kind:
        return "The digests of the two are under different keys: only rows were counted; --table TABLE compares them."
    return "Not both have digests: rows were counted; --table TABLE compares them."


def _table_facts(change: TableChange) -> dict[str, Any]:
    return {
        "table": change.table,
        "rows_before": change.before,
        "rows_after": change.after,
        "state": change.state,
    }


def _print_tables(found: Diff) -> None:
    if not found.differing:
        return
    rows = (
        (
            tables_diff.title(change.table, found.encoding),
            "-" if change.before is None else f"{change.before:,}",
            "-" if change.after is None else f"{change.after:,}",
            f"{change.more:+,}" if change.state is State.CHANGED else str(change.state),
        )
        for change in found.differing
    )
    say("")
    print_columns(COLUMNS, rows)


# -- the rows of one table


def _compare_rows(app: App, found: Comparison, *, json: bool) -> None:
    scratch = app.state.directory
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    differences = found.differences(scratch, app.cancel.check)
    if not json:
        first = _first(differences)
        say(_sentence(found), *(f"Note: {note}" for note in found.sides.notes))
        for change, rows in first.items():
            say(*(f"{SIGNS[change]} {_line(found, one)}" for one in rows))
            if left := found.counts[change] - len(rows):
                say(f"  and {left:,} more {change}; --json has all")
        return
    with _kept(_row_facts(found, differences), scratch) as items:
        print_json_with_items(_facts(found), "differences", items)


def _facts(found: Comparison) -> dict[str, Any]:
    return {
        "table": found.after.title,
        "before": found.before.where,
        "after": found.after.where,
        "key": found.sides.key,
        "columns": found.sides.columns,
        "notes": found.sides.notes,
        "certain": found.certain,
        "rows_before": found.rows_before,
        "rows_after": found.rows_after,
        **{kind: found.counts[kind] for kind in ("added", "removed", "changed", "same")},
    }


def _first(differences: Iterable[Difference]) -> dict[str, list[Difference]]:
    """Of each kind those with the smallest values, whatever order they come in."""
    first: dict[str, list[Difference]] = {change: [] for change in SIGNS}
    for one in differences:
        rows = first[one.change]
        rows.append(one)
        if len(rows) > 5 * SHOWN:
            rows.sort(key=order)
            del rows[SHOWN:]
    return {change: sorted(rows, key=order)[:SHOWN] for change, rows in first.items()}


def _sentence(found: Comparison) -> str:
    sides = f"{found.after.title} from {found.before.where} to {found.after.where}"
    if found.certain:
        return f"{sides}: unchanged, by the digests of its rows"
    counts = found.counts
    told = ", ".join(f"{counts[kind]:,} {kind}" for kind in SIGNS)
    rows = f"{found.rows_before:,} rows before, {found.rows_after:,} after, {counts['same']:,} of them the same"
    return f"{sides}: {told} ({rows})"


def _line(found: Comparison, one: Difference) -> str:
    if one.change != "changed":
        row, side = (one.after, found.after) if one.change == "added" else (one.before, found.before)
        return _values(found.shown(row, side))
    changes = (f"{column} {_shown(old)} -> {_shown(new)}" for column, (old, new) in found.changed(one).items())
    return f"{_values(found.key_of(one))}: {', '.join(changes)}"


def _values(values: Mapping[str, str | None]) -> str:
    return ", ".join(f"{column}={_shown(value)}" for column, value in values.items())


def _shown(value: str | None) -> str:
    return "NULL" if value is None else bounded(printable(value), VALUE_BYTES)


def _row_facts(found: Comparison, differences: Iterable[Difference]) -> Iterator[dict[str, Any]]:
    for one in differences:
        before = found.shown(one.before, found.before) if one.change != "added" else None
        after = found.shown(one.after, found.after) if one.change != "removed" else None
        yield {"change": one.change, "before": before, "after": after}


@contextmanager
def _kept(items: Iterable[dict[str, Any]], scratch: Path) -> Iterator[Iterator[dict[str, Any]]]:
    """All of them, before the first is shown: in memory, or more than HELD_BYTES in a file without a name."""
    with tempfile.SpooledTemporaryFile(HELD_BYTES, "w+", dir=str(scratch), encoding="utf-8") as file:
        with room_in(scratch):
            for item in items:
                file.write(json_format.dumps(item) + "\n")
            file.seek(0)
        yield (json_format.loads(line) for line in file)
