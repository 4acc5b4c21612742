"""Whether a daemon starts with a backup: the first one, one that was missed, or because it is told to."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime

from hubbackup.app import App
from hubbackup.app.server import ASK_SECONDS
from hubbackup.catalog.backup import Backup
from hubbackup.catalog.listing import newest_good, scan
from hubbackup.errors import HubbackupError
from hubbackup.postgres.client import describe
from hubbackup.status.overdue import missed_run

EARLIEST = datetime.fromtimestamp(0, UTC)
"""Any backup serves the slot of the first one."""
WAIT_SECONDS = 120.0
"""How long the first backup waits for the database, which may be starting as well."""


@dataclass(frozen=True)
class Reason:
    """Why there is a backup at the start. `due`: when it should have been. `databases`: of which; none means all."""

    reason: str
    sentence: str
    due: datetime | None = None
    slot: datetime | None = None
    """A good backup of since then, by another daemon, takes its place."""
    databases: tuple[str, ...] = ()

    @property
    def first(self) -> bool:
        """Nothing was ever backed up."""
        return self.reason == "first"

    def fields(self) -> dict[str, str]:
        """For the log."""
        return {"reason": self.reason, **({"due": self.due.isoformat()} if self.due else {})}


def reason_to_start_with_a_run(app: App, now: datetime) -> Reason | None:
    """The reason, or None. What can't be found out is logged, and is no reason.

    Of several databases those are backed up for which there is one.
    """
    if app.settings.backup_on_start:
        return Reason("BACKUP_ON_START", "BACKUP_ON_START")
    names = app.chosen.at_hand()
    found = {name: reason for name in names if (reason := _reason(app, name, now)) is not None}
    if not found:
        return None
    first = next((one for one in found.values() if not one.first), next(iter(found.values())))
    if app.chosen.names.only is not None:
        return first
    due = min((one.due for one in found.values() if one.due is not None), default=None)
    # Where it is all of them, a run of its own kind finds those that nobody has named yet.
    databases = tuple(found) if len(found) < len(names) else ()
    slot = max((one.slot for one in found.values() if one.slot is not None), default=None)
    return Reason(first.reason, f"{first.sentence} ({', '.join(found)})", due, slot, databases)


def _reason(app: App, database: str, now: datetime) -> Reason | None:
    settings = app.settings
    try:
        newest = newest_good([app.local], app.zone, database, now)
        of = app.chosen.one_of_several(database)
        last = newest or _of_this_server(app, database, now)
        since = last.started_at if last is not None else None
        records = (record for record in app.state.history.runs() if record.is_about(of))
        due = missed_run(settings.schedule, since, records, now)
        if settings.backup_catch_up and due is not None:
            return Reason("missed", "the last scheduled one was missed", due, _last_slot(app, due, now))
        if settings.backup_on_first_start and newest is None and _nowhere(app, database):
            sentence = "there is none yet" if of else f"there is none of {database} yet"
            return Reason("first", sentence, slot=EARLIEST)
    except HubbackupError as error:
        app.log.warning("catch_up.unknown", message=str(error), remedy=error.remedy)
    return None


def _of_this_server(app: App, database: str, now: datetime) -> Backup | None:
    """The newest good backup in a remote target, for a disk that has none: a pod's spool begins empty.

    Only of the very server that is there now. On a new one the database may still wait for its restore.
    """
    if app.state.history.last("backup", app.chosen.one_of_several(database)) is not None or not app.remotes:
        return None
    for target in app.remotes:
        with contextlib.suppress(HubbackupError):
            newest = newest_good([target], app.zone, database, now)
            if newest is None or newest.manifest is None:
                continue
            runner = app.server.open_runner(app.cancel, ASK_SECONDS)
            there = describe(runner, app.server.connection("first"), database).system_identifier
            return newest if newest.manifest.system_identifier == there else None
    return None


def _last_slot(app: App, due: datetime, now: datetime) -> datetime:
    """Of all slots that were missed since `due`."""
    last = app.settings.schedule.last_until(now)
    return due if last is None else max(due, last)


def _nowhere(app: App, database: str) -> bool:
    """Whether no store has a backup of this database. Raises HubbackupError where one does not answer.

    On a new server S3 has the backups of the old one, and the database may still be empty: a backup of that would be
    the newest.
    """
    for target in app.targets():
        if next(scan([target], database), None) is None:
            continue
        if target.remote:
            app.log.info(
                "backup.not_first",
                message=f"no backup at the start: {target.title} has backups of {database}, this disk none",
                remedy=f"on a new server, restore first: hubbackup list --store {target.name},"
                f" hubbackup restore NAME --from {target.name}",
            )
        return False
    return True


def make_key(app: App) -> None:
    """The key of the manifests, from the first start on; where there can't be one, each backup says so as well."""
    key = app.manifest_key
    try:
        known = key.trust().key is not None
        key.make()
    except HubbackupError as error:
        app.log.warning("key.failed", message=str(error), remedy=error.remedy)
        return
    if not known:
        app.log.info(
            "key.made",
            message=f"a key that signs manifests was made: {key.path}",
            remedy="keep a copy of it outside this server; hubbackup config says how to carry it to another one",
        )
