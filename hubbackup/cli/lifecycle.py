"""`hubbackup lifecycle`."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

import typer

from hubbackup.app.credentials import read_credentials
from hubbackup.app.lifecycle import Lifecycle
from hubbackup.cli.options import Json
from hubbackup.cli.output import complain, print_json, say
from hubbackup.cli.printer import PRINTER
from hubbackup.cli.session import make_app
from hubbackup.cli.terminal import ask_for_word, print_warnings
from hubbackup.errors import UsageError
from hubbackup.lifecycle.job import Plan
from hubbackup.lifecycle.rules import filter_of
from hubbackup.streams.cancel import Cancel


def lifecycle(
    action: Annotated[
        Literal["show", "apply"], typer.Argument(help="show the rules, or apply the settings to them.")
    ],
    store: Annotated[str, typer.Option("--store", metavar="STORE", help="s3 or mirror.")] = "s3",
    credentials: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="A file with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of another key, or - for stdin.",
            show_default=False,
        ),
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    json: Json = False,
) -> int:
    """Show or set the bucket's own rules: archive, expire, tidy up.

    By S3_ARCHIVE_AFTER_DAYS, S3_ARCHIVE_CLASS, S3_EXPIRE_AFTER_DAYS and S3_NONCURRENT_DAYS. Rules of others stay as
    they are.
    """
    app = make_app()
    rules = Lifecycle(app, store, read_credentials(credentials) if credentials else None)
    if action == "show":
        plan = rules.plan()
        if json:
            print_json({"exit_code": 0, **_document(plan)})
        else:
            say(*_lines(plan))
        return 0
    if not yes and not sys.stdin.isatty():
        raise UsageError("nobody is there to confirm this", remedy="run it on a terminal, or add --yes")
    outcome = rules.apply(lambda plan: _confirm(plan, app.cancel, yes=yes, quiet=json))
    PRINTER.result_stands = True
    if json:
        print_json({"exit_code": outcome.exit_code, **outcome.facts(), "problems": outcome.problems})
        return outcome.exit_code
    say(outcome.message)
    if outcome.result.tagged:
        say(f"{outcome.result.tagged} backups that were there before have the tag now.")
    print_warnings(outcome.problems)
    return outcome.exit_code


def _confirm(plan: Plan, cancel: Cancel, *, yes: bool, quiet: bool) -> None:
    """Show what will be changed, and ask. Raises UsageError where nobody says yes."""
    if not quiet or not yes:
        complain(*_lines(plan))
    if yes:
        return
    ask_for_word(cancel, "Type yes to change the bucket's rules: ", "yes")


def _lines(plan: Plan) -> list[str]:
    """The rules that are there, the difference, and what to know of it."""
    change, lines = plan.change, [f"bucket    {plan.where}"]
    lines += [f"others    {rule.get('ID') or 'without an id'}, on {_place(rule)}: stays" for rule in change.others]
    lines += [f"as asked  {rule.sentence()}" for rule in change.kept]
    lines += [f"+ add     {rule.sentence()}" for rule in change.added]
    for old, new in change.changed:
        lines.append(f"~ change  {new.sentence()}")
        lines.append(f"          it is now: {_spelled(old)}")
    lines += [f"- remove  {rule.get('ID')}: {_spelled(rule)}" for rule in change.removed]
    if plan.untagged:
        lines.append(f"+ tag     {len(plan.untagged)} backups that are there, such as {plan.untagged[0].name}")
    lines += [f"note      {sentence}" for sentence in change.overlaps]
    if plan.empty:
        lines.append("The bucket is as the settings ask: there is nothing to do.")
    return lines


def _place(rule: Any) -> str:
    return filter_of(rule)[0] or "the whole bucket"


def _spelled(rule: Any) -> str:
    """What a rule of ours, that somebody may have changed, does now."""
    parts = [f"{key} {_flat(value)}" for key, value in rule.items() if key != "ID"]
    return ", ".join(parts)


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={_flat(one)}" for key, one in value.items())
    return "; ".join(map(_flat, value)) if isinstance(value, list) else str(value)


def _document(plan: Plan) -> dict[str, Any]:
    change = plan.change
    return {
        "bucket": plan.where,
        "rules": [rule.to_s3() for rule in change.kept],
        "others": [dict(rule) for rule in change.others],
        "add": [rule.to_s3() for rule in change.added],
        "change": [{"from": dict(old), "to": new.to_s3()} for old, new in change.changed],
        "remove": [dict(rule) for rule in change.removed],
        "untagged": [one.name for one in plan.untagged],
        "overlaps": list(change.overlaps),
    }
