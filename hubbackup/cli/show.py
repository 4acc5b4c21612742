"""`hubbackup show`."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from hubbackup.app import App
from hubbackup.catalog.backup import Manifest
from hubbackup.catalog.diff import Content, State, TableChange, content_of, diff, title
from hubbackup.catalog.left_out import LeftOut
from hubbackup.cli.columns import Column
from hubbackup.cli.options import Database, Identity, Json, OptionalName, Store
from hubbackup.cli.output import print_columns, print_json, print_json_with_items, print_text, say
from hubbackup.cli.session import make_opening_app
from hubbackup.cli.terminal import print_warnings, progress
from hubbackup.contents.overview import Overview, last_before, newest_name, overview
from hubbackup.contents.stored import StoredBackup
from hubbackup.contents.tables import Table, Tables
from hubbackup.dump.identifiers import plain_name
from hubbackup.dump.table_ddl import TableDdl, table_ddl
from hubbackup.errors import EXIT_SUCCESS, UsageError
from hubbackup.units import human_age, human_bytes

DEFAULTS = (b"SET default_tablespace = '';", b"SET default_table_access_method = heap;")
"""Not worth a line to people."""
COLUMNS = (
    Column("TABLE"),
    Column("ROWS"),
    Column("BYTES", leaves=2),
    Column("SHARE", leaves=1),
    Column("CHANGE"),
)


def show(
    name: OptionalName = "",
    table: Annotated[
        str, typer.Option("--table", metavar="TABLE", help="Show this table: its columns, its DDL.")
    ] = "",
    schema: Annotated[bool, typer.Option("--schema", help="Print the whole schema, as SQL.")] = False,
    store: Store = "all",
    database: Database = "",
    identity: Identity = None,
    json: Json = False,
) -> int:
    """Show what is in a backup, without restoring it.

    Its versions and size, and each table with its rows, bytes, share of the dump, and what changed since the backup
    before it.
    """
    if table and schema:
        raise UsageError("--table shows the DDL of one table, --schema that of all: take one of them")
    if schema and json:
        raise UsageError("--schema prints SQL: it can't go with --json")
    if name and database:
        raise UsageError("a NAME says of which database it is: --database goes without one")
    app = make_opening_app(identity)
    targets = app.targets(store)
    newest = "" if name else newest_name(targets, app.zone, database or app.database)
    stored = app.contents.stored(name or newest, store, foreign=True)
    print_warnings(stored.remarks)
    if schema:
        return _print_schema(app, stored)
    earlier = last_before(targets, app.zone, stored)
    if table:
        stored.demand(table)
        _show_table(app, stored, earlier, table, json=json)
        return EXIT_SUCCESS
    found = overview(stored, app.contents.known(stored, progress(quiet=json)), earlier)
    if json:
        print_json_with_items(_facts(found), "tables", (_table_facts(found, one) for one in _listed(found)))
    else:
        _print(found)
    return EXIT_SUCCESS


def _tables(app: App, stored: StoredBackup, *, quiet: bool) -> Tables:
    return Tables(app.contents.parts(stored, progress(quiet=quiet)))


def _print_schema(app: App, stored: StoredBackup) -> int:
    tables = _tables(app, stored, quiet=False)
    for statement in itertools.chain(tables.pre_data, tables.post_data()):
        print_text(f"{_text(tables, statement)}\n\n")
    return EXIT_SUCCESS


def _text(tables: Tables, raw: bytes) -> str:
    return plain_name(raw, tables.encoding, unquoted=False)


def _listed(found: Overview) -> list[TableChange]:
    """The largest first; those that are gone last."""
    changes = found.diff.tables if found.diff is not None else ()
    by_name = {change.table: change for change in changes}
    content = found.content.tables
    names = sorted(content, key=lambda name: (-(content[name].size_bytes or 0), -content[name].rows, name))
    here = [by_name.get(name) or TableChange(name, None, content[name].rows, State.NEW) for name in names]
    return here + [change for change in changes if change.after is None]


def _share(found: Overview, size_bytes: int | None) -> float | None:
    return None if size_bytes is None else round(size_bytes / max(1, found.plain_bytes), 4)


def _facts(found: Overview) -> dict[str, Any]:
    manifest = found.stored.manifest
    return {
        "name": found.stored.name,
        "where": found.stored.where,
        "proven": manifest is not None,
        "read": found.was_read,
        "database": manifest.database if manifest else None,
        "started_at": manifest.started_at if manifest else None,
        "server_version": found.server_version,
        "pg_dump_version": found.pg_dump_version,
        "hubbackup_version": manifest.hubbackup_version if manifest else None,
        "stored_bytes": found.stored.size_bytes,
        "plain_bytes": found.plain_bytes,
        "rows": found.rows,
        "table_count": found.table_count,
        "large_objects": found.large_objects,
        "extensions": found.extensions,
        "materialized_views": manifest.materialized_views if manifest else {},
        "left_out": manifest.left_out.model_dump() if manifest and manifest.left_out else None,
        "earlier": found.earlier or None,
        "changes": found.diff.sentence() if found.diff is not None else None,
    }


def _table_facts(found: Overview, change: TableChange) -> dict[str, Any]:
    content = found.content.tables.get(change.table)
    size_bytes = content.size_bytes if content is not None else None
    return {
        "table": change.table,
        "rows": change.after,
        "bytes": size_bytes,
        "share": _share(found, size_bytes),
        "rows_before": change.before,
        "state": change.state if found.diff is not None else None,
    }


def _print(found: Overview) -> None:
    manifest = found.stored.manifest
    proof = "read through" if found.was_read else "as its manifest says"
    age = f", {human_age((datetime.now(UTC) - manifest.started_at).total_seconds())} old" if manifest else ""
    say(f"{found.stored.name} in {found.stored.where}{age}, {proof}")
    by = f", hubbackup {manifest.hubbackup_version}" if manifest else ""
    say(f"PostgreSQL {found.server_version}, pg_dump {found.pg_dump_version}{by}")
    more = [f"{found.large_objects} large objects"] * bool(found.large_objects)
    more += [f"extensions: {', '.join(found.extensions)}"] * bool(found.extensions)
    size = f"{human_bytes(found.stored.size_bytes)}, {human_bytes(found.plain_bytes)} of SQL"
    say("; ".join([f"{size}, {found.table_count} tables, {found.rows:,} rows", *more]))
    if found.diff is not None:
        say(f"Since {found.earlier}: {found.diff.sentence()}")
    if found.content.tables or found.diff is not None:
        say("")
        print_columns(COLUMNS, (_cells(found, change) for change in _listed(found)))
    if manifest and manifest.left_out:
        _print_left_out(manifest.left_out, manifest.encoding)
    if manifest and manifest.materialized_views:
        say("", "Materialized views, which a restore fills anew:")
        counts = manifest.materialized_views.items()
        say(*(f"  {view}: {'not counted' if rows is None else f'{rows:,} rows'}" for view, rows in counts))


def _print_left_out(left_out: LeftOut, encoding: str) -> None:
    patterns = f"tables {', '.join(left_out.table_patterns) or '-'}; rows {', '.join(left_out.row_patterns) or '-'}"
    say("", f"It was made without what these patterns match: {patterns}")
    say(*(f"  {title(table, encoding)}" for table in left_out.tables))
    say(*(f"  the rows of {title(table, encoding)}" for table in left_out.rows))
    say(*(f"  foreign key that may not hold: {name} of {table}" for table, name in left_out.foreign_keys))


def _cells(found: Overview, change: TableChange) -> tuple[str, ...]:
    content = found.content.tables.get(change.table)
    size_bytes = content.size_bytes if content is not None else None
    share = _share(found, size_bytes)
    return (
        title(change.table, found.content.encoding),
        f"{change.after:,}" if change.after is not None else "-",
        human_bytes(size_bytes) if size_bytes is not None else "-",
        f"{100 * share:.1f} %" if share is not None else "-",
        _change_words(change) if found.diff is not None else "",
    )


def _change_words(change: TableChange) -> str:
    if change.state is State.GONE:
        return f"gone, had {change.before:,}"
    return f"{change.more:+,}" if change.state is State.CHANGED else str(change.state)


def _show_table(app: App, stored: StoredBackup, earlier: Manifest | None, typed: str, *, json: bool) -> None:
    tables = _tables(app, stored, quiet=json)
    table = tables.find(typed)
    ddl = table_ddl(itertools.chain(tables.pre_data, tables.post_data()), table.name)
    size_bytes = sum(block.end - block.offset for block in table.blocks)
    share = size_bytes / stored.manifest.plain_bytes if stored.manifest and stored.manifest.plain_bytes else None
    index = tables.parts.index
    content = Content.of_index(index)
    changes = {one.table: one for one in diff(content_of(earlier), content).tables} if earlier is not None else {}
    change = changes.get(table.name)
    if json:
        facts = _ddl_facts(tables, table, ddl)
        before = {"earlier": earlier.name, "rows_before": change.before} if earlier is not None and change else {}
        size = {"bytes": size_bytes, "share": share and round(share, 4)}
        print_json({"name": stored.name, **facts, **size, **before})
        return
    of_dump = f", {100 * share:.1f} % of the dump" if share is not None else ""
    say(f"{table.title} in {stored.name}: {table.rows:,} rows, {human_bytes(size_bytes)}{of_dump}")
    if len(table.members) > 1:
        say(f"With its partitions: {', '.join(map(tables.title, table.members[1:]))}")
    if earlier is not None and change is not None:
        say(f"Since {earlier.name}: {_change_words(change)}")
    key = ", ".join(map(tables.title, ddl.primary_key))
    say(f"Primary key: {key}" if key else "No primary key", "")
    rows = ((tables.title(one.name), tables.title(one.type), tables.title(one.rest)) for one in ddl.columns)
    print_columns((Column("COLUMN"), Column("TYPE"), Column("", below=True)), rows)
    say("")
    print_text("".join(f"{_text(tables, piece.text)}\n\n" for piece in ddl.pieces if piece.text not in DEFAULTS))


def _ddl_facts(tables: Tables, table: Table, ddl: TableDdl) -> dict[str, Any]:
    return {
        "table": table.title,
        "rows": table.rows,
        "partitions": [tables.title(member) for member in table.members[1:]],
        "columns": [
            {"name": tables.title(one.name), "type": tables.title(one.type), "rest": tables.title(one.rest)}
            for one in ddl.columns
        ],
        "primary_key": [tables.title(column) for column in ddl.primary_key],
        "ddl": [{"kind": piece.kind, "sql": _text(tables, piece.text)} for piece in ddl.pieces],
    }
