"""`hubbackup restore --all`: what is shown, what is asked, and what became of each database."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime

from hubbackup.all_databases.job import NotAllRestoredError, Shown
from hubbackup.all_databases.plan import Planned, ServerPlan
from hubbackup.app import App
from hubbackup.cli.output import complain, print_json, say
from hubbackup.cli.terminal import SENTENCES, ask_for_word, print_warnings, progress
from hubbackup.jobs.results import DatabaseEnding
from hubbackup.restore.job import Preview
from hubbackup.restore.preflight import Request
from hubbackup.units import human_age, human_bytes, human_seconds

WHOSE = (
    "It is not known to be a backup of this server. If it comes from your old server: hubbackup config says how to\n"
    "carry its key over, and nothing is asked. Go on only if you know who made it: a restore runs what is in it."
)
NEXT_STEP = "Next: docker compose -f docker-compose.prod.yml restart api"
WORD = "all"


def restore_all(app: App, request: Request, store: str, *, yes: bool, foreign: bool, json: bool) -> int:
    """Restore every database; returns the exit code. Raises HubbackupError where not all are there at the end."""
    asked = sys.stdin.isatty()
    notes: set[str] = set()

    def confirm(plan: ServerPlan) -> None:
        strangers = [one for one in plan.restored if one.choice.foreign]
        ask = not yes or (bool(strangers) and not foreign)
        if ask or not json:
            complain(*_lines(plan, request))
        if ask:
            if strangers:
                complain(f"FOREIGN: {', '.join(one.database for one in strangers)}.", *WHOSE.split("\n"))
            ask_for_word(app.cancel, f"Type {WORD} to go on: ", WORD)

    def begun(planned: Planned, preview: Preview) -> None:
        fresh = [note for note in preview.notes if note not in notes]
        notes.update(fresh)
        if not json:
            complain(*(f"note      {planned.database}: {note}" for note in fresh))

    def ended(ending: DatabaseEnding) -> None:
        if not json:
            _print_ending(ending)

    shown = Shown(confirm, begun, ended)
    try:
        outcome = app.restore_all(
            request, store, foreign=foreign or asked, shown=shown, progress=progress(quiet=json)
        )
    except NotAllRestoredError as error:
        if not json:
            raise
        print_json({"exit_code": error.exit_code, "error": error.kind, "message": str(error), **error.result.facts()})
        return error.exit_code
    if json:
        print_json({"exit_code": outcome.exit_code, **outcome.facts()})
        return outcome.exit_code
    made = outcome.result
    if made.roles_created:
        say(f"Roles created: {', '.join(made.roles_created)} (without passwords unless the backups have them).")
    say(
        f"{made.restored} databases were restored, {made.tables} tables, {made.rows} rows, in"
        f" {human_seconds(outcome.seconds)}."
    )
    print_warnings(outcome.problems)
    say(NEXT_STEP)
    return outcome.exit_code


def _lines(plan: ServerPlan, request: Request) -> Iterator[str]:
    """What will be done, database by database; then what is not."""
    wanted = plan.restored
    total = human_bytes(sum(one.size_bytes for one in wanted))
    yield (
        f"server    PostgreSQL {plan.server.version}: {len(wanted)} databases will be restored, one after the other,"
        f" some {total} when they are there"
    )
    for one in wanted:
        yield f"restore   {one.database}: {_backup(one)}"
        if one.manifest is not None and one.manifest.without:
            yield f"          the backup was made without {one.manifest.without}"
        if one.exists:
            yield "          it exists and is empty: that one is kept beside"
    for one in plan.others:
        if one.present_from:
            yield f"present   {one.database}: restored before, from {one.present_from}; it stays as it is"
        else:
            yield f"LEFT OUT  {one.database}: {one.why_not}"
            if one.remedy:
                yield f"          what to do: {one.remedy}"
    if request.with_globals:
        made = ", ".join(plan.roles.made) or "none, all of them exist"
        yield f"globals   roles that will be created: {made}; those that exist stay as they are"
    else:
        yield "globals   no role is created (--globals creates those of the backups)"
    for note in plan.notes:
        yield f"note      {note}"
    for store in plan.not_listed:
        yield f"note      {store} could not be listed: what it alone has is not restored"


def _backup(one: Planned) -> str:
    manifest = one.manifest
    assert manifest is not None  # noqa: S101 - it is to be restored
    age = human_age((datetime.now(UTC) - manifest.started_at).total_seconds())
    proof = "FOREIGN" if one.choice.foreign else "proven"
    return (
        f"{one.name} from {one.choice.targets[0].describe()}: {proof}, {age} old,"
        f" {human_bytes(manifest.stored_bytes)}, {manifest.table_count} tables, {sum(manifest.rows.values())} rows"
    )


def _print_ending(ending: DatabaseEnding) -> None:
    """One line for each database as soon as it is known, on stdout what is there."""
    if ending.ending == "restored":
        say(
            f"{ending.database}: restored from {ending.name} ({ending.store}): {ending.tables} tables, {ending.rows}"
            f" rows, in {human_seconds(ending.seconds)}"
        )
        for remark in ending.remarks:
            if not SENTENCES.has_shown(remark):
                say(f"Note: {ending.database}: {remark}")
        if ending.left_out:
            say(f"          the backup was made without {ending.left_out}")
        if ending.kept_as:
            say(f"          what was there is kept as {ending.kept_as}")
    elif ending.ending == "present":
        say(f"{ending.database}: there already, restored from {ending.name}")
    elif not SENTENCES.has_shown(ending.cause):
        complain(f"{ending.database}: not restored: {ending.cause}")
        if ending.remedy:
            complain(f"  what to do: {ending.remedy}")
