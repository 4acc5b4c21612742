"""`hubbackup restore`."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from hubbackup.app import App
from hubbackup.cli.options import Identity, Json, Latest
from hubbackup.cli.output import print_json, say
from hubbackup.cli.restore_all import NEXT_STEP, restore_all
from hubbackup.cli.restore_question import confirm
from hubbackup.cli.session import make_opening_app
from hubbackup.cli.terminal import SENTENCES, ask_for_name, progress
from hubbackup.config.bucket import S3
from hubbackup.errors import UsageError
from hubbackup.jobs.results import RestoreResult, UndoResult
from hubbackup.lifecycle.thaw import ThawOrder
from hubbackup.postgres.side_databases import check_target
from hubbackup.restore.preflight import Request
from hubbackup.units import human_bytes
from hubbackup.verify.selector import BackupSelector

File = Annotated[str, typer.Argument(metavar="FILE", help="A backup's path or name.", show_default=False)]
FromS3 = Annotated[str, typer.Option(metavar="NAME", help="As NAME --from s3.", show_default=False)]
From = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="STORE",
        help="The store to take it from: local, s3 or mirror. Default: for FILE this disk, else any.",
        show_default=False,
    ),
]
Everything = Annotated[
    bool, typer.Option("--all", help="On an empty server: the newest good backup of every database.")
]
Undo = Annotated[bool, typer.Option("--undo", help="Swap back the database that the last restore replaced.")]
Database = Annotated[
    str | None,
    typer.Option(metavar="DATABASE", help="The database to replace. Default: POSTGRES_DB.", show_default=False),
]
Into = Annotated[
    str | None,
    typer.Option(metavar="NEW", help="Restore into this new database; replace nothing.", show_default=False),
]
Tables = Annotated[
    list[str] | None,
    typer.Option(
        "--table",
        metavar="T",
        help="With --into: the whole schema, and the rows of this table only; may be given again.",
        show_default=False,
    ),
]
InPlace = Annotated[
    bool,
    typer.Option(
        "--in-place",
        help="Where there is no room for two databases: take a safety backup, drop the live database, then restore."
        " Until the end there is no database.",
    ),
]
NoOwner = Annotated[
    bool, typer.Option("--no-owner", help="Give to POSTGRES_USER what belongs to roles that do not exist here.")
]
WithGlobals = Annotated[
    bool, typer.Option("--globals", help="First create, from the backup, the roles that do not exist here.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Go on although the server is older, or there is too little room.")
]
Foreign = Annotated[
    bool, typer.Option("--foreign", help="Take a backup that is not known to be ours, without a question.")
]
Untried = Annotated[
    bool,
    typer.Option("--untried", help="With --in-place: go on where it could not be tried whether the schema restores."),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, max=32, help="Sessions that load at once. Default: RESTORE_JOBS.", show_default=False
    ),
]
Thaw = Annotated[
    bool, typer.Option("--thaw", help="Have the archived copy in that store thawed first, which takes hours.")
]
ThawDays = Annotated[
    int, typer.Option(metavar="N", min=1, max=90, help="With --thaw: for how many days it can be read then.")
]
ThawTier = Annotated[
    Literal["standard", "bulk", "expedited"], typer.Option(help="With --thaw: how fast, at which price.")
]
Wait = Annotated[bool, typer.Option("--wait", help="With --thaw: wait for it, else give the command again later.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def restore(
    file: File = "",
    latest: Latest = False,
    from_store: From = "",
    from_s3: FromS3 = "",
    everything: Everything = False,
    undo: Undo = False,
    database: Database = None,
    into: Into = None,
    tables: Tables = None,
    in_place: InPlace = False,
    no_owner: NoOwner = False,
    with_globals: WithGlobals = False,
    force: Force = False,
    foreign: Foreign = False,
    identity: Identity = None,
    untried: Untried = False,
    jobs: Jobs = None,
    thaw: Thaw = False,
    thaw_days: ThawDays = 3,
    thaw_tier: ThawTier = "standard",
    wait: Wait = False,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Restore a backup: prove it, load it, compare it, swap it in.

    The backup is loaded into a new database beside the live one. The live one is kept, for --undo.
    """
    if sum(map(bool, (file, latest, from_s3, undo, everything))) != 1:
        raise UsageError(
            "restore needs one of FILE, --latest, --from-s3 NAME, --all or --undo, and no second one",
            remedy="hubbackup list has the names",
        )
    if everything and (database is not None or into is not None or in_place or tables or untried):
        raise UsageError(
            "--all restores every database under its own name, on an empty server: it can't go with --database,"
            " --into, --table, --in-place or --untried",
            remedy="one database alone: hubbackup restore --latest --database D",
        )
    # Asked by `is not None`: an empty --into "$NAME" must never turn into a restore over the live database.
    if into is not None and (database is not None or in_place or undo):
        raise UsageError("--into replaces nothing: it can't go with --database, --in-place or --undo")
    if from_s3 and from_store not in ("", S3):
        raise UsageError(f"--from-s3 NAME is NAME --from s3: it can't go with --from {from_store}")
    if undo and (
        in_place or no_owner or with_globals or force or foreign or identity or from_store or jobs is not None
    ):
        raise UsageError("--undo only swaps: of the other options it takes --database, --yes and --json")
    if tables and into is None:
        raise UsageError(
            "--table never replaces the live database, which would lose all other rows",
            remedy="restore … --into NEW --table T makes a database beside it; hubbackup recover T brings rows back",
        )
    if untried and not in_place:
        raise UsageError("--untried is for --in-place: nothing else drops a database before the restore is done")
    name, store = file or from_s3, S3 if from_s3 else from_store.removeprefix("all")
    if thaw and (everything or not (name and store)):
        raise UsageError("--thaw takes one copy in one bucket", remedy="hubbackup restore NAME --from s3 --thaw")
    if wait and not thaw:
        raise UsageError("--wait is for --thaw: nothing else takes hours")
    app = make_opening_app(identity)
    named = "" if everything else into if into is not None else app.database if database is None else database
    request = Request(
        named if everything else check_target(named),
        into is None,
        in_place=in_place,
        no_owner=no_owner,
        with_globals=with_globals,
        force=force,
        untried=untried,
        jobs=app.settings.restore_sessions if jobs is None else jobs,
        tables=tuple(tables or ()),
    )
    if not yes and not sys.stdin.isatty():
        raise UsageError("nobody is there to confirm this", remedy="run it on a terminal, or add --yes")
    if everything:
        return restore_all(app, request, from_store or "all", yes=yes, foreign=foreign, json=json)
    if undo:
        return _undo(app, request.target, yes=yes, json=json)
    if thaw:
        app.thaw(name, store, ThawOrder(thaw_days, thaw_tier, wait))
    outcome = app.restore(
        request,
        BackupSelector(
            request.target if request.replace else _database_of(app, name, request.target),
            file=name,
            store=store,
            any_database=not request.replace,
            foreign=foreign or sys.stdin.isatty(),  # where somebody can be asked, they are
        ),
        confirm=lambda preview: confirm(preview, app, yes=yes, foreign=foreign, quiet=json),
        progress=progress(quiet=json),
    )
    if json:
        print_json({"exit_code": outcome.exit_code, **outcome.facts()})
    else:
        option = app.chosen.option(request.target)
        _print_restored(outcome.result, outcome.seconds, option, replaced=request.replace)
    return outcome.exit_code


