"""What a restore shows before it does anything, and the question that has to be answered."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from hubbackup.app import App
from hubbackup.cli.output import complain
from hubbackup.cli.restore_all import WHOSE
from hubbackup.cli.terminal import ask_for_name
from hubbackup.errors import UsageError
from hubbackup.restore.job import Preview
from hubbackup.units import human_age, human_bytes
from hubbackup.verify.source import Source


def confirm(preview: Preview, app: App, *, yes: bool, foreign: bool, quiet: bool) -> None:
    """Show what will happen, and ask for the database's name. Raises UsageError where it is not typed.

    `yes` does not answer for a backup that is foreign: only `foreign` does.
    """
    source, request = preview.source, preview.request
    ask = not yes or (source.foreign and not foreign)
    if preview.untried and yes and not request.untried:
        raise UsageError(
            "--in-place drops the live database, and whether the schema restores could not be tried:"
            f" {preview.untried}",
            remedy="--yes alone is not enough for that: add --untried, or answer on a terminal, without --yes",
        )
    if ask or not quiet:
        undo = f"hubbackup restore --undo{app.chosen.option(request.target)}"
        complain(_backup_line(preview), *_database_lines(preview, undo), *_notes(preview))
    if ask:
        ask_for_name(app.cancel, request.target, WHOSE if source.foreign else "")


def _backup_line(preview: Preview) -> str:
    source, facts = preview.source, preview.facts
    rows = sum(facts.rows.values())
    return (
        f"backup    {source.name} from {source.where}: {_standing(source)}, {human_bytes(source.stored_bytes)},"
        f" {facts.table_count} tables, {rows} rows"
    )


def _standing(source: Source) -> str:
    """How far it can be believed, and how old it is."""
    proof = "FOREIGN" if source.foreign else "proven" if source.manifest is not None else "UNPROVEN"
    if source.started_at is None:
        return proof
    return f"{proof}, {human_age((datetime.now(UTC) - source.started_at).total_seconds())} old"


def _database_lines(preview: Preview, undo: str) -> Iterator[str]:
    """What becomes of the database; `undo`: the command that brings back what is replaced."""
    source, request = preview.source, preview.request
    if source.manifest is not None and source.manifest.without:
        yield f"left out  the backup was made without {source.manifest.without}"
    live = preview.server.databases.get(request.target)
    if live is None:
        yield f"database  {request.target} will be created"
        return
    yield (
        f"database  {request.target} ({human_bytes(live.size_bytes)}) will be replaced;"
        f" {live.sessions} live connections will be ended"
    )
    if preview.lost.sentence:
        kept = "the safety backup" if request.in_place else "the database that is kept beside"
        yield (
            f"RISK      {request.target} holds rows that the backup was made without: {preview.lost.sentence};"
            f" afterwards they are only in {kept}"
        )
    if not request.in_place:
        yield f"          it is kept beside, and `{undo}` brings it back"
        return
    yield (
        "RISK      --in-place drops it first: until the end there is no database, and if the restore fails"
        " there are the safety backup and what was loaded"
    )
    if preview.untried:
        yield f"RISK      whether its schema restores could not be tried: {preview.untried}"


def _notes(preview: Preview) -> Iterator[str]:
    if preview.sessions > 1:
        yield f"load      by {preview.sessions} sessions at once; --jobs 1 takes one"
    for note in preview.notes:
        yield f"note      {note}"
