"""`hubbackup verify`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from hubbackup.app import App
from hubbackup.cli.options import Database, Identity, Json, OptionalName, Store
from hubbackup.cli.output import print_error, print_json, say
from hubbackup.cli.session import make_opening_app
from hubbackup.cli.terminal import progress
from hubbackup.errors import EXIT_SUCCESS, HubbackupError, UsageError
from hubbackup.units import human_bytes
from hubbackup.verify.copies import CopySelector
from hubbackup.verify.job import CopyResult, VerifyFailedError, VerifyResult
from hubbackup.verify.repair import RepairFailedError, RepairResult, remaining, repairable


def verify(
    name: OptionalName = "",
    latest: Annotated[bool, typer.Option("--latest", help="The newest proven backup (the default).")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every backup of every database.")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Make damaged copies good again, from another store's.")
    ] = False,
    identity: Identity = None,
    store: Store = "all",
    database: Database = "",
    json: Json = False,
) -> int:
    """Read backups through and prove that they are whole.

    Compared with the manifest: size, sha256, compression, the dump's end, and the rows of each table.
    """
    if bool(name) + latest + everything > 1:
        raise UsageError("verify takes one of NAME, --latest and --all")
    if name and database:
        raise UsageError("a NAME says of which database it is: --database goes with --latest or --all")
    app = make_opening_app(identity)
    if database:
        app.demand_known(database)
    job = app.verify_job(CopySelector(name, everything, database), store)
    failure: HubbackupError | None = None
    try:
        result = app.verify(job, progress=progress(quiet=json)).result
    except VerifyFailedError as error:
        failure, result = error, error.result
    if not json:
        _print_copies(result)
    mended, obstacle = RepairResult(()), None
    if repair and (damaged := repairable(result)):
        mended, obstacle = _repair(app, damaged, quiet=json)
        failure = remaining(result, mended, fail_unproven=job.read_unproven)
    ending = obstacle or failure
    exit_code = ending.exit_code if ending is not None else EXIT_SUCCESS
    if json:
        print_json(
            {
                "exit_code": exit_code,
                "message": str(ending or ""),
                "copies": _rows(result),
                **(_repair_rows(mended) if repair else {}),
            }
        )
        return exit_code
    for one in mended.copies:
        say(f"repaired  {one.name} in {one.store}, from {one.source}")
    if ending is not None:
        print_error(ending)
    return exit_code


def _repair(app: App, damaged: Sequence[CopyResult], *, quiet: bool) -> tuple[RepairResult, HubbackupError | None]:
    """What became good again, and why not all did."""
    try:
        return app.repair(damaged, progress=progress(quiet=quiet)).result, None
    except RepairFailedError as error:
        return error.result, error
    except HubbackupError as error:  # another run holds the lock, or it was stopped
        return RepairResult(()), error


def _print_copies(result: VerifyResult) -> None:
    for one in result.copies:
        where = f"{one.copy.name} in {one.copy.target.name}"
        size = human_bytes(one.copy.size_bytes)
        found = "; ".join(filter(None, (one.problem, one.left_out)))
        say(f"{one.verdict:<9} {where} ({size}){': ' if found else ''}{found}")


def _rows(result: VerifyResult) -> list[dict[str, object]]:
    return [
        {
            "name": str(one.copy.name),
            "store": one.copy.target.name,
            "stored_bytes": one.copy.size_bytes,
            "verdict": one.verdict,
            "problem": one.problem,
            "not_decoded": one.left_out,
        }
        for one in result.copies
    ]


def _repair_rows(mended: RepairResult) -> dict[str, object]:
    return {
        "repaired": [{"name": one.name, "store": one.store, "from": one.source} for one in mended.copies],
        "not_repaired": [{"name": one.name, "store": one.store, "problem": one.problem} for one in mended.left],
    }
