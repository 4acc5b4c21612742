"""The long-running process: APScheduler in its threads, the main thread waiting for a signal.

Nothing that fails in a run ends the daemon: it reports the failure, and tries again at the next slot.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from hubbackup import package_version
from hubbackup.app import App
from hubbackup.catalog.listing import newest_good
from hubbackup.config.changes import compare
from hubbackup.config.schedule import Schedule
from hubbackup.daemon.status_server import serve_status
from hubbackup.daemon.watchdog import watch
from hubbackup.doctor import all_checks, examine
from hubbackup.doctor.site import Site
from hubbackup.errors import HubbackupError, LockHeldError, StoppedError
from hubbackup.health import beat, health_path
from hubbackup.jobs.leftovers import remove_leftovers
from hubbackup.jobs.state_file import read_json, write_json
from hubbackup.status.overdue import missed_run
from hubbackup.streams import malloc

BEAT_SECONDS = 60
WATCH_SECONDS = 600
POST_SECONDS = 1.0
"""Time to send the message of a run that was just stopped."""
STOP_SECONDS = 8.0
"""How long a run gets to clean up after a signal: inside the ten seconds that `docker stop` waits."""


class ScheduleTrigger(BaseTrigger):  # type: ignore[misc]
    """A `Schedule` as APScheduler wants it. Runs missed in a stall come as one."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The next due time at or after `now`, and after the previous one."""
        since = now - timedelta(microseconds=1)
        if previous_fire_time is not None:
            since = max(since, previous_fire_time)
        return self._schedule.next_after(since)


