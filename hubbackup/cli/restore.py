"""`hubbackup restore`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hubbackup.restore import Preview


def restore(
    file: Annotated[str, typer.Argument(help="A backup's path or name.", show_default=False)] = "",
    latest: Annotated[bool, typer.Option("--latest", help="The newest good backup.")] = False,
    from_s3: Annotated[str, typer.Option(help="A backup's name in S3.", show_default=False)] = "",
    undo: Annotated[
        bool, typer.Option("--undo", help="Swap back the database that the last restore replaced.")
    ] = False,
    database: Annotated[str, typer.Option(help="The database to replace. Default: POSTGRES_DB.")] = "",
    into: Annotated[str, typer.Option(help="Restore into a new database of this name, replace nothing.")] = "",
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
    from hubbackup.preflight import Request
    from hubbackup.sizes import human_bytes
    from hubbackup.sources import Wanted

    if sum(map(bool, (file, latest, from_s3, undo))) != 1:
        raise UsageError("restore needs one of FILE, --latest, --from-s3 NAME or --undo", remedy="hubbackup list")
    if into and (database or in_place):
        raise UsageError("--into replaces nothing: it can't go with --database or --in-place")
    app = make_app()
    target = into or database or app.database
    if not yes and not sys.stdin.isatty():
        raise UsageError("nobody is there to confirm this", remedy="run it on a terminal, or add --yes")
    if undo:
        if not yes:
            _ask(target, f"The database {target} is swapped with the one that the last restore replaced.")
        outcome = app.undo_restore(target)
        if json:
            print_json({"exit_code": outcome.exit_code, **outcome.fields})
        else:
            print(f"{target} is again {outcome.fields['restored']}; what was live is {outcome.fields['kept_as']}.")
            print(NEXT_STEP)
        return outcome.exit_code
    outcome = app.restore(
        Request(
            target=target,
            replace=not into,
            in_place=in_place,
            no_owner=no_owner,
            with_globals=with_globals,
            force=force,
        ),
        Wanted(database or app.database, file=file, from_s3=from_s3, any_database=bool(into)),
        confirm=lambda preview: _confirm(preview, yes=yes, quiet=json),
        progress=None if json else terminal_progress(),
    )
    if json:
        print_json({"exit_code": outcome.exit_code, **outcome.fields})
        return outcome.exit_code
    facts = outcome.fields
    print(f"{facts['name']} is now the database {target}: {facts['tables']} tables, {facts['rows']} rows.")
    if facts["roles_created"]:
        print(f"Roles created: {', '.join(facts['roles_created'])} (without passwords unless the backup has them).")
    if facts["kept_as"]:
        size = human_bytes(facts["kept_bytes"])
        print(f"The old database is kept as {facts['kept_as']} ({size}). To go back: hubbackup restore --undo")
        print(NEXT_STEP)
    return outcome.exit_code


NEXT_STEP = "Next: docker compose -f docker-compose.prod.yml restart api"


def _confirm(preview: Preview, *, yes: bool, quiet: bool) -> None:
    """Show what will happen, and ask for the database's name. Raises UsageError where it is not typed."""
    import sys
    from datetime import UTC, datetime

    from hubbackup.cli.common import human_age
    from hubbackup.sizes import human_bytes

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
            f"database  {request.target} ({human_bytes(live.size_bytes)}) will be replaced,"
            f" and its {live.sessions} sessions ended"
        )
        if request.in_place:
            lines.append(
                "RISK      --in-place drops it first: until the end there is no database, and if the restore fails"
                " only the safety backup is left"
            )
        else:
            lines.append("          it is kept beside, and `hubbackup restore --undo` brings it back")
    lines += [f"note      {note}" for note in preview.notes]
    if not quiet:
        print("\n".join(lines), file=sys.stderr)
    if not yes:
        _ask(request.target, "")


def _ask(target: str, text: str) -> None:
    import sys

    from hubbackup.errors import UsageError

    if text:
        print(text, file=sys.stderr)
    print(f"Type the database's name ({target}) to go on: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != target:
        raise UsageError("not confirmed, nothing was done")
