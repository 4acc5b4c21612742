"""`hubbackup status`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from hubbackup.catalog.schema_proofs import SchemaProof
from hubbackup.cli.options import Database, Json
from hubbackup.cli.output import print_json, say
from hubbackup.cli.remedies import typable
from hubbackup.cli.session import make_app
from hubbackup.health import check_beat, health_path, remark_of
from hubbackup.jobs.current import AtWork, all_alive
from hubbackup.jobs.history import RunRecord
from hubbackup.status.snapshot import Aside, Snapshot
from hubbackup.status.verdict import Verdict, judge
from hubbackup.units import human_age, human_bytes


def status(database: Database = "", json: Json = False) -> int:
    """Show whether all is well, the last good backup, the next run.

    Also the copies and their sizes, how the last runs ended, and how far the runs at work have come.
    """
    app = make_app()
    at_work = app.state.at_work()
    beside = [run for run in all_alive(app.state.directory) if at_work is None or run.run_id != at_work.run_id]
    now = datetime.now(UTC)
    if database:
        app.demand_known(database)
    snapshot = app.collector(database).take(now)
    healthy, sentence = check_beat(health_path())
    busy = at_work is not None and at_work.alive and at_work.kind == "backup"
    remark = remark_of(health_path()) if healthy else ""
    verdict = judge(snapshot, now, healthy=healthy, health_sentence=sentence, remark=remark, busy=busy)
    if json:
        working = {
            "at_work": {**asdict(at_work), "alive": at_work.alive} if at_work else None,
            "at_work_without_lock": [asdict(run) for run in beside],
        }
        aside = _aside_document(snapshot.aside)
        print_json(_document(snapshot, verdict, now) | working | aside | {"daemon_healthy": healthy})
    else:
        _print(snapshot, verdict, now, sentence, [*([at_work] if at_work else []), *beside])
        _print_kept(snapshot.aside)
    return 0


def _print_kept(aside: Aside) -> None:
    """The databases that restores put aside or left, with what they hold of the disk."""
    for kept in aside.databases or ():
        what = "replaced by a restore" if kept.kind == "before" else "half-filled, the next restore removes it"
        say(f"kept        {kept.name}, {human_bytes(kept.size_bytes)}: {what}")
    if aside.problem:
        say(f"kept        not known, the server can't be asked: {aside.problem}")


def _aside_document(aside: Aside) -> dict[str, Any]:
    known = aside.databases
    return {
        "kept_databases": None
        if known is None
        else [{"name": one.name, "bytes": one.size_bytes, "kind": one.kind} for one in known],
        "kept_databases_problem": aside.problem or None,
    }


def _document(snapshot: Snapshot, verdict: Verdict, now: datetime) -> dict[str, Any]:
    """The snapshot for machines. Times are ISO 8601, sizes bytes; the newest is first.

    What is of one database stands under its name where there are several, and else at the top.
    """
    each = [_database_document(snapshot, database, now) for database in snapshot.databases]
    several = {"databases": each, "gone": dict(snapshot.gone)} if snapshot.several else {}
    return {
        **(each[0] if len(each) == 1 else {}),
        "verdict": verdict.level.name.lower(),
        "summary": verdict.summary,
        "findings": [
            {"level": one.level.name.lower(), "text": one.text, "remedy": typable(one.remedy)}
            for one in verdict.findings
        ],
        **several,
        "next_run": snapshot.schedule.next_after(now),
        "schedule": snapshot.schedule.expression,
        "time_zone": snapshot.schedule.time_zone,
        "backups": [asdict(backup) for backup in snapshot.backups],
        "leaving": [asdict(one) for one in snapshot.leaving],
    }


def _database_document(snapshot: Snapshot, database: str, now: datetime) -> dict[str, Any]:
    newest = snapshot.last_good(database)
    stores = {}
    for store in snapshot.stores:
        held = snapshot.in_store(store.name, database)
        stores[store.name] = {
            "where": store.where,
            "problem": store.problem,
            "good_backups": len(held),
            "stored_bytes": sum(backup.stored_bytes for backup in held),
            "newest": held[0].name if held else None,
            "oldest": held[-1].name if held else None,
            "free_bytes": store.free_bytes,
        }
    return {
        "database": database,
        "last_good": newest.name if newest else None,
        "last_good_age_seconds": round((now - newest.started_at).total_seconds()) if newest else None,
        "last_run": _run_document(snapshot.last_run("backup", database)),
        "last_drill": _run_document(snapshot.last_run("drill", database)),
        "schema_drill": _schema_document(snapshot.schema_proofs.get(database)),
        "stores": stores,
    }


def _schema_document(proof: SchemaProof | None) -> dict[str, Any] | None:
    """When the schema was last shown to restore, for machines; None where schema drills are off."""
    if proof is None:
        return None
    return {"name": proof.name, "passed_at": proof.passed_at, "skipped_because": proof.skipped_because}


def _run_document(run: RunRecord | None) -> dict[str, Any] | None:
    """A recorded run for machines; why its backup is suspicious stands with the backup."""
    if run is None:
        return None
    return {name: value for name, value in run._asdict().items() if name != "warnings"} | {"result": run.result}


def _print(snapshot: Snapshot, verdict: Verdict, now: datetime, health_sentence: str, runs: Sequence[AtWork]) -> None:
    zone = snapshot.schedule.zone
    say(f"{verdict.headline} {verdict.summary}")
    for finding in verdict.findings:
        say(f"  - {finding.text}")
        if finding.remedy:
            say(f"    what to do: {finding.remedy}")
    say("")
    for at_work in runs:
        say(f"at work     {_progress(at_work, zone)}")
    for database in snapshot.databases:
        _print_database(snapshot, database, now)
    for name, since in snapshot.gone.items():
        count = sum(backup.database == name for backup in snapshot.backups)
        gone_at = since.astimezone(zone).isoformat(timespec="seconds")
        say(f"gone        {name}, from the server since {gone_at}; {count} backups of it are kept")
    due = snapshot.schedule.next_after(now)
    shown = due.astimezone(zone).isoformat() if due else "never"
    say(f"next run    {shown} ({snapshot.schedule.expression} in {snapshot.schedule.time_zone})")
    say(f"daemon      {health_sentence}")
    for store in snapshot.stores:
        held = snapshot.in_store(store.name)
        size = human_bytes(sum(backup.stored_bytes for backup in held))
        free = f", {human_bytes(store.free_bytes)} free" if store.free_bytes is not None else ""
        say(f"{store.name:<11} {store.where}: {store.problem or f'{len(held)} good, {size}{free}'}")


def _print_database(snapshot: Snapshot, database: str, now: datetime) -> None:
    zone = snapshot.schedule.zone
    newest = snapshot.last_good(database)
    say(f"database    {database}")
    age = f", {human_age((now - newest.started_at).total_seconds())} ago" if newest else ""
    say(f"last good   {newest.name if newest else 'none'}{age}")
    if newest and newest.left_out:
        say(f"left out    {newest.left_out}")
    for kind, label in (("backup", "last run"), ("drill", "last drill")):
        run = snapshot.last_run(kind, database)
        if run:
            word = run.result if run.result in ("success", "degraded") else run.result.upper()
            cause = f": {run.cause}" if run.cause else ""
            started = run.started_at.astimezone(zone).isoformat(timespec="seconds")
            say(f"{label:<11} {started} {word} in {run.seconds:.1f} s{cause}")
    proof = snapshot.schema_proofs.get(database)
    if proof is not None and proof.passed_at is not None:
        say(f"schema      restored {proof.passed_at.astimezone(zone).isoformat(timespec='seconds')}")


def _progress(run: AtWork, zone: ZoneInfo) -> str:
    """How far the run at work has come, in one line."""
    since = run.since.astimezone(zone).isoformat(timespec="seconds")
    if not run.alive:
        return f"nothing; the {run.kind} of {since} was killed at the stage {run.stage} (process {run.pid})"
    return f"{run.kind} since {since}, process {run.pid}, {run.how_far}"
