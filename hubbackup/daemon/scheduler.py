"""The long-running process: APScheduler in its threads, the main thread waiting for a signal.

Nothing that fails in a run ends the daemon: it reports the failure, and tries again at the next slot.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from apscheduler.events import EVENT_JOB_MAX_INSTANCES, JobSubmissionEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.job import Job
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from hubbackup import package_version
from hubbackup.app import App
from hubbackup.config.changes import Change
from hubbackup.config.schedule import Schedule
from hubbackup.daemon.clock import Clock, ScheduleTrigger
from hubbackup.daemon.edits import Edits
from hubbackup.daemon.first_run import WAIT_SECONDS, make_key, reason_to_start_with_a_run
from hubbackup.daemon.status_server import serve_status
from hubbackup.daemon.strangers import Strangers
from hubbackup.daemon.watchdog import watch
from hubbackup.doctor import all_checks, examine
from hubbackup.doctor.site import Site
from hubbackup.errors import HubbackupError, LockHeldError, StoppedError
from hubbackup.health import beat, health_path
from hubbackup.jobs.leftovers import remove_leftovers
from hubbackup.jobs.state_file import write_json
from hubbackup.streams import malloc
from hubbackup.units import human_seconds

LOOK_SECONDS = 15
"""Between two looks at the settings and at the clock."""
BEAT_SECONDS = 60
WATCH_SECONDS = 600
POST_SECONDS = 1.0
"""Time to send the message of a run that was just stopped."""
STOP_SECONDS = 8.0
"""How long a run gets to clean up after a signal: inside the ten seconds that `docker stop` waits."""
PORT_SECONDS = 5.0
"""How long the status page of the daemon before may take to close."""
RETENTION = ("BACKUP_RETENTION_DAYS", "BACKUP_KEEP_", "S3_RETENTION_DAYS", "S3_KEEP_")


@dataclass(frozen=True, eq=False)
class Waiting:
    """A backup for this slot, of these databases or of all, that has found another run at work."""

    slot: datetime
    databases: Sequence[str] = ()


@dataclass(frozen=True)
class Shift:
    """What one daemon hands on to the next, for changed settings: the last slot of each of its schedules."""

    ended_at: datetime
    last: dict[str, datetime] = field(default_factory=dict)
    waiting: Waiting | None = None


def _databases_field(app: App) -> dict[str, object]:
    only = app.chosen.names.only
    return {"database": only} if only is not None else {"databases": list(app.chosen.at_hand())}


class _Scheduler(BackgroundScheduler):  # type: ignore[misc]
    """Its thread may be about to remove a job at the moment of the shutdown, and then dies of not finding it."""

    def _process_jobs(self) -> float | None:
        try:
            seconds: float | None = super()._process_jobs()
        except JobLookupError:
            return None
        return seconds


class _Worker(ThreadPoolExecutor):  # type: ignore[misc]
    """Remembers for which slot it starts each job: APScheduler does not tell the job."""

    def __init__(self, slots: dict[str, datetime]) -> None:
        super().__init__(1)
        self._slots = slots

    def _do_submit_job(self, job: Job, run_times: list[datetime]) -> None:
        self._slots[job.id] = run_times[-1].astimezone(UTC)
        super()._do_submit_job(job, run_times)


class Daemon:
    """The scheduler and its jobs for one App. `before`: the daemon whose place it takes, in this process."""

    def __init__(self, app: App, edits: Edits, changes: Sequence[Change] = (), before: Shift | None = None) -> None:
        self._app = app
        self._edits = edits
        self._changes = changes
        self._before = before
        self._log = app.log
        self._strangers = Strangers()
        logging.getLogger("apscheduler.scheduler").setLevel(logging.ERROR)  # a skipped slot is said here, once
        self._clock = Clock()
        self._triggers: dict[str, ScheduleTrigger] = {}
        self._slots: dict[str, datetime] = {}
        self._waiting: Waiting | None = before.waiting if before is not None else None
        self._looks_for: Waiting | None = None
        self._at_work = 0
        self._remark = ""
        self._counting = threading.Lock()
        self._scheduler = _Scheduler(
            timezone=UTC,
            # One worker for the work: runs queue up behind each other. Heartbeat and watch must not wait for them,
            # nor they for the reading of old copies.
            executors={name: _Worker(self._slots) for name in ("work", "reading", "beat", "watch")},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )

    def run(self) -> int | Shift:
        """Serve until a signal asks to stop, which gives the exit code; or until the settings have changed."""
        app, stop_page = self._app, lambda: None
        make_key(app)
        app.notifier.post.start()
        self._add_jobs()
        self._scheduler.start()
        self._beat()
        self._log.info(
            "daemon.started",
            message="the backup service has started",
            version=package_version(),
            **_databases_field(app),
            schedule=app.settings.backup_schedule,
            time_zone=app.settings.tz,
            next_run=self._next_run(),
            stores=[target.describe() for target in app.targets()],
            retention_days=app.settings.backup_retention_days,
        )
        try:
            stop_page = serve_status(app, patience_seconds=PORT_SECONDS if self._before else 0.0)
            self._start_with_a_run()
            while True:
                app.cancel.wait(LOOK_SECONDS)
                self._look_at_the_clock()
                self._edits.look()
                self._look_at_the_other()
                if self._edits.remark != self._remark:
                    self._scheduler.modify_job("heartbeat", next_run_time=datetime.now(UTC))
                if self._edits.pending is not None and not self._at_work:
                    return self._hand_over(stop_page)
        except StoppedError as stop:
            return self._stop(stop)

    def _add_jobs(self) -> None:
        settings, add = self._app.settings, self._scheduler.add_job
        self._schedule("backup", self._backup, settings.schedule)
        self._schedule("drill", self._drill, settings.drills)
        self._schedule("verify", self._verify, settings.verifications, "reading")
        self._add_beats()
        add(self._remove_leftovers, id="leftovers", executor="work")
        add(self._doctor, id="doctor", executor="watch")
        if any(change.name.startswith(RETENTION) for change in self._changes):
            add(self._prune, id="prune", executor="work")
        self._scheduler.add_listener(self._tell_of_a_skipped_slot, EVENT_JOB_MAX_INSTANCES)

    def _schedule(
        self, name: str, work: Callable[[], None], schedule: Schedule | None, executor: str = "work"
    ) -> None:
        if schedule is None:
            return
        # A slot that passed between the two daemons is this one's, and one that the last has served is not.
        since = datetime.now(UTC)
        if self._before is not None:
            since = max(self._before.ended_at, self._before.last.get(name, self._before.ended_at))
        self._triggers[name] = ScheduleTrigger(schedule, since)
        self._scheduler.add_job(work, self._triggers[name], id=name, executor=executor)

    def _add_beats(self) -> None:
        """What comes every so many seconds, beginning now."""
        for name, work, seconds in (("heartbeat", self._beat, BEAT_SECONDS), ("watch", self._watch, WATCH_SECONDS)):
            every = IntervalTrigger(seconds=seconds)
            executor = "beat" if name == "heartbeat" else name
            self._scheduler.add_job(work, every, id=name, executor=executor, replace_existing=True)

    def _look_at_the_clock(self) -> None:
        """Runs are due by the wall clock: one that was set must not make APScheduler sleep through them."""
        jump = self._clock.jumped_seconds()
        if jump:
            way = "back" if jump < 0 else "forward, or the machine slept"
            self._log.warning(
                "clock.jumped",
                message=f"the clock was set by {human_seconds(abs(jump))} {way}",
                seconds=round(jump),
                next_run=self._next_run(),
            )
        if jump < 0:
            for name, trigger in self._triggers.items():
                self._scheduler.reschedule_job(name, trigger=trigger)
            self._add_beats()
        self._scheduler.wakeup()

    def _hand_over(self, stop_page: Callable[[], None]) -> Shift:
        """End, but for the process, once the runs at work have; returns what the next daemon is to know."""
        ended_at = datetime.now(UTC)
        waiter = self._shut_down()
        while waiter.is_alive():
            waiter.join(0.2)
            self._app.cancel.check()
        stop_page()
        self._app.notifier.post.stop(POST_SECONDS)
        last = {name: trigger.last for name, trigger in self._triggers.items()}
        return Shift(ended_at, last, self._waiting)

    def _shut_down(self) -> threading.Thread:
        waiter = threading.Thread(target=self._scheduler.shutdown, name="shutdown", daemon=True)
        waiter.start()
        return waiter

    def _stop(self, stop: StoppedError) -> int:
        """Let the run at work clean up, for a bounded time; called from the main thread, never from a handler."""
        self._log.info("daemon.stopping", message="asked to stop", signal=stop.signal_number)
        waiter = self._shut_down()
        waiter.join(STOP_SECONDS)
        self._app.notifier.post.stop(POST_SECONDS)
        health_path().unlink(missing_ok=True)
        clean = not waiter.is_alive()
        self._log.info("daemon.stopped", message="the backup service has stopped", clean=clean)
        if not clean:
            os._exit(stop.exit_code)  # the interpreter's own end would wait for the worker, and Docker would not
        return stop.exit_code

    def _start_with_a_run(self) -> None:
        """Unless this daemon follows another one in this process."""
        reason = None if self._before else reason_to_start_with_a_run(self._app, datetime.now(UTC))
        if reason is None:
            return
        self._log.info("backup.catch_up", message=f"a backup at the start: {reason.sentence}", **reason.fields())
        work = self._first_backup if reason.first else self._back_up
        self._scheduler.add_job(work, args=[reason.slot, reason.databases], id="backup-at-start", executor="work")

    def _first_backup(self, slot: datetime | None, databases: Sequence[str]) -> None:
        """At the first start the database's container may be starting as well."""
        with contextlib.suppress(HubbackupError):  # then the run says what is wrong
            self._app.server.wait_for(self._app.chosen.home, WAIT_SECONDS)
        self._back_up(slot, databases)

    def _backup(self) -> None:
        self._back_up(self._slots["backup"])

    def _back_up(self, slot: datetime | None, databases: Sequence[str] = ()) -> None:
        """For a slot of the schedule, or without one in any case; of these databases, or of all."""
        waited, self._waiting = self._waiting, None
        is_told = waited is not None and waited.slot == slot
        self._guard("backup", lambda app: app.backup(databases, slot=slot), slot, databases, is_told=is_told)
        self._beat()

    def _look_at_the_other(self) -> None:
        """Try again: the run at work, typed or another daemon's, ends at some time, and may have served the slot.

        Never by the worker itself: a scheduler that shuts down waits for it, and holds the lock of its jobs.
        """
        waiting = self._waiting
        if waiting is not None and waiting is not self._looks_for:
            self._looks_for = waiting
            self._scheduler.add_job(
                self._back_up_again, args=[waiting], id="backup-again", executor="work", replace_existing=True
            )

    def _back_up_again(self, waiting: Waiting) -> None:
        """Unless the next slot has ended that."""
        if waiting is self._waiting and self._slots.get("backup", waiting.slot) <= waiting.slot:
            self._back_up(waiting.slot, waiting.databases)

    def _drill(self) -> None:
        self._guard("drill", lambda app: app.drill())

    def _verify(self) -> None:
        self._guard("verify", lambda app: app.verify_due())

    def _prune(self) -> None:
        """A changed retention holds now, not after the next good backup, which it may have to make room for."""
        self._guard("prune", lambda app: app.prune(databases=app.chosen.at_hand()))

    def _remove_leftovers(self) -> None:
        with contextlib.suppress(StoppedError):
            remove_leftovers(self._log, self._app.leftovers())

    def _tell_of_a_skipped_slot(self, event: JobSubmissionEvent) -> None:
        """The daemon's own run of this kind is still at work when the next one is due."""
        if event.job_id in self._triggers:
            due = ", ".join(moment.astimezone(self._app.zone).isoformat() for moment in event.scheduled_run_times)
            self._log.warning(
                f"{event.job_id}.skipped",
                message=f"the {event.job_id} that was due {due} is skipped, since the one before is still at work",
            )

    def _guard(
        self,
        kind: str,
        work: Callable[[App], object],
        slot: datetime | None = None,
        databases: Sequence[str] = (),
        *,
        is_told: bool = False,
    ) -> None:
        """Do a run with the newest settings; the daemon survives whatever ends it. The run reports its end itself.

        For a `slot` another run, of whoever began it, is waited for, and reported unless it `is_told`.
        """
        with self._counting:
            self._at_work += 1
        try:
            work(self._edits.look())
        except LockHeldError as error:  # told here only: a run without the lock has no closing line of its own
            if slot is None:
                self._log.warning(f"{kind}.skipped", message=str(error))
                return
            if not is_told:
                self._log.info("backup.waiting", message=f"{error}; what comes of it is awaited", slot=slot)
            self._waiting = Waiting(slot, databases)
        except HubbackupError:
            pass  # the run has told its end itself
        except Exception:  # noqa: BLE001 - as said above
            self._log.exception(f"{kind}.crashed", message=f"{kind} failed: internal error")
        finally:
            with self._counting:
                self._at_work -= 1
            malloc.give_back()

    def _watch(self) -> None:
        for look in (watch, self._strangers.look):
            try:
                look(self._app, datetime.now(UTC))
            except StoppedError:
                return
            except HubbackupError as error:  # the other is looked for all the same
                self._log.warning("watch.failed", message=str(error), remedy=error.remedy)

    def _doctor(self) -> None:
        """Report now what would go wrong tonight."""
        site = Site(self._app, by_hand=False)
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
            self._remark = self._edits.remark
            write_json(health_path(), beat(self._next_run(), remark=self._remark))
        except OSError as error:
            self._log.warning("health.unwritable", message=f"the heartbeat can't be written: {error}")

    def _next_run(self) -> str:
        # Not asked of the scheduler: it waits for this worker while it shuts down, holding the lock of its jobs.
        due = self._app.settings.schedule.next_after(datetime.now(UTC))
        return due.astimezone(self._app.zone).isoformat() if due is not None else "never"
