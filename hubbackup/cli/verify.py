"""`hubbackup verify`."""

from __future__ import annotations

from typing import Annotated

import typer


def verify(
    name: Annotated[str, typer.Argument(help="A backup's name. Default: the newest.", show_default=False)] = "",
    latest: Annotated[bool, typer.Option("--latest", help="The newest backup (the default).")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every backup of every database.")] = False,
    store: Annotated[str, typer.Option(help="local, s3 or all.")] = "all",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> int:
    """Read backups through and prove them: size, sha256, compression, the dump's end, the rows of each table."""
    import sys

    from hubbackup.cli.common import make_app, print_json, terminal_progress
    from hubbackup.errors import HubbackupError, StoppedError, UsageError
    from hubbackup.units import human_bytes
    from hubbackup.verify.job import CopySelector

    if bool(name) + latest + everything > 1:
        raise UsageError("verify takes one of NAME, --latest and --all")
    app = make_app()
    job = app.verify_job(CopySelector(name, everything), store)
    failure: HubbackupError | None = None
    try:
        app.verify(job, progress=None if json else terminal_progress())
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
        print(f"hubbackup: {failure}", file=sys.stderr)
        if failure.remedy:
            print(f"  what to do: {failure.remedy}", file=sys.stderr)
    return exit_code
