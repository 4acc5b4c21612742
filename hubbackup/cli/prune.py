"""`hubbackup prune`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from hubbackup.cli.columns import Column
from hubbackup.cli.options import Database, Json
from hubbackup.cli.output import print_columns, print_json_with_items, say
from hubbackup.cli.session import make_app
from hubbackup.cli.terminal import print_warnings
from hubbackup.errors import UsageError
from hubbackup.retention.prune import NOT_OURS, TargetPlan
from hubbackup.shown_text import printable
from hubbackup.units import human_age

COLUMNS = (
    Column("STORE"),
    Column("ACTION"),
    Column("NAME"),
    Column("AGE", leaves=1),
    Column("REASON", below=True),
)


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, remove nothing.")] = False,
    database: Database = "",
    everything: Annotated[
        bool, typer.Option("--all", help="Of every database that the stores hold, also those not backed up here.")
    ] = False,
    json: Json = False,
) -> int:
    """Remove the backups that the retention policy no longer keeps.

    Of the databases that are backed up here. Each backup is shown with the decision and its reason.
    """
    if database and everything:
        raise UsageError("prune takes one of --database and --all")
    app = make_app()
    if database:
        app.demand_known(database)
    now = datetime.now(UTC).astimezone(app.zone)
    outcome = app.prune(dry_run=dry_run, databases=[database] if database else (), everything=everything)
    plans = outcome.result.plans
    rows = _rows(plans, now)
    if json:
        policies = {target.name: str(target.policy) for target in app.targets()}
        print_json_with_items({"dry_run": dry_run, "policies": policies}, "decisions", rows)
        print_warnings(outcome.problems)
        return outcome.exit_code
    cells = ((row["store"], row["action"], row["name"], human_age(row["age_seconds"]), row["reason"]) for row in rows)
    if first := next(cells, None):
        print_columns(COLUMNS, itertools.chain([first], cells))
    word = "would be removed" if dry_run else "removed"
    for target in app.targets():
        mine = [one for one in plans if one.target.name == target.name]
        kept = sum(decision.keep for one in mine for decision in one.decisions)
        gone = sum(len(one.decisions) for one in mine) - kept
        say(f"{target.name}: the policy keeps {target.policy}. {kept} kept, {gone} {word}.")
    if others := sorted({one.database for one in plans if one.why_kept == NOT_OURS}):
        names = ", ".join(map(printable, others))
        say(f"not backed up here, so nothing of it is removed: {names} (hubbackup prune --database NAME, or --all)")
    print_warnings(outcome.problems)
    return outcome.exit_code


def _rows(plans: Iterable[TargetPlan], now: datetime) -> Iterator[dict[str, Any]]:
    """What is shown of each decision."""
    for one in plans:
        for decision in one.decisions:
            yield {
                "store": one.target.name,
                "database": one.database,
                "name": decision.candidate.name,
                "age_seconds": round((now - decision.candidate.started_at).total_seconds()),
                "action": "keep" if decision.keep else "remove",
                "reason": decision.reason,
            }
