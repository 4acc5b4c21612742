"""Silence is an alarm: whoever hears nothing of a backup must not take it for a good sign.

A run that fails reports it itself. This is for what no run reports: a schedule that never comes, a service that
hangs, backups that were removed by someone else.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from hubbackup.app import App
from hubbackup.catalog.backup import CLOCK_TOLERANCE, Backup
from hubbackup.catalog.listing import newest_good, scan
from hubbackup.errors import StoreError
from hubbackup.notify.alerts import LastGood, compose_future, compose_silence
from hubbackup.status.overdue import Deadline, deadline_of, should_tell


def look(app: App, now: datetime) -> tuple[Deadline, Backup | None]:
    """Whether a backup is overdue, and the last good one. S3 is asked only where the disk has none young enough."""
    last_good = _newest_good(app, now, with_remotes=False)
    deadline = deadline_at(app, last_good, now)
    if deadline.overdue and app.remotes:
        last_good = _newest_good(app, now, with_remotes=True)
        deadline = deadline_at(app, last_good, now)
    return deadline, last_good


def deadline_at(app: App, last_good: Backup | None, now: datetime) -> Deadline:
    """The deadline on `last_good`; where there never was one, the watch's own beginning counts."""
    took = timedelta(0)
    if last_good is not None and last_good.manifest is not None:
        took = max(took, last_good.manifest.finished_at - last_good.manifest.started_at)
    at_work = app.state.at_work()
    busy = at_work is not None and at_work.alive and at_work.kind == "backup"
    return deadline_of(
        app.settings.schedule,
        since=last_good.started_at if last_good is not None else app.notifier.watch.since(now),
        took=took,
        now=now,
        busy_since=datetime.fromisoformat(at_work.started_at) if busy and at_work is not None else None,
    )


def watch(app: App, now: datetime) -> None:
    """One check by the daemon: alert once a day while a backup is overdue. Raises HubbackupError."""
    _tell_of_the_future(app, now)
    deadline, last_good = look(app, now)
    memory = app.notifier.watch
    if not deadline.overdue:
        memory.quiet()
        return
    if not should_tell(memory.told_at(), now):
        return
    memory.tell(now)
    told = LastGood(str(last_good.name), last_good.started_at) if last_good is not None else None
    app.log.error(
        "backup.overdue",
        message="there is no recent backup",
        due=deadline.due,
        last_good=told.name if told else None,
        last_good_at=told.started_at if told else None,
    )
    app.notifier.send(compose_silence(deadline, app.notifier.place(), told, now))


def _tell_of_the_future(app: App, now: datetime) -> None:
    """A backup from the future is no proof of anything: the clock was wrong then, or is now. Told once a day."""
    memory = app.notifier.watch
    latest = max(scan([app.local], app.database), key=lambda one: one.name.local_time, default=None)
    if latest is None or latest.name.started_at(app.zone) <= now + CLOCK_TOLERANCE:
        memory.forget_future()
        return
    if should_tell(memory.told_of_future_at(), now):
        memory.tell_of_future(now)
        name = str(latest.name)
        remedy = f"set the clock right; where it was wrong then: hubbackup verify {name}, then move the file away"
        app.log.error("backup.from_future", message=f"{name} is from the future", name=name, remedy=remedy)
        app.notifier.send(compose_future(name, remedy, app.notifier.place(), now))


def _newest_good(app: App, now: datetime, *, with_remotes: bool) -> Backup | None:
    found: list[Backup | None] = []
    for target in (app.local, *(app.remotes if with_remotes else ())):
        try:
            found.append(newest_good([target], app.zone, app.database, now))
        except StoreError as error:  # a store that can't be read does not prove a backup
            app.log.debug("watch.unreadable", message=str(error), store=target.name)
    return max(filter(None, found), key=lambda backup: backup.started_at, default=None)
