"""`hubbackup drill`."""

from __future__ import annotations

from typing import Annotated

import typer

from hubbackup.cli.options import Json, Latest, OptionalName
from hubbackup.cli.output import print_json, say
from hubbackup.cli.session import make_app
from hubbackup.cli.terminal import progress
from hubbackup.errors import UsageError


def drill(
    name: OptionalName = "",
    latest: Latest = False,
    store: Annotated[
        str, typer.Option(metavar="STORE", help="local or s3. Default: in turns, where S3 is configured.")
    ] = "",
    schema: Annotated[bool, typer.Option("--schema", help="The schema alone, without rows: seconds.")] = False,
    json: Json = False,
) -> int:
    """Restore a backup into a throwaway server, and time it.

    The rows of each table are compared with those of the dump, and DRILL_SQL is asked.
    """
    if name and latest:
        raise UsageError("drill takes a NAME or --latest, not both")
    if schema:
        return _drill_schema(name, store, json=json)
    outcome = make_app().drill(name, store, progress=progress(quiet=json))
    if json:
        print_json({"exit_code": outcome.exit_code, **outcome.facts()})
        return outcome.exit_code
    drilled = outcome.result
    say(
        f"{drilled.name} from {drilled.store} was restored: {drilled.tables} tables, {drilled.rows} rows"
        f" in {drilled.rto_seconds} s, in {drilled.place}."
    )
    for check, answer in drilled.checks.items():
        say(f"  {check} -> {answer}")
    return outcome.exit_code


def _drill_schema(name: str, store: str, *, json: bool) -> int:
    outcome = make_app().drill_schema(name, store, progress=progress(quiet=json))
    if json:
        print_json({"exit_code": outcome.exit_code, **outcome.facts()})
        return outcome.exit_code
    drilled = outcome.result
    say(
        f"The schema of {drilled.name} restores: {drilled.tables} tables in {drilled.drill_seconds} s,"
        f" in {drilled.place}, without their rows."
    )
    return outcome.exit_code
