"""`hubbackup restore`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hubbackup.restore.job import Preview
    from hubbackup.streams.cancel import Cancel


def restore(
    file: Annotated[str, typer.Argument(help="A backup's path or name.", show_default=False)] = "",
    latest: Annotated[bool, typer.Option("--latest", help="The newest good backup.")] = False,
    from_s3: Annotated[str, typer.Option(help="A backup's name in S3.", show_default=False)] = "",
    undo: Annotated[
        bool, typer.Option("--undo", help="Swap back the database that the last restore replaced.")
    ] = False,
    database: Annotated[
        str | None, typer.Option(help="The database to replace. Default: POSTGRES_DB.", show_default=False)
    ] = None,
    into: Annotated[
        str | None,
        typer.Option(help="Restore into a new database of this name, replace nothing.", show_default=False),
    ] = None,
    in_place: Annotated[
        bool,
        typer.Option(
            "--in-place",
            help="For where there is no room beside the live database: take a safety backup, drop it, then restore."
            " Until that is done there is no database.",
        ),
    ] = False,
    no_owner: Annotated[
        bool, typer.Option("--no-owner", help="What belongs to roles that don't exist here falls to POSTGRES_USER.")
    ] = False,
    with_globals: Annotated[
        bool, typer.Option("--globals", help="Create the roles that are missing here from the backup first.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Try in spite of an older server or too little room.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> int:
    """Restore a backup: prove it, fill a new database, compare it, then swap it with the live one."""
    import sys

    from hubbackup.cli.common import make_app, print_json, terminal_progress
    from hubbackup.errors import UsageError
    from hubbackup.postgres.side_databases import check_target
    from hubbackup.restore.preflight import Request
    from hubbackup.restore.source import BackupSelector

    if sum(map(bool, (file, latest, from_s3, undo))) != 1:
        raise UsageError("restore needs one of FILE, --latest, --from-s3 NAME or --undo", remedy="hubbackup list")
    # Asked by `is not None`: an empty --into "$NAME" must never turn into a restore over the live database.
    if into is not None and (database is not None or in_place or undo):
        raise UsageError("--into replaces nothing: it can't go with --database, --in-place or --undo")
    if undo and (in_place or no_owner or with_globals or force):
        raise UsageError("--undo only swaps: of the other options it takes --database, --yes and --json")
    app = make_app()
    named = into if into is not None else database
    target = check_target(app.database if named is None else named)
    if not yes and not sys.stdin.isatty():
        raise UsageError("nobody is there to confirm this", remedy="run it on a terminal, or add --yes")
    if undo:
        if not yes:
            _ask(app.cancel, target, f"The database {target} is swapped with the one that the last restore replaced.")
        outcome = app.undo_restore(target)
        print_json({"exit_code": outcome.exit_code, **outcome.fields}) if json else _tell_undone(outcome.fields)
        return outcome.exit_code
    outcome = app.restore(
        Request(
            target=target,
            replace=into is None,
            in_place=in_place,
            no_owner=no_owner,
            with_globals=with_globals,
            force=force,
        ),
        BackupSelector(
            target if into is None else app.database, file=file, from_s3=from_s3, any_database=into is not None
        ),
        confirm=lambda preview: _confirm(preview, app.cancel, yes=yes, quiet=json),
        progress=None if json else terminal_progress(),
    )
    if json:
        print_json({"exit_code": outcome.exit_code, **outcome.fields})
    else:
        _tell_restored(outcome.fields, replaced=into is None)
    return outcome.exit_code


NEXT_STEP = "Next: docker compose -f docker-compose.prod.yml restart api"


def _tell_restored(facts: dict[str, Any], *, replaced: bool) -> None:
    """What was restored, and what to do now."""
    from hubbackup.units import human_bytes

    proof = "" if facts["proven"] else " It had no manifest: only the file itself could be proven."
    print(
        f"{facts['name']} is now the database {facts['database']}: {facts['tables']} tables, {facts['rows']} rows,"
        f" in {facts['seconds']:.1f} s.{proof}"
    )
    if facts["roles_created"]:
        print(f"Roles created: {', '.join(facts['roles_created'])} (without passwords unless the backup has them).")
    for remark in facts["remarks"]:
        print(f"Note: {remark}")
    if facts["kept_as"]:
        size = human_bytes(facts["kept_bytes"])
        print(f"The old database is kept as {facts['kept_as']} ({size}). To go back: hubbackup restore --undo")
    if facts["safety_backup"]:
        print(f"Its state before is in a safety backup. To go back: hubbackup restore {facts['safety_backup']}")
    if replaced:
        print(NEXT_STEP)


def _tell_undone(facts: dict[str, Any]) -> None:
    from hubbackup.units import human_bytes

    kept = f"; what was live is kept as {facts['kept_as']} ({human_bytes(facts['kept_bytes'])})"
    print(f"{facts['database']} is again what was kept as {facts['restored']}{kept if facts['kept_as'] else ''}.")
    print(NEXT_STEP)


def _confirm(preview: Preview, cancel: Cancel, *, yes: bool, quiet: bool) -> None:
    """Show what will happen, and ask for the database's name. Raises UsageError where it is not typed."""
    import sys
    from datetime import UTC, datetime

    from hubbackup.cli.common import human_age
    from hubbackup.units import human_bytes

    source, request = preview.source, preview.request
    age = (
        f", {human_age((datetime.now(UTC) - source.started_at).total_seconds())} old"
        if source.started_at is not None
        else ""
    )
    proof = "proven" if source.manifest is not None else "UNPROVEN"
    rows = sum(preview.facts.rows.values())
    lines = [
        f"backup    {source.name} from {source.where}: {proof}{age}, {human_bytes(source.stored_bytes)},"
        f" {preview.facts.table_count} tables, {rows} rows",
    ]
    live = preview.server.databases.get(request.target)
    if live is None:
        lines.append(f"database  {request.target} will be created")
    else:
        lines.append(
            f"database  {request.target} ({human_bytes(live.size_bytes)}) will be replaced;"
            f" {live.sessions} live connections will be ended"
        )
        if request.in_place:
            lines.append(
                "RISK      --in-place drops it first: until the end there is no database, and if the restore fails"
                " only the safety backup is left"
            )
        else:
            lines.append("          it is kept beside, and `hubbackup restore --undo` brings it back")
    lines += [f"note      {note}" for note in preview.notes]
    if not (quiet and yes):
        print("\n".join(lines), file=sys.stderr)
    if not yes:
        _ask(cancel, request.target, "")


def _ask(cancel: Cancel, target: str, text: str) -> None:
    """Raises UsageError where something else is typed, StoppedError at Ctrl-C."""
    import select
    import sys

    from hubbackup.errors import UsageError

    if text:
        print(text, file=sys.stderr)
    print(f"Type the database's name ({target}) to go on: ", end="", file=sys.stderr, flush=True)
    while not select.select([sys.stdin], [], [], 0.2)[0]:  # a plain readline would start again after a signal
        cancel.check()
    typed = sys.stdin.readline().rstrip("\r\n")
    if target not in (typed, typed.strip()):
        raise UsageError("not confirmed, nothing was done")