class Daemon:
    """The scheduler and its jobs for one App."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._log = app.log
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            # One worker for the work: runs queue up behind each other. Heartbeat and watch must not wait for them,
            # nor they for the reading of old copies.
            executors={name: ThreadPoolExecutor(1) for name in ("work", "reading", "beat", "watch")},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )

    def run(self) -> int:
        """Serve until a signal asks to stop; returns the exit code, 128 + the signal's number."""
        app, cancel = self._app, self._app.cancel
        database, notifier = app.database, app.notifier  # settings are judged before anything starts
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda received, _frame: cancel.set(received))
        self._tell_changes()
        notifier.post.start()
        self._scheduler.add_job(self._backup, ScheduleTrigger(app.settings.schedule), id="backup", executor="work")
        self._scheduler.add_job(self._beat, IntervalTrigger(seconds=BEAT_SECONDS), id="heartbeat", executor="beat")
        drills = app.settings.drills
        if drills is not None:
            self._scheduler.add_job(self._drill, ScheduleTrigger(drills), id="drill", executor="work")
        verifications = app.settings.verifications
        if verifications is not None:
            self._scheduler.add_job(self._verify, ScheduleTrigger(verifications), id="verify", executor="reading")
        self._scheduler.add_job(self._remove_leftovers, id="leftovers", executor="work")
        self._scheduler.add_job(self._watch, IntervalTrigger(seconds=WATCH_SECONDS), id="watch", executor="watch")
        self._scheduler.add_job(self._doctor, id="doctor", executor="watch")
        self._scheduler.start()
        self._beat()
        self._log.info(
            "daemon.started",
            message="the backup service has started",
            version=package_version(),
            database=database,
            schedule=app.settings.backup_schedule,
            time_zone=app.settings.tz,
            next_run=self._next_run(),
            stores=[target.describe() for target in app.targets()],
            retention_days=app.settings.backup_retention_days,
        )
        serve_status(app)
        self._start_with_a_run()
        try:
            while True:
                cancel.wait(3600)
        except StoppedError as stop:
            return self._stop(stop)

    def _stop(self, stop: StoppedError) -> int:
        """Let the run at work clean up, for a bounded time; called from the main thread, never from a handler."""
        self._log.info("daemon.stopping", message="asked to stop", signal=stop.signal_number)
        waiter = threading.Thread(target=self._scheduler.shutdown, name="shutdown", daemon=True)
        waiter.start()
        waiter.join(STOP_SECONDS)
        self._app.notifier.post.stop(POST_SECONDS)
        health_path().unlink(missing_ok=True)
        clean = not waiter.is_alive()
        self._log.info("daemon.stopped", message="the backup service has stopped", clean=clean)
        if not clean:
            os._exit(stop.exit_code)  # the interpreter's own end would wait for the worker, and Docker would not
        return stop.exit_code

    def _start_with_a_run(self) -> None:
        """BACKUP_ON_START, or the catch-up of a run that was due while the daemon was down."""
        app = self._app
        reason: dict[str, str] | None = None
        if app.settings.backup_on_start:
            reason = {"reason": "BACKUP_ON_START"}
        elif app.settings.backup_catch_up:
            try:
                newest = newest_good([app.local], app.zone, app.database, datetime.now(UTC))
            except HubbackupError as error:
                self._log.warning("catch_up.unknown", message=str(error), remedy=error.remedy)
                return
            since = newest.started_at if newest is not None else None
            due = missed_run(app.settings.schedule, since, app.state.history, datetime.now(UTC))
            if due is not None:
                reason = {"reason": "missed", "due": due.isoformat()}
        if reason is not None:
            self._log.info("backup.catch_up", message="a backup at the start", **reason)
            self._scheduler.add_job(self._backup, id="backup-at-start", executor="work")

    def _backup(self) -> None:
        self._guard("backup", self._app.backup)
        self._beat()

    def _drill(self) -> None:
        self._guard("drill", self._app.drill)

    def _verify(self) -> None:
        self._guard("verify", self._app.verify_due)

    def _remove_leftovers(self) -> None:
        with contextlib.suppress(StoppedError):
            remove_leftovers(self._log, self._app.leftovers())

    def _guard(self, kind: str, work: Callable[[], object]) -> None:
        """Do a run; the daemon survives whatever ends the run. The run has reported its end itself."""
        try:
            work()
        except LockHeldError as error:  # told here only: a run without the lock has no closing line of its own
            self._log.warning(f"{kind}.skipped", message=str(error))
        except HubbackupError:
            pass  # the run has told its end itself
        except Exception:  # noqa: BLE001 - as said above
            self._log.exception(f"{kind}.crashed", message=f"{kind} failed: internal error")
        finally:
            malloc.give_back()

    def _tell_changes(self) -> None:
        """Log what was changed in the settings since the last start."""
        path = self._app.state.settings_file
        changes, kept = compare(read_json(path), self._app.loaded.values())
        with contextlib.suppress(OSError):  # then the next start compares with an older one
            write_json(path, kept)
        if changes:
            names = ", ".join(change.name for change in changes)
            self._log.info(
                "settings.changed",
                message=f"settings changed: {names}",
                changes=[asdict(change) for change in changes],
            )

    def _watch(self) -> None:
        try:
            watch(self._app, datetime.now(UTC))
        except HubbackupError as error:
            self._log.warning("watch.failed", message=str(error), remedy=error.remedy)

    def _doctor(self) -> None:
        """Report now what would go wrong tonight."""
        site = Site(self._app)
        try:
            findings = list(examine(site, all_checks(site)))
        except StoppedError:
            return
        for finding in findings:
            if finding.status == "fail":
                self._log.warning(
                    "doctor.failed",
                    message=f"Diagnostic: {finding.sentence}",
                    check=finding.name,
                    remedy=finding.remedy,
                )
        counts = Counter(str(finding.status) for finding in findings)
        self._log.info("doctor.finished", message="doctor finished", **counts)
        malloc.give_back()

    def _beat(self) -> None:
        """Written by the scheduler's own worker, so that its age shows whether the scheduler runs."""
        try:
            write_json(health_path(), beat(self._next_run()))
        except OSError as error:
            self._log.warning("health.unwritable", message=f"the heartbeat can't be written: {error}")

    def _next_run(self) -> str:
        # Not asked of the scheduler: it waits for this worker while it shuts down, holding the lock of its jobs.
        due = self._app.settings.schedule.next_after(datetime.now(UTC))
        return due.astimezone(self._app.zone).isoformat() if due is not None else "never"
