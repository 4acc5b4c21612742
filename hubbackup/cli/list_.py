"""`hubbackup list`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from hubbackup.app import App
from hubbackup.catalog.backup import Backup
from hubbackup.catalog.listing import Listed, newest, oldest_first, read_backups, scan
from hubbackup.catalog.target import Target
from hubbackup.cli.columns import Column
from hubbackup.cli.options import Json, Store
from hubbackup.cli.output import complain, print_columns, print_json_items, say
from hubbackup.cli.session import make_app
from hubbackup.cli.terminal import print_warnings
from hubbackup.errors import EXIT_DEGRADED, EXIT_SUCCESS, StoreError
from hubbackup.stores import Entry
from hubbackup.units import human_age, human_bytes
from hubbackup.verify.copies import last_proven

SHOWN = 100
COLUMNS = (
    Column("NAME"),
    Column("DATABASE", leaves=1),
    Column("AGE"),
    Column("SIZE"),
    Column("ROWS", leaves=3),
    Column("COPIES"),
    Column("PROVEN", leaves=5),
    Column("VERIFIED", leaves=4),
    Column("DRILLED", leaves=2),
    Column("NOTE", below=True),
)


def list_(
    store: Store = "all",
    database: Annotated[str, typer.Option(metavar="DATABASE", help="Only the backups of this database.")] = "",
    limit: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help=f"Show only the N newest; 0 shows all. Default: {SHOWN}, with --json all."
        ),
    ] = None,
    json: Json = False,
) -> int:
    """List the backups, oldest first, and what is known of each.

    Shown are its age and size, the stores that hold a copy, and whether it is proven, sealed, pinned, suspicious or
    unrestorable.
    """
    app = make_app()
    targets = [_Lenient(target) for target in app.targets(store)]
    count = limit if limit is not None else 0 if json else SHOWN
    chosen: Iterable[Listed] = oldest_first(targets, database or None)
    left_out = 0
    if count:
        chosen, left_out = newest(scan(targets, database or None), count)
    now = datetime.now(UTC)
    facts = _Facts(app)
    rows = (facts.of(backup, now) for backup in read_backups(chosen, targets, app.zone))
    if json:
        print_json_items(_checked(rows, targets))
    else:
        found = _checked(rows, targets)
        first = next(found, None)
        if first is not None:
            _print_table(itertools.chain([first], found))
        else:
            where = ", ".join(target.describe() for target in app.targets(store))
            say(f"no backups yet{f' of {database}' if database else ''} in {where}")
            ours = app.chosen.at_hand()
            known = not database or database in ours
            say("  to take one now: hubbackup backup" if known else f"  backed up here: {', '.join(ours)}")
    if left_out:
        complain(f"{left_out} older backups are not shown; --limit 0 shows all")
    problems = [f"{one.name} is not listed whole: {one.error}" for one in targets if one.error is not None]
    print_warnings(problems)
    return EXIT_DEGRADED if problems else EXIT_SUCCESS


class _Lenient:
    """A target whose listing ends where it can't go on; `error` says why."""

    def __init__(self, target: Target) -> None:
        self.name = target.name
        self.remote = target.remote
        self.open = target.open
        self.manifest = target.manifest
        self.vouches = target.vouches
        self.error: StoreError | None = None
        self._target = target

    def entries(self) -> Iterator[Entry]:
        """Every whole file, as far as they can be listed."""
        try:
            yield from self._target.entries()
        except StoreError as error:
            self.error = error


def _checked(rows: Iterable[dict[str, Any]], targets: Sequence[_Lenient]) -> Iterator[dict[str, Any]]:
    """The rows. Raises StoreError where no target can be listed, before the first of them."""
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty and targets and all(target.error is not None for target in targets):
        raise next(target.error for target in targets if target.error is not None)


class _Facts:
    """What is shown of a backup; the histories are read once."""

    def __init__(self, app: App) -> None:
        self._proven_at = last_proven(app.state.copy_history)
        self._drills: dict[str, dict[str, Any]] = {
            record.name: {
                "started_at": record.started_at.isoformat(),
                "store": record.store or None,
                "rto_seconds": record.rto_seconds,
            }
            for record in app.state.history.runs()
            if record.kind == "drill" and record.exit_code == EXIT_SUCCESS and record.name
        }

    def of(self, backup: Backup, now: datetime) -> dict[str, Any]:
        name, manifest = str(backup.name), backup.manifest
        copies = sorted(backup.copies)
        verified = {store: self._proven_at[store, name] for store in copies if (store, name) in self._proven_at}
        return {
            "name": name,
            "database": backup.name.database,
            "started_at": backup.started_at,
            "age_seconds": round((now - backup.started_at).total_seconds()),
            "stored_bytes": max(copy.size_bytes for copy in backup.copies.values()),
            "plain_bytes": manifest.plain_bytes if manifest else None,
            "rows": sum(manifest.rows.values()) if manifest else None,
            "copies": copies,
            "good_in": [store for store in copies if backup.good_in(store)],
            "bad_in": [store for store in copies if backup.bad_in(store)],
            "archived_in": [store for store in copies if backup.archived_in(store)],
            "encryption": str(backup.name.format.encryption),
            "opens_with": list(manifest.recipients) if manifest else [],
            "proven": backup.proven,
            "origin": backup.origin,
            "problem": backup.problem,
            "pinned": backup.pinned,
            "suspicious": backup.suspicious,
            "warnings": manifest.warnings if manifest else (),
            "left_out": manifest.without if manifest else "",
            "unrestorable": backup.unrestorable,
            "from_future": backup.from_future(now),
            "doubts": [{"word": doubt.word, "why": doubt.why} for doubt in backup.doubts],
            "last_verified": verified,
            "last_drill": self._drills.get(name),
        }


def _copy(store: str, row: dict[str, Any]) -> str:
    """A store that holds a copy, and what is to be known of that."""
    words = ["BAD"] if store in row["bad_in"] else ["not good"] if store not in row["good_in"] else []
    words += ["archived"] * (store in row["archived_in"])
    return f"{store} ({', '.join(words)})" if words else store


def _print_table(rows: Iterable[dict[str, Any]]) -> None:
    now = datetime.now(UTC)

    def cells(row: dict[str, Any]) -> tuple[str, ...]:
        verified = max(row["last_verified"].values(), default=None)
        drilled = row["last_drill"] and datetime.fromisoformat(row["last_drill"]["started_at"])
        notes = (
            ["sealed"] * (row["encryption"] != "none")
            + ["pinned"] * row["pinned"]
            + [doubt["word"] for doubt in row["doubts"]]
        )
        notes += ["from the future"] * row["from_future"] + [row["problem"]]
        return (
            row["name"],
            row["database"],
            human_age(row["age_seconds"]),
            human_bytes(row["stored_bytes"]),
            str(row["rows"]) if row["rows"] is not None else "?",
            ", ".join(_copy(name, row) for name in row["copies"]),
            "yes" if row["proven"] else "foreign" if row["origin"] == "foreign" else "no",
            f"{human_age((now - verified).total_seconds())} ago" if verified else "-",
            f"{human_age((now - drilled).total_seconds())} ago" if drilled else "-",
            ", ".join(note for note in notes if note),
        )

    print_columns(COLUMNS, map(cells, rows))
