"""`hubbackup prune`."""

from __future__ import annotations

from typing import Annotated

import typer


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, remove nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> int:
    """Remove the backups that the retention policy no longer keeps; every one with its reason."""
    from datetime import UTC, datetime

    from hubbackup.catalog import list_backups
    from hubbackup.cli.common import make_app, print_json, print_table
    from hubbackup.errors import HubbackupError
    from hubbackup.jobs import Outcome, Run
    from hubbackup.prune import StorePlan, apply_plans, make_plans

    app = make_app()
    plans: list[StorePlan] = []

    def body(run: Run) -> Outcome:
        with run.stage("plan"):
            stores = [(store, app.policy(store)) for store in app.stores()]
            plans.extend(make_plans(list_backups(app.stores(), app.zone), stores, datetime.now(UTC)))
        if dry_run:
            return Outcome("Rotation simulee")
        with run.stage("prune"):
            pruned = apply_plans(plans)
        if pruned.problems:
            raise HubbackupError("; ".join(pruned.problems), remedy="the next prune tries again")
        return Outcome("Rotation terminee", {"removed": [f"{store}:{name}" for store, name in pruned.removed]})

    app.run("prune", body)
    rows = [
        {
            "store": one.store.name,
            "database": one.database,
            "name": decision.candidate.name,
            "action": "keep" if decision.keep else "remove",
            "reason": decision.reason,
        }
        for one in plans
        for decision in one.decisions
    ]
    if json:
        print_json({"dry_run": dry_run, "decisions": rows})
        return 0
    from rich.table import Table

    table = Table("STORE", "ACTION", "NAME", "REASON", box=None, pad_edge=False)
    for row in rows:
        table.add_row(row["store"], row["action"], row["name"], row["reason"])
    print_table(table)
    return 0
