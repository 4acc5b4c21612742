"""`hubbackup drill`."""

from __future__ import annotations

from typing import Annotated

import typer


def drill(
    name: Annotated[str, typer.Argument(help="A backup's name. Default: the newest.", show_default=False)] = "",
    latest: Annotated[bool, typer.Option("--latest", help="The newest good backup (the default).")] = False,
    store: Annotated[str, typer.Option(help="local or s3. Default: in turns, where S3 is configured.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> int:
    """Restore a backup for real into a server that is thrown away, compare it, and time it."""
    from hubbackup.cli.common import make_app, print_json, terminal_progress
    from hubbackup.errors import UsageError

    if name and latest:
        raise UsageError("drill takes a NAME or --latest, not both")
    app = make_app()
    outcome = app.drill(name, store, progress=None if json else terminal_progress())
    if json:
        print_json({"exit_code": outcome.exit_code, **outcome.fields})
        return outcome.exit_code
    facts = outcome.fields
    print(
        f"{facts['name']} ({facts['store']}) restores: {facts['tables']} tables, {facts['rows']} rows"
        f" in {facts['rto_seconds']} s, in {facts['place']}."
    )
    for check, answer in facts["checks"].items():
        print(f"  {check} -> {answer}")
    return outcome.exit_code