def _database_of(app: App, name: str, new: str) -> str:
    """The one whose backup goes into the database `new`, which is not known of every file."""
    try:
        return app.database_of(name)
    except UsageError as error:
        if name:
            return new
        raise UsageError(str(error), remedy="name the backup: hubbackup list") from error


def _undo(app: App, target: str, *, yes: bool, json: bool) -> int:
    if not yes:
        ask_for_name(
            app.cancel, target, f"The database {target} will be swapped with what the last restore replaced."
        )
    outcome = app.undo_restore(target)
    if json:
        print_json({"exit_code": outcome.exit_code, **outcome.facts()})
    else:
        _print_undone(outcome.result)
    return outcome.exit_code


def _print_restored(restored: RestoreResult, seconds: float, option: str, *, replaced: bool) -> None:
    """What was restored, and what to do now; `option`: what a command needs to be about its database."""
    if restored.only:
        say(f"The rows of {', '.join(restored.only)} alone are in it; its other tables are empty.")
    proof = "" if restored.proven else " It had no manifest: only the file itself could be proven."
    say(
        f"{restored.name} is now the database {restored.database}: {restored.tables} tables, {restored.rows} rows,"
        f" in {seconds:.1f} s.{proof}"
    )
    if restored.left_out:
        say(f"The backup was made without {restored.left_out}.")
    if restored.roles_created:
        say(f"Roles created: {', '.join(restored.roles_created)} (without passwords unless the backup has them).")
    if restored.retried_serially and not SENTENCES.has_shown(restored.retried_serially):
        say(f"Note: several sessions could not load it, one has: {restored.retried_serially}")
    for remark in restored.remarks:
        if not SENTENCES.has_shown(remark):
            say(f"Note: {remark}")
    if restored.kept_as:
        size = human_bytes(restored.kept_bytes)
        say(f"The old database is kept as {restored.kept_as} ({size}). To go back: hubbackup restore --undo{option}")
    if restored.safety_backup:
        say(f"Its previous state is in a safety backup. To go back: hubbackup restore {restored.safety_backup}")
    if replaced:
        say(NEXT_STEP)


def _print_undone(undone: UndoResult) -> None:
    say(f"The database {undone.database} is again what was kept as {undone.restored}.")
    if undone.kept_as:
        say(f"What was live is kept as {undone.kept_as} ({human_bytes(undone.kept_bytes)}).")
    say(NEXT_STEP)
