"""`hubbackup pin`, `unpin` and `accept`: what the operator says of a backup."""

from __future__ import annotations

from typing import Annotated

import typer

Name = Annotated[str, typer.Argument(help="A backup's name, as `hubbackup list` prints it.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def pin(name: Name, json: Json = False) -> int:
    """Keep a backup forever: no prune removes it, in no store."""
    return _mark(name, "pinned", on=True, kind="pin", json=json)


def unpin(name: Name, json: Json = False) -> int:
    """Let a pinned backup go with the others of its age."""
    return _mark(name, "pinned", on=False, kind="unpin", json=json)


def accept(name: Name, json: Json = False) -> int:
    """Take a suspicious backup for the new normal: rotation goes on, and the next ones are measured by it."""
    return _mark(name, "accepted", on=True, kind="accept", json=json)


def _mark(name: str, mark: str, *, on: bool, kind: str, json: bool) -> int:
    import sys

    from hubbackup.catalog.backup import Mark
    from hubbackup.cli.common import make_app, print_json

    outcome = make_app().mark(name, Mark(mark), on=on, kind=kind)
    if json:
        print_json({"exit_code": outcome.exit_code, **outcome.fields, "problems": outcome.problems})
        return outcome.exit_code
    print(f"{outcome.message} in {', '.join(outcome.fields['stores'])}")
    for problem in outcome.problems:
        print(f"AVERTISSEMENT: {problem}; give the command again once this store answers", file=sys.stderr)
    return outcome.exit_code
