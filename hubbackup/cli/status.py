"""`hubbackup status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hubbackup.report.running import AtWork


def status(json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False) -> int:
    """Show the last good backup, the next run, sizes and copies, and how the last run ended."""
    from dataclasses import asdict
    from datetime import UTC, datetime

    from hubbackup.cli.common import human_age, make_app, print_json
    from hubbackup.errors import StoreError
    from hubbackup.listing import newest_first, scan
    from hubbackup.report.health import health_path, judge
    from hubbackup.report.running import FILE_NAME, read
    from hubbackup.sizes import human_bytes

    app = make_app()
    at_work = read(app.lock.with_name(FILE_NAME))
    now = datetime.now(UTC)
    healthy, health_sentence = judge(health_path())
    stores: dict[str, Any] = {}
    newest_in = []
    for store in app.stores():
        try:
            # Counted by the listing; only the newest is told by its manifest.
            found = [one for one in scan([store], app.database) if one.published_in(store.name)]
            good = (b for b in newest_first([store], app.zone, app.database) if b.good_in(store.name))
            newest_in += [backup] if (backup := next(good, None)) else []
        except StoreError as error:
            stores[store.name] = {"where": store.describe(), "problem": str(error)}
            continue
        stores[store.name] = {
            "where": store.describe(),
            "good_backups": len(found),
            "stored_bytes": sum(one.copies[store.name].size_bytes for one in found),
            "newest": str(found[-1].name) if found else None,
            "oldest": str(found[0].name) if found else None,
        }
    newest = max(newest_in, key=lambda b: b.started_at, default=None)
    next_run = app.settings.schedule.next_after(now)
    last_run = app.history.last("backup")
    document = {
        "database": app.database,
        "last_good": str(newest.name) if newest else None,
        "last_good_age_seconds": round((now - newest.started_at).total_seconds()) if newest else None,
        "at_work": {**asdict(at_work), "alive": at_work.alive} if at_work else None,
        "last_run": last_run,
        "next_run": next_run,
        "schedule": app.settings.backup_schedule,
        "time_zone": app.settings.tz,
        "daemon_healthy": healthy,
        "stores": stores,
    }
    if json:
        print_json(document)
        return 0
    print(f"database    {app.database}")
    if at_work:
        print(f"at work     {_progress(at_work)}")
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
    return 0


def _progress(run: AtWork) -> str:
    """How far the run at work has come, in one line."""
    from hubbackup.sizes import human_bytes

    if not run.alive:
        return f"nothing; the {run.kind} of {run.started_at} was killed at the stage {run.stage} (process {run.pid})"
    parts = [f"{run.kind} since {run.started_at}, process {run.pid}, stage {run.stage}"]
    if run.done_bytes:
        total = f" of some {human_bytes(run.total_bytes)}" if run.total_bytes else ""
        parts.append(f"{run.step} {human_bytes(run.done_bytes)}{total} at {human_bytes(run.bytes_per_second)}/s")
    if run.seconds_left is not None:
        parts.append(f"{run.seconds_left:.0f} s left")
    return ", ".join(parts)
