"""Silence is an alarm: whoever hears nothing of a backup must not take it for a good sign.

A run that fails reports it itself. This is for what no run reports: a schedule that never comes, a service that
hangs, backups that were removed by someone else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from hubbackup.app import App
from hubbackup.catalog.backup import CLOCK_TOLERANCE, Backup
from hubbackup.catalog.listing import newest_good, scan
from hubbackup.errors import StoreError
from hubbackup.notify.messages import LastGood, compose_future, compose_silence
from hubbackup.status.overdue import Deadline, Watch, deadline_of, should_tell


@dataclass(frozen=True)
class Overdue:
    """A database without a good backup as young as the schedule promises, and the last one there is."""

    database: str
    deadline: Deadline
    last_good: Backup | None

    @property
    def told(self) -> LastGood | None:
        """The last one, as a message has it."""
        return LastGood(str(self.last_good.name), self.last_good.started_at) if self.last_good is not None else None


def look(app: App, database: str, now: datetime) -> tuple[Deadline, Backup | None]:
    """Whether a backup is overdue, and the last good one. S3 is asked only where the disk has none young enough."""
    of = app.chosen.one_of_several(database)
    last_good = _newest_good(app, database, now, with_remotes=False)
    deadline = deadline_at(app, last_good, now, of)
    if deadline.overdue and app.remotes:
        last_good = _newest_good(app, database, now, with_remotes=True)
        deadline = deadline_at(app, last_good, now, of)
    return deadline, last_good


def deadline_at(app: App, last_good: Backup | None, now: datetime, database: str = "") -> Deadline:
    """The deadline on `last_good`, of `database` where there are several.

    Where there never was one, the watch's own beginning counts.
    """
    took = timedelta(0)
    if last_good is not None and last_good.manifest is not None:
        took = max(took, last_good.manifest.finished_at - last_good.manifest.started_at)
    at_work = app.state.at_work()
    busy = at_work is not None and at_work.alive and at_work.kind == "backup"
    return deadline_of(
        app.settings.schedule,
        since=last_good.started_at if last_good is not None else app.notifier.watch(database).since(now),
        took=took,
        now=now,
        busy_since=datetime.fromisoformat(at_work.started_at) if busy and at_work is not None else None,
    )


def watch(app: App, now: datetime) -> None:
    """One check by the daemon: alert once a day while a backup is overdue. Raises HubbackupError."""
    late = []
    for database in app.chosen.at_hand():
        memory = app.notifier.watch(app.chosen.one_of_several(database))
        _tell_of_the_future(app, database, memory, now)
        deadline, last_good = look(app, database, now)
        if not deadline.overdue:
            memory.quiet()
        elif should_tell(memory.told_at(), now):
            memory.tell(now)
            late.append(Overdue(database, deadline, last_good))
    if late:
        _tell(app, late, now)


def _tell(app: App, late: Sequence[Overdue], now: datetime) -> None:
    """A line for each, and one message."""
    for one in late:
        of = app.chosen.one_of_several(one.database)
        app.log.error(
            "backup.overdue",
            message=f"there is no recent backup{f' of {of}' if of else ''}",
            due=one.deadline.due,
            last_good=one.told.name if one.told else None,
            last_good_at=one.told.started_at if one.told else None,
            **({"database": of} if of else {}),
        )
    first, others = late[0], [one.database for one in late[1:]]
    place = app.notifier.place(app.chosen.one_of_several(first.database))
    app.notifier.send(compose_silence(first.deadline, place, first.told, now, others))


def _tell_of_the_future(app: App, database: str, memory: Watch, now: datetime) -> None:
    """A backup from the future is no proof of anything: the clock was wrong then, or is now. Told once a day."""
    try:
        latest = max(scan([app.local], database), key=lambda one: one.name.local_time, default=None)
    except StoreError as error:  # what is not known is not over
        app.log.debug("watch.unreadable", message=str(error), store=app.local.name)
        return
    if latest is None or latest.name.started_at(app.zone) <= now + CLOCK_TOLERANCE:
        memory.forget_future()
        return
    if should_tell(memory.told_of_future_at(), now):
        memory.tell_of_future(now)
        name = str(latest.name)
        remedy = f"set the clock right; where it was wrong then: hubbackup verify {name}, then move the file away"
        app.log.error("backup.from_future", message=f"{name} is from the future", name=name, remedy=remedy)
        place = app.notifier.place(app.chosen.one_of_several(database))
        app.notifier.send(compose_future(name, remedy, place, now))


def _newest_good(app: App, database: str, now: datetime, *, with_remotes: bool) -> Backup | None:
    found: list[Backup | None] = []
    for target in (app.local, *(app.remotes if with_remotes else ())):
        try:
            found.append(newest_good([target], app.zone, database, now))
        except StoreError as error:  # a store that can't be read does not prove a backup
            app.log.debug("watch.unreadable", message=str(error), store=target.name)
    return max(filter(None, found), key=lambda backup: backup.started_at, default=None)
