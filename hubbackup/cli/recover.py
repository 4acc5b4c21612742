"""`hubbackup recover`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated, cast

import typer

from hubbackup.app import App
from hubbackup.cli.options import Database, Identity, Json, Latest
from hubbackup.cli.output import complain, print_json, say
from hubbackup.cli.session import make_opening_app
from hubbackup.cli.terminal import SENTENCES, ask_for_word, progress
from hubbackup.errors import UsageError
from hubbackup.jobs.results import RecoverResult
from hubbackup.recover.condition import check
from hubbackup.recover.job import RecoverRequest
from hubbackup.recover.row_report import Apply, RowReport, Values
from hubbackup.shown_text import printable
from hubbackup.units import human_age

ANSWER_MINUTES = 10
"""While the question stands, the comparison stays open on the server, and with it a lock against ALTER TABLE."""
SHOWN_ROWS = 20
SHOWN_CELL = 40
SHOWN_CELLS = 6


def recover(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The table, as psql takes it.", show_default=False)],
    from_: Annotated[
        str, typer.Option("--from", metavar="NAME", help="The backup. Default: the newest good one.")
    ] = "",
    latest: Latest = False,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="CONDITION", help="Only rows that this holds for: SQL, as after WHERE.", show_default=False
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMNS", help="Compare by these columns. Default: the primary key.", show_default=False
        ),
    ] = None,
    apply: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help="missing: insert what the live table lacks. changed: also set back what differs."
            " Default: only look.",
        ),
    ] = "",
    database: Database = "",
    identity: Identity = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    json: Json = False,
) -> int:
    """Compare a table with a backup, row by row, and bring rows back.

    Nothing is ever deleted, and without --apply nothing is changed.
    """
    if from_ and latest:
        raise UsageError("recover takes --from NAME or --latest, not both")
    if apply not in ("", "missing", "changed"):
        raise UsageError(f"--apply takes missing or changed, not {apply}")
    if apply and not yes and not sys.stdin.isatty():
        raise UsageError("nobody is there to confirm this", remedy="run it on a terminal, or add --yes")
    if where is not None:
        check(where)
    if key is not None and not key.strip():
        raise UsageError("--key is empty", remedy="name the columns that tell the rows apart, or leave it out")
    app = make_opening_app(identity)
    reports: list[RowReport] = []

    def confirm(report: RowReport) -> None:
        reports.append(report)
        _show(report, quiet=json)
        if not yes and (report.to_insert or report.to_update):
            _ask(app, report)

    outcome = app.recover(
        RecoverRequest(table, where or "", key or "", cast(Apply, apply)),
        from_,
        database=database,
        confirm=confirm,
        progress=progress(quiet=json),
    )
    if json:
        print_json({"exit_code": outcome.exit_code, **outcome.facts(), **reports[0].document()})
    else:
        _print_done(outcome.result, apply, outcome.seconds)
    return outcome.exit_code


def _ask(app: App, report: RowReport) -> None:
    """Raises UsageError where something else is typed, or nothing for ten minutes."""
    doing = [f"insert {_rows(report.to_insert)}"] if report.to_insert else []
    doing += [f"set back {_rows(report.to_update)}"] if report.to_update else []
    question = f"This will {' and '.join(doing)} in {report.table} of {report.database}. Type yes to go on: "
    ask_for_word(app.cancel, question, "yes", minutes=ANSWER_MINUTES)


def _show(report: RowReport, *, quiet: bool) -> None:
    """What was found. With --json it is for whoever is asked."""
    tell = complain if quiet else say
    if quiet and not sys.stderr.isatty():
        return
    age = (
        f", {human_age((datetime.now(UTC) - report.taken_at).total_seconds())} old"
        if report.taken_at is not None
        else ""
    )
    chosen = f", {_rows(report.chosen)} of them chosen" if report.chosen != report.rows else ""
    tell(
        f"backup     {report.backup}{age}: {report.table} has {_rows(report.rows)}{chosen}",
        f"compared   by {', '.join(report.key)} ({report.key_title}) with the live database {report.database}",
        f"equal      {_rows(report.equal)}",
        f"missing    {_rows(report.missing)}{' that the live table lacks' if report.missing else ''}",
        *_sample(report.shown, report.missing_sample, report.missing),
        f"different  {_rows(report.different)}{_differing(report)}",
    )
    for one in report.different_sample:
        changes = [f"{name} {_cell(live)} -> {_cell(backup)}" for name, (backup, live) in one.columns.items()]
        tell(f"    {', '.join(map(_cell, one.key))}: {_some(changes)}")
    tell(
        *_more(len(report.different_sample), report.different),
        f"only live  {_rows(report.only_live)}{' that the backup lacks; they stay' if report.only_live else ''}",
        *_sample(report.shown, report.only_live_sample, report.only_live),
        *(f"note       {note}" for note in report.notes),
    )


def _differing(report: RowReport) -> str:
    if not report.differing:
        return ""
    return f" (live -> backup): {_some([f'{name} in {_rows(count)}' for name, count in report.differing.items()])}"


def _sample(columns: tuple[str, ...], rows: tuple[Values, ...], count: int) -> list[str]:
    lines = [
        f"    {_some([f'{name} {_cell(value)}' for name, value in zip(columns, row, strict=True)])}" for row in rows
    ]
    return lines + _more(len(rows), count)


def _more(shown: int, count: int) -> list[str]:
    return [f"    … and {count - shown:,} more"] if count > shown else []


def _some(parts: list[str]) -> str:
    more = len(parts) - SHOWN_CELLS
    return ", ".join(parts[:SHOWN_CELLS]) + (f", and {more} columns more" if more > 0 else "")


def _cell(value: str | None) -> str:
    if value is None:
        return "NULL"
    text = printable(value)
    return f"{text[: SHOWN_CELL - 1]}…" if len(text) > SHOWN_CELL else text or "''"


def _rows(count: int) -> str:
    return f"{count:,} {'row' if count == 1 else 'rows'}"


def _print_done(result: RecoverResult, apply: str, seconds: float) -> None:
    for one in result.advanced:
        say(f"The sequence {one.rpartition(': ')[0]} stands at {one.rpartition(': ')[2]} now, behind what came back.")
    for remark in result.remarks:
        if not SENTENCES.has_shown(remark):
            say(f"Note: {remark}")
    if result.inserted or result.updated:
        say(f"Done in {seconds:.1f} s: {_rows(result.inserted)} inserted, {_rows(result.updated)} set back.")
    elif apply:
        say("There was nothing to bring back: nothing was changed.")
    elif result.missing or result.different:
        say("Nothing was changed. To bring rows back, add --apply missing, or --apply changed for both.")
