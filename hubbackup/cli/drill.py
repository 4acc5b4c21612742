"""`hubbackup drill`."""

from __future__ import annotations

from typing import Annotated

import typer

from hubbackup.cli.options import Database, Identity, Json, Latest, OptionalName
from hubbackup.cli.output import print_json, say
from hubbackup.cli.session import make_opening_app
from hubbackup.cli.terminal import progress
from hubbackup.errors import UsageError
from hubbackup.jobs.run import Outcome, R_co


def drill(
    name: OptionalName = "",
    latest: Latest = False,
    store: Annotated[
        str, typer.Option(metavar="STORE", help="local, s3 or mirror. Default: in turns, where S3 is configured.")
    ] = "",
    identity: Identity = None,
    schema: Annotated[bool, typer.Option("--schema", help="The schema alone, without rows: seconds.")] = False,
    database: Database = "",
    json: Json = False,
) -> int:
    """Restore a backup into a throwaway server, and time it.

    The rows of each table are compared with those of the dump, and DRILL_SQL is asked.
    """
    if name and latest:
        raise UsageError("drill takes a NAME or --latest, not both")
    if name and database:
        raise UsageError("a NAME says of which database it is: --database goes with --latest")
    app, shown = make_opening_app(identity), progress(quiet=json)
    if database:
        app.demand_known(database)
    if schema:
        tried = app.drill_schema(name, store, progress=shown, database=database)
        return _answer(
            tried,
            f"The schema of {tried.result.name} restores: {tried.result.tables} tables in"
            f" {tried.result.drill_seconds} s, in {tried.result.place}, without their rows.",
            json=json,
        )
    outcome = app.drill(name, store, progress=shown, database=database)
    drilled = outcome.result
    return _answer(
        outcome,
        f"{drilled.name} from {drilled.store} was restored: {drilled.tables} tables, {drilled.rows} rows"
        f" in {drilled.rto_seconds} s, {drilled.load_seconds:.1f} of them for the load, in {drilled.place}.",
        *([f"It was made without {drilled.left_out}."] if drilled.left_out else []),
        *(f"  {check} -> {answer}" for check, answer in drilled.checks.items()),
        json=json,
    )


def _answer(outcome: Outcome[R_co], *lines: str, json: bool) -> int:
    if json:
        print_json({"exit_code": outcome.exit_code, **outcome.facts()})
    else:
        say(*lines)
    return outcome.exit_code
