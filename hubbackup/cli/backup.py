"""`hubbackup backup`."""

from __future__ import annotations

from typing import Annotated

import typer

from hubbackup.cli.options import Json
from hubbackup.cli.output import print_json, say
from hubbackup.cli.session import make_app
from hubbackup.cli.terminal import print_warnings, progress
from hubbackup.errors import SettingsError
from hubbackup.units import human_bytes


def backup(
    upload_s3: Annotated[
        bool | None,
        typer.Option("--upload-s3/--no-upload-s3", help="Upload to S3 too. Default: where a bucket is configured."),
    ] = None,
    json: Json = False,
) -> int:
    """Take a backup now: dump, prove, publish, upload, rotate."""
    app = make_app()
    if upload_s3 and not app.remotes:
        raise SettingsError("--upload-s3: S3_BACKUP_BUCKET is not set", remedy="set it in .env.production")
    outcome = app.backup(upload=upload_s3 is not False, progress=progress(quiet=json))
    if json:
        print_json(
            {
                "exit_code": outcome.exit_code,
                "message": outcome.message,
                **outcome.facts(),
                "problems": outcome.problems,
            }
        )
        return outcome.exit_code
    made = outcome.result
    say(
        f"{outcome.message}: {made.name} ({human_bytes(made.stored_bytes)}, {made.tables} tables,"
        f" {made.rows} rows) in {', '.join(made.copies)}"
    )
    if made.left_out:
        say(f"Left out: {made.left_out}")
    if made.changes:
        say(f"Since {made.changes_since}: {made.changes}")
    print_warnings(outcome.problems)
    return outcome.exit_code
