"""`hubbackup verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from hubbackup.cli.options import Identity, Json, OptionalName, Store
from hubbackup.cli.output import print_error, print_json, say
from hubbackup.cli.session import make_opening_app
from hubbackup.cli.terminal import progress
from hubbackup.errors import EXIT_SUCCESS, UsageError
from hubbackup.units import human_bytes
from hubbackup.verify.job import CopySelector, VerifyFailedError


def verify(
    name: OptionalName = "",
    latest: Annotated[bool, typer.Option("--latest", help="The newest proven backup (the default).")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every backup of every database.")] = False,
    identity: Identity = None,
    store: Store = "all",
    json: Json = False,
) -> int:
    """Read backups through and prove that they are whole.

    Compared with the manifest: size, sha256, compression, the dump's end, and the rows of each table.
    """
    if bool(name) + latest + everything > 1:
        raise UsageError("verify takes one of NAME, --latest and --all")
    app = make_opening_app(identity)
    job = app.verify_job(CopySelector(name, everything), store)
    failure: VerifyFailedError | None = None
    exit_code = EXIT_SUCCESS
    try:
        result = app.verify(job, progress=progress(quiet=json)).result
    except VerifyFailedError as error:
        failure, result, exit_code = error, error.result, error.exit_code
    if json:
        rows = [
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
        print_json({"exit_code": exit_code, "message": str(failure or ""), "copies": rows})
        return exit_code
    for one in result.copies:
        where = f"{one.copy.name} in {one.copy.target.name}"
        size = human_bytes(one.copy.size_bytes)
        found = "; ".join(filter(None, (one.problem, one.left_out)))
        say(f"{one.verdict:<9} {where} ({size}){': ' if found else ''}{found}")
    if failure is not None:
        print_error(failure)
    return exit_code
