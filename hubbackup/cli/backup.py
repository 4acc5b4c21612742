"""`hubbackup backup`."""

from __future__ import annotations

from typing import Annotated

import typer


def backup(
    upload_s3: Annotated[
        bool | None,
        typer.Option("--upload-s3/--no-upload-s3", help="Upload to S3 too. Default: where a bucket is configured."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> int:
    """Take a backup now: dump, prove, publish, upload, rotate."""
    import sys

    from hubbackup.cli.common import make_app, print_json, terminal_progress
    from hubbackup.errors import SettingsError
    from hubbackup.units import human_bytes

    app = make_app()
    if upload_s3 and not app.remotes:
        raise SettingsError("--upload-s3: S3_BACKUP_BUCKET is not set", remedy="set it in .env.production")
    upload = upload_s3 is not False
    outcome = app.backup(upload=upload, progress=None if json else terminal_progress())
    if json:
        print_json(
            {
                "exit_code": outcome.exit_code,
                "message": outcome.message,
                **outcome.fields,
                "problems": outcome.problems,
            }
        )
        return outcome.exit_code
    facts = outcome.fields
    print(
        f"{outcome.message}: {facts['name']} ({human_bytes(facts['stored_bytes'])}, {facts['tables']} tables,"
        f" {facts['rows']} rows) in {', '.join(facts['copies'])}"
    )
    for problem in outcome.problems:
        print(f"AVERTISSEMENT: {problem}", file=sys.stderr)
    return outcome.exit_code
