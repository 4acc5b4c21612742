"""`hubbackup list`."""

from __future__ import annotations

from typing import Annotated

import typer


def list_(
    store: Annotated[str, typer.Option(help="local, s3 or all.")] = "all",
    database: Annotated[str, typer.Option(help="Only this database's backups.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> int:
    """List the backups, oldest first, with the stores that hold a copy."""
    from datetime import UTC, datetime

    from hubbackup.catalog import list_backups
    from hubbackup.cli.common import human_age, human_bytes, make_app, print_json, print_table

    app = make_app()
    backups = [
        backup for backup in list_backups(app.stores(store), app.zone) if database in ("", backup.name.database)
    ]
    now = datetime.now(UTC)
    if json:
        print_json(
            [
                {
                    "name": str(backup.name),
                    "database": backup.name.database,
                    "started_at": backup.started_at,
                    "age_seconds": round((now - backup.started_at).total_seconds()),
                    "stored_bytes": max(copy.size_bytes for copy in backup.copies.values()),
                    "plain_bytes": backup.manifest.plain_bytes if backup.manifest else None,
                    "rows": sum(backup.manifest.rows.values()) if backup.manifest else None,
                    "copies": sorted(backup.copies),
                    "good_in": [name for name in sorted(backup.copies) if backup.good_in(name)],
                    "proven": backup.proven,
                    "problem": backup.problem,
                    "warnings": backup.manifest.warnings if backup.manifest else [],
                }
                for backup in backups
            ]
        )
        return 0
    from rich.table import Table

    table = Table("NAME", "DATABASE", "AGE", "SIZE", "ROWS", "COPIES", "PROVEN", box=None, pad_edge=False)
    for backup in backups:
        stored_bytes = max(copy.size_bytes for copy in backup.copies.values())
        table.add_row(
            str(backup.name),
            backup.name.database,
            human_age((now - backup.started_at).total_seconds()),
            human_bytes(stored_bytes),
            str(sum(backup.manifest.rows.values())) if backup.manifest else "?",
            ", ".join(name if backup.good_in(name) else f"{name} (not good)" for name in sorted(backup.copies)),
            "yes" if backup.proven else f"no: {backup.problem}",
        )
    print_table(table)
    return 0
