"""Checks of the service itself: settings, schedule, daemon, notifications, log."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from hubbackup.config.bucket import variable
from hubbackup.config.values import OFF
from hubbackup.doctor import Check, Diagnosis, fail, ok, skip, warn
from hubbackup.doctor.site import Site
from hubbackup.health import check_beat, health_path, remark_of


def settings(site: Site) -> Diagnosis:
    """Misspelt and unreadable settings."""
    warnings = site.app.loaded.warnings
    if warnings:
        return warn("; ".join(warnings), "correct .env.production; it is read again within the minute")
    return ok("no setting is unknown or malformed")


def schedule(site: Site) -> Diagnosis:
    """The next runs, in the time zone that is meant."""
    planned, runs, since = site.app.settings.schedule, [], site.now
    for _ in range(3):
        due = planned.next_after(since)
        if due is None:  # settings with one that is never due are refused
            break
        runs.append(due.astimezone(site.app.zone).strftime("%a %d %b %H:%M %Z"))
        since = due
    return ok(f"next runs: {', '.join(runs)} ({planned.expression} in {planned.time_zone})")


def daemon(site: Site) -> Diagnosis:
    """Whether a daemon keeps the schedule."""
    healthy, sentence = check_beat(health_path())
    remark = remark_of(health_path()) if healthy else ""
    if remark:
        return warn(sentence, "where the settings are refused, correct .env.production: it is read again by itself")
    if healthy:
        return ok(sentence)
    return warn(sentence, "docker compose --profile backup up -d backup-cron; run this check inside its container")


def notifications(site: Site) -> Diagnosis:
    """Whether anybody is notified of a failure, and whether sinks answer and messages get out. None is sent."""
    notifier = site.app.notifier  # raises SettingsError for a bad URL
    found = notifier.sinks.probe()
    if notifier.pinger is not None:
        found["HEARTBEAT_URL"] = notifier.pinger.probe()
    if not found:
        return warn(
            "nobody is notified when a backup fails",
            "set NOTIFICATION_URLS (mailtos://… and 100 others) or HEARTBEAT_URL; docs/notifications.md",
        )
    dead = [f"{label}: {reason}" for label, reason in found.items() if reason]
    if dead:
        return warn(
            f"messages would not arrive: {'; '.join(dead)}",
            "correct NOTIFICATION_URLS or HEARTBEAT_URL, then: hubbackup notify-test",
        )
    stuck = [message for message in notifier.spool.waiting() if message.attempts > 0]
    if stuck:
        return warn(
            f"{len(stuck)} messages could not be sent yet, the oldest of {stuck[0].created_at:%Y-%m-%d %H:%M} UTC",
            "hubbackup notify-test shows what each sink answers",
        )
    told = ", ".join(f"{label} ({'answers' if reason == '' else 'not tried'})" for label, reason in found.items())
    return ok(f"notified: {told}; hubbackup notify-test sends to each")


def log_file(site: Site) -> Diagnosis:
    """Whether LOG_FILE can be written."""
    name = site.app.settings.log_file
    if not name:
        return skip("LOG_FILE is not set: docker logs has the log")
    path = Path(name)
    writable = os.access(path, os.W_OK) if os.path.exists(path) else os.access(path.parent, os.W_OK)
    if not writable:
        return fail(
            f"LOG_FILE={path} can't be written", f"let user id {os.geteuid()} write there, and mount the directory"
        )
    return ok(f"{path} can be written")


def retention(site: Site) -> Diagnosis:
    """Retentions that contradict each other or the schedule."""
    app = site.app
    local_days = app.local.policy.days
    for target in app.remotes:
        if target.policy.days and (target.policy.days < local_days or not local_days):
            kept = f"{local_days} days" if local_days else "forever"
            return warn(
                f"{target.title} keeps backups {target.policy.days} days, this disk {kept}: remote copies go first",
                f"set {variable(target.name, 'retention_days')} to at least BACKUP_RETENTION_DAYS",
            )
    first = app.settings.schedule.next_after(site.now)
    second = app.settings.schedule.next_after(first) if first is not None else None
    if first is not None and second is not None and local_days and second - first > timedelta(days=local_days):
        return warn(
            f"backups are {(second - first).days} days apart and kept {local_days} days:"
            f" only BACKUP_KEEP_MIN={app.settings.backup_keep_min} of them stays",
            "raise BACKUP_RETENTION_DAYS or BACKUP_KEEP_MIN",
        )
    if not local_days:
        return warn("BACKUP_RETENTION_DAYS=0: nothing is ever removed from this disk", "watch its free space")
    far = "".join(
        f", {target.title} {f'{target.policy.days} days' if target.policy.days else 'forever'}"
        for target in app.remotes
    )
    return ok(
        f"this disk keeps {local_days} days{far}, and never fewer than {app.settings.backup_keep_min} good ones"
    )


def drills(site: Site) -> Diagnosis:
    """Where drills restore, and with whose rights the database's own code runs there."""
    settings = site.app.settings
    if not settings.drills_have_a_place:
        return warn(
            "no drill is scheduled: BACKUP_SOURCE=direct has no server to throw away, and a drill in the live one"
            " would run the database's own code there",
            "set DRILL_TARGET=database, if that is meant (docs/restore.md), or drill elsewhere, by hand",
        )
    if settings.drill_schedule != OFF and settings.drills_have_no_key:
        return warn(
            "no drill is scheduled: backups are sealed, and there is no private key here",
            "now and then, by hand: hubbackup drill --identity FILE",
        )
    planned = settings.drills
    if planned is None:
        return skip("DRILL_SCHEDULE=off: no backup is restored for real")
    due = planned.next_after(site.now)
    next_one = due.astimezone(site.app.zone).strftime("%a %d %b %H:%M %Z") if due is not None else "never"
    if settings.drills_in_database:
        return ok(
            f"next: {next_one}, in the live server, by a role of its own without rights where that can do it; what"
            " only a superuser may create POSTGRES_USER loads, and the database's own code runs with its rights"
        )
    return ok(f"next: {next_one}, in a server that is thrown away")


CHECKS = [
    Check("settings", settings),
    Check("schedule", schedule),
    Check("retention", retention, needs=("schedule",)),
    Check("drills", drills),
    Check("daemon", daemon),
    Check("notifications", notifications),
    Check("log file", log_file),
]
