"""`hubbackup adopt`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from hubbackup.cli.options import Json
from hubbackup.cli.output import complain, print_json, say
from hubbackup.cli.session import make_app
from hubbackup.cli.terminal import ask_for_word, print_warnings, progress
from hubbackup.errors import UsageError
from hubbackup.streams.cancel import Cancel
from hubbackup.units import human_bytes
from hubbackup.verify.adopt import Stranger


def adopt(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Backups, as `hubbackup list` prints them.")
    ] = None,
    all_earlier: Annotated[
        bool, typer.Option("--all-earlier", help="Every backup that was made before manifests were signed here.")
    ] = False,
    foreign: Annotated[
        bool, typer.Option("--foreign", help="Adopt also what is not known to be ours, without a question.")
    ] = False,
    json: Json = False,
) -> int:
    """Take backups of before, or of another server, for our own.

    Each is read through against its manifest, which then is signed with our key.
    """
    if bool(names) == all_earlier:
        raise UsageError("adopt takes NAMES, or --all-earlier", remedy="hubbackup list shows what is not ours")
    app = make_app()
    outcome = app.adopt(
        names or (),
        confirm=lambda found: None if foreign else _confirm(found, app.cancel),
        progress=progress(quiet=json),
    )
    if json:
        print_json({"exit_code": outcome.exit_code, **outcome.facts(), "problems": outcome.problems})
        return outcome.exit_code
    for one in outcome.result.adopted:
        say(f"adopted   {one}")
    say(outcome.message)
    print_warnings(outcome.problems)
    return outcome.exit_code


def _confirm(found: Sequence[Stranger], cancel: Cancel) -> None:
    """Show what is foreign, and ask. Raises UsageError where nobody says yes."""
    lines = [
        f"foreign   {one.name} in {one.target.describe()} ({human_bytes(one.judged.manifest.stored_bytes)}):"
        f" {one.judged.doubt.removeprefix('foreign: ')}"
        for one in found
    ]
    if not sys.stdin.isatty():
        raise UsageError(
            f"{found[0].name} is not known to be a backup of this server: {found[0].judged.doubt}",
            remedy="run it on a terminal, or add --foreign, if you know who made it",
        )
    complain(*lines, "Once adopted it counts as our own: it may be the newest, and is restored without a question.")
    ask_for_word(cancel, "Do you know who made it? Type yes to go on: ", "yes")
