"""`hubbackup backup`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from hubbackup.cli.options import Json
from hubbackup.cli.output import print_error, print_json, say
from hubbackup.cli.remedies import typable
from hubbackup.cli.session import make_app
from hubbackup.cli.terminal import print_warnings, progress
from hubbackup.errors import HubbackupError, SettingsError
from hubbackup.jobs.parts import Part, PartsFailedError
from hubbackup.jobs.results import BackupResult, BackupsResult
from hubbackup.units import human_bytes


def backup(
    databases: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATABASE…", help="Of these databases. Default: as BACKUP_DATABASES says.", show_default=False
        ),
    ] = None,
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
    if databases:
        app.chosen.demand()
        databases = list(app.chosen.typed(databases, app.cancel))
    try:
        outcome = app.backup(databases or (), upload=upload_s3 is not False, progress=progress(quiet=json))
    except PartsFailedError as error:
        return _print_failed(error, json=json)
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
    if isinstance(made, BackupsResult):
        _print_parts(outcome.parts)
        print_warnings(outcome.problems)
        return outcome.exit_code
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


def _print_failed(error: PartsFailedError, *, json: bool) -> int:
    """What came of each database, where it is not good of all."""
    if json:
        summaries = [part.summary() for part in error.parts]
        document = {"error": error.kind, "message": str(error), "remedy": typable(error.remedy)}
        print_json({"exit_code": error.exit_code, **document, "databases": summaries})
    else:
        _print_parts(error.parts)
        print_error(error)
    return error.exit_code


def _print_parts(parts: Sequence[Part]) -> None:
    for part in parts:
        if isinstance(part.ending, HubbackupError):
            say(f"{part.database}: FAILED")
        elif isinstance(made := part.ending.result, BackupResult):
            say(
                f"{part.database}: {made.name} ({human_bytes(made.stored_bytes)}, {made.tables} tables,"
                f" {made.rows} rows) in {', '.join(made.copies)}"
            )
