"""`hubbackup check`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from hubbackup.app import App
from hubbackup.cli.options import Database
from hubbackup.cli.output import say
from hubbackup.cli.session import make_app
from hubbackup.daemon.watchdog import deadline_at
from hubbackup.errors import NAGIOS_UNKNOWN, HubbackupError
from hubbackup.status.nagios import PluginOutput, StoreView, assess, parse_age, worst_of


def check(
    max_age: Annotated[
        str,
        typer.Option(
            metavar="AGE",
            help="How old the last good backup may be: 26h, 90m, 2d. Default: as the schedule promises.",
        ),
    ] = "",
    database: Database = "",
) -> int:
    """Report in one line, for Nagios, whether the backups are well.

    The exit codes are those of Nagios, also for bad usage or settings: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
    """
    try:
        output = _ask(max_age, database)
    except HubbackupError as error:
        output = PluginOutput(NAGIOS_UNKNOWN, f"{error}; {error.remedy}" if error.remedy else str(error))
    say(str(output))
    return output.code


def _ask(max_age: str, database: str) -> PluginOutput:
    limit = parse_age(max_age) if max_age else None
    app = make_app()
    now = datetime.now(UTC)
    if database:
        app.demand_known(database)
        return _assess(app, database, limit, now)
    found = {name: _assess(app, name, limit, now) for name in app.chosen.at_hand()}
    return worst_of(found) if len(found) > 1 else next(iter(found.values()))


def _assess(app: App, database: str, limit: timedelta | None, now: datetime) -> PluginOutput:
    views = [StoreView.of(target, database, app.zone, now) for target in app.targets()]
    newest = max((view.newest for view in views if view.newest), key=lambda backup: backup.started_at, default=None)
    one_of_several = app.chosen.one_of_several(database)
    deadline = deadline_at(app, newest, now, one_of_several).deadline
    last_run = app.state.history.last("backup", one_of_several)
    return assess(database, views, last_run, deadline=deadline, max_age=limit, now=now)
