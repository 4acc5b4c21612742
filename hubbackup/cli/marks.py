"""`hubbackup pin`, `unpin` and `accept`: what the operator says of a backup."""

from __future__ import annotations

from hubbackup.catalog.backup import Mark
from hubbackup.cli.options import BackupName, Json
from hubbackup.cli.output import print_json, say
from hubbackup.cli.session import make_app
from hubbackup.cli.terminal import print_warnings
from hubbackup.jobs.kinds import RunKind

DONE = {"pin": "is pinned", "unpin": "is no longer pinned", "accept": "is accepted"}


def pin(name: BackupName, json: Json = False) -> int:
    """Keep a backup forever, in every store."""
    return _mark(name, Mark.PINNED, on=True, kind="pin", json=json)


def unpin(name: BackupName, json: Json = False) -> int:
    """Let a pinned backup be pruned like the others of its age."""
    return _mark(name, Mark.PINNED, on=False, kind="unpin", json=json)


def accept(name: BackupName, json: Json = False) -> int:
    """Accept a suspicious backup as the new normal.

    Pruning goes on, and the next backups are compared with this one.
    """
    return _mark(name, Mark.ACCEPTED, on=True, kind="accept", json=json)


def _mark(name: str, mark: Mark, *, on: bool, kind: RunKind, json: bool) -> int:
    outcome = make_app().mark(name, mark, on=on, kind=kind)
    if json:
        print_json({"exit_code": outcome.exit_code, **outcome.facts(), "problems": outcome.problems})
        return outcome.exit_code
    say(f"{outcome.result.name} {DONE[kind]} in {', '.join(outcome.result.stores)}")
    print_warnings(f"{problem}; give the command again once this store answers" for problem in outcome.problems)
    return outcome.exit_code
