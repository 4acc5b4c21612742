"""`hubbackup status`."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def status(json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False) -> int:
    """Show the last good backup, the next run, sizes and copies, and how the last run ended."""
    from datetime import UTC, datetime

    from hubbackup.catalog import list_backups, of_database
    from hubbackup.cli.common import human_age, human_bytes, make_app, print_json
    from hubbackup.errors import HubbackupError, StoreError
    from hubbackup.names import derived_kind
    from hubbackup.report.health import health_path, judge

    app = make_app()
    now = datetime.now(UTC)
    healthy, health_sentence = judge(health_path())
    stores: dict[str, Any] = {}
    backups_by_store = {}
    for store in app.stores():
        try:
            found = [b for b in of_database(list_backups([store], app.zone), app.database) if b.good_in(store.name)]
        except StoreError as error:
            stores[store.name] = {"where": store.describe(), "problem": str(error)}
            continue
        backups_by_store[store.name] = found
        stores[store.name] = {
            "where": store.describe(),
            "good_backups": len(found),
            "stored_bytes": sum(b.copies[store.name].size_bytes for b in found),
            "newest": str(found[-1].name) if found else None,
            "oldest": str(found[0].name) if found else None,
        }
    kept: list[dict[str, Any]] | None = None
    kept_problem = ""
    try:
        kept = [
            {"name": one.name, "bytes": one.size_bytes, "kind": derived_kind(one.name)}
            for one in app.kept_databases()
        ]
    except HubbackupError as error:
        kept_problem = str(error)
    newest = max((b for found in backups_by_store.values() for b in found), key=lambda b: b.started_at, default=None)
    next_run = app.settings.schedule.next_after(now)
    last_run = app.history.last("backup")
    document = {
        "database": app.database,
        "last_good": str(newest.name) if newest else None,
        "last_good_age_seconds": round((now - newest.started_at).total_seconds()) if newest else None,
        "last_run": last_run,
        "next_run": next_run,
        "schedule": app.settings.backup_schedule,
        "time_zone": app.settings.tz,
        "daemon_healthy": healthy,
        "stores": stores,
        "kept_databases": kept,
        "kept_databases_problem": kept_problem or None,
    }
    if json:
        print_json(document)
        return 0
    print(f"database    {app.database}")
    if newest:
        print(f"last good   {newest.name}, {human_age((now - newest.started_at).total_seconds())} ago")
    else:
        print("last good   none")
    if last_run:
        word = {0: "success", 3: "degraded"}.get(last_run["exit_code"], "FAILED")
        cause = f": {last_run['cause']}" if last_run.get("cause") else ""
        print(f"last run    {last_run['started_at']} {word} in {last_run['seconds']:.1f} s{cause}")
    shown_next = next_run.astimezone(app.zone).isoformat() if next_run else "never"
    print(f"next run    {shown_next} ({app.settings.backup_schedule} in {app.settings.tz})")
    print(f"daemon      {health_sentence}")
    for name, facts in stores.items():
        if "problem" in facts:
            print(f"{name:<11} {facts['where']}: {facts['problem']}")
        else:
            print(f"{name:<11} {facts['where']}: {facts['good_backups']} good, {human_bytes(facts['stored_bytes'])}")
    for aside in kept or ():
        what = "replaced by a restore" if aside["kind"] == "before" else "half-filled, the next restore removes it"
        print(f"kept        {aside['name']}, {human_bytes(aside['bytes'])}: {what}")
    if kept_problem:
        print(f"kept        not known, the server can't be asked: {kept_problem}")
    return 0
