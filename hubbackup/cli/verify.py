"""`hubbackup verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from hubbackup.cli.options import Json, OptionalName, Store
from hubbackup.cli.output import print_error, print_json
from hubbackup.cli.session import make_app, progress
from hubbackup.errors import HubbackupError, StoppedError, UsageError
from hubbackup.units import human_bytes
from hubbackup.verify.job import CopySelector


def verify(
    name: OptionalName = "",
    latest: Annotated[bool, typer.Option("--latest", help="The newest proven backup (the default).")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every backup of every database.")] = False,
    store: Store = "all",
    json: Json = False,
) -> int:
    """Read backups through and prove that they are whole.

    Compared with the manifest: size, sha256, compression, the dump's end, and the rows of each table.
    """
    if bool(name) + latest + everything > 1:
        raise UsageError("verify takes one of NAME, --latest and --all")
    app = make_app()
    job = app.verify_job(CopySelector(name, everything), store)
    failure: HubbackupError | None = None
    try:
        app.verify(job, progress=progress(quiet=json))
    except StoppedError:
        raise
    except HubbackupError as error:
        if not job.findings:
            raise
        failure = error
    exit_code = 0 if failure is None else failure.exit_code
    if json:
        rows = [
            {
                "name": str(finding.copy.name),
                "store": finding.copy.target.name,
                "stored_bytes": finding.copy.size_bytes,
                "verdict": finding.verdict,
                "problem": finding.problem,
            }
            for finding in job.findings
        ]
        print_json({"exit_code": exit_code, "message": str(failure or ""), "copies": rows})
        return exit_code
    for finding in job.findings:
        where = f"{finding.copy.name} in {finding.copy.target.name}"
        size = human_bytes(finding.copy.size_bytes)
        print(f"{finding.verdict:<9} {where} ({size}){': ' if finding.problem else ''}{finding.problem}")
    if failure is not None:
        print_error(failure)
    return exit_code
