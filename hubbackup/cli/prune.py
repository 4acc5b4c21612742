"""`hubbackup prune`."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, remove nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> int:
    """Remove the backups that the retention policy no longer keeps; every one with its reason."""
    from datetime import UTC, datetime

    from hubbackup.cli.common import human_age, make_app, print_json, print_table
    from hubbackup.errors import HubbackupError
    from hubbackup.jobs import Outcome, Run
    from hubbackup.listing import load, scan
    from hubbackup.prune import StorePlan, apply_plans, make_plans

    app = make_app()
    now = datetime.now(UTC).astimezone(app.zone)
    plans: list[StorePlan] = []

    def body(run: Run) -> Outcome:
        with run.stage("plan"):
            stores = app.stores()
            policies = [(store, app.policy(store)) for store in stores]
            plans.extend(make_plans(scan(stores), policies, now, lambda some: load(some, stores, app.zone)))
        if dry_run:
            return Outcome("Rotation simulee")
        with run.stage("prune"):
            pruned = apply_plans(plans)
        if pruned.problems:
            raise HubbackupError("; ".join(pruned.problems), remedy="the next prune tries again")
        return Outcome("Rotation terminee", {"removed": [f"{store}:{name}" for store, name in pruned.removed]})

    app.run("prune", body, with_lock=not dry_run)
    rows: list[dict[str, Any]] = [
        {
            "store": one.store.name,
            "database": one.database,
            "name": decision.candidate.name,
            "age_seconds": round((now - decision.candidate.started_at).total_seconds()),
            "action": "keep" if decision.keep else "remove",
            "reason": decision.reason,
        }
        for one in plans
        for decision in one.decisions
    ]
    if json:
        policies = {store.name: str(app.policy(store)) for store in app.stores()}
        print_json({"dry_run": dry_run, "policies": policies, "decisions": rows})
        return 0
    from rich.table import Table

    table = Table("STORE", "ACTION", "NAME", "AGE", "REASON", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row["store"], row["action"], row["name"], human_age(row["age_seconds"]), row["reason"])
    print_table(table)
    for store in app.stores():
        removed = sum(row["action"] == "remove" and row["store"] == store.name for row in rows)
        kept = sum(row["store"] == store.name for row in rows) - removed
        word = "would go" if dry_run else "removed"
        print(f"{store.name}: the policy keeps {app.policy(store)}. {kept} kept, {removed} {word}.")
    return 0
