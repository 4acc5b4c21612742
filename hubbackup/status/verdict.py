"""Is everything all right? One judgement in words, from a snapshot, for page, metrics and command line alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from hubbackup.catalog.schema_proofs import REFUSED
from hubbackup.retention.forecast import next_run_bytes
from hubbackup.status.overdue import deadline_of
from hubbackup.status.snapshot import BackupFacts, Snapshot
from hubbackup.units import human_age, human_bytes, listed

STALE_AFTER = timedelta(minutes=20)
"""Facts this old are shown with their age: the collector hangs, and they may have changed."""
ROOM_FOR_BACKUPS = 3
"""Free space for fewer runs than this is worth a warning; where the next one would not fit it is an alarm."""


class Level(IntEnum):
    """How bad, in ascending order. The numbers are those of the metric `hubbackup_verdict`."""

    OK = 0
    WARNING = 1
    CRITICAL = 2


@dataclass(frozen=True)
class Concern:
    """One thing that is not as it should be: a sentence, and what to do about it."""

    level: Level
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Verdict:
    """The level of the worst finding, one headline, and every finding, the worst first."""

    level: Level
    headline: str
    summary: str
    findings: tuple[Concern, ...]


HEADLINES = {Level.OK: "All right.", Level.WARNING: "Needs attention.", Level.CRITICAL: "Action needed."}


FIRST_HEADLINE = "Waiting for the first backup."


def judge(
    snapshot: Snapshot,
    now: datetime,
    *,
    healthy: bool = True,
    health_sentence: str = "",
    remark: str = "",
    busy: bool = False,
) -> Verdict:
    """The verdict at `now` (aware), which may be later than the snapshot.

    `healthy`: the daemon is scheduling; `remark`: what it has to say of its settings; `busy`: a backup is at work.
    """
    first = {database: _first_to_come(snapshot, database, now, busy) for database in snapshot.databases}
    waiting = [concern for concern in first.values() if concern is not None]
    found = [
        *waiting,
        *_of_the_daemon(snapshot, now, healthy, health_sentence, remark),
        *(finding for one in first if first[one] is None for finding in _of_the_newest(snapshot, one, now)),
        *(finding for one in snapshot.databases for finding in _of_the_last_run(snapshot, one, now)),
        *(finding for one in snapshot.databases for finding in _of_the_last_drill(snapshot, one, now)),
        *_of_the_stores(snapshot),
        *_of_damaged_copies(snapshot),
        *_of_strangers(snapshot, now),
        *_of_the_alerts(snapshot),
    ]
    level = max((finding.level for finding in found), default=Level.OK)
    findings = tuple(sorted(found, key=lambda finding: -finding.level))
    headline = FIRST_HEADLINE if waiting and len(waiting) == len(findings) else HEADLINES[level]
    return Verdict(level, headline, _summary(snapshot, now), findings)


def _first_to_come(snapshot: Snapshot, database: str, now: datetime, busy: bool) -> Concern | None:
    """Nothing was ever backed up, and it is not late yet: that is how everybody begins."""
    begun = any(backup.database == database for backup in snapshot.backups) or snapshot.last_run("backup", database)
    if begun or any(store.problem for store in snapshot.stores):
        return None
    if busy:
        return Concern(Level.WARNING, f"The first backup of {database} is being made now.")
    coming = deadline_of(snapshot.schedule, since=snapshot.watched_since.get(database, now), now=now)
    if coming.due is None or coming.overdue:
        return None
    due = coming.due.astimezone(snapshot.schedule.zone)
    text = f"There is no backup of {database} yet. The first is due {due:%d %b %H:%M %Z}."
    return Concern(Level.WARNING, text, f"make it now: hubbackup backup{snapshot.typed(database)}")


def _summary(snapshot: Snapshot, now: datetime) -> str:
    """How old the last good backup is, and where it rests: true whatever else is wrong."""
    newest = [backup for database in snapshot.databases if (backup := snapshot.last_good(database))]
    if not newest:
        return "There is no good backup."
    age = human_age(max((now - backup.started_at).total_seconds() for backup in newest))
    if refused := [backup for backup in newest if backup.unrestorable]:
        return _of_refused(snapshot, refused, now)
    where = _where(snapshot, newest)
    if len(snapshot.databases) == 1:
        return f"The last good backup is {age} old and {where}."
    if len(newest) < len(snapshot.databases):
        return f"{len(newest)} of {len(snapshot.databases)} databases have a good backup, at most {age} old."
    return f"The last good backups of all {len(newest)} databases are at most {age} old and {where}."


def _of_refused(snapshot: Snapshot, refused: list[BackupFacts], now: datetime) -> str:
    """The last backups that a server refused, each of another database, and whether that has one which restores."""
    older = [_last_restorable(snapshot, backup.database, now) for backup in refused]
    if len(refused) == 1:
        of = f" of {refused[0].database}" if len(snapshot.databases) > 1 else ""
        last = f"the last that can is {_age(older[0], now)} old" if older[0] else "there is none that can"
        return f"The last backup{of} is {_age(refused[0], now)} old and can't be restored; {last}."
    none = older.count(None)
    last = f"of {none} of them there is none that can" if none else "each of them has an older one that can"
    return f"The last backups of {len(refused)} of {len(snapshot.databases)} databases can't be restored; {last}."


def _last_restorable(snapshot: Snapshot, database: str, now: datetime) -> BackupFacts | None:
    for one in snapshot.backups:
        if one.database == database and one.good and not one.unrestorable and not one.from_future(now):
            return one
    return None


def _age(backup: BackupFacts, now: datetime) -> str:
    return human_age((now - backup.started_at).total_seconds())


def _where(snapshot: Snapshot, newest: list[BackupFacts]) -> str:
    names = [store.name for store in snapshot.stores]
    everywhere = [name for name in names if all(name in backup.good_in for backup in newest)]
    if len(names) == 1:
        return "on this server only" if snapshot.stores[0].on_disk else f"in {names[0]} only"
    if len(everywhere) == len(names):
        return "in both places" if len(names) == 2 else f"in all {len(names)} places"
    if not everywhere:
        return "not everywhere it should be"
    where = listed([snapshot.title(name) for name in everywhere])
    silent = [store.title for store in snapshot.stores if store.problem]
    if silent:
        return f"in {where}; whether it is in {listed(silent)} too is not known now"
    return f"in {where} only"


def _of_the_daemon(snapshot: Snapshot, now: datetime, healthy: bool, sentence: str, remark: str) -> Iterator[Concern]:
    if remark:
        yield Concern(Level.WARNING, f"{remark[:1].upper()}{remark[1:]}.", "hubbackup config shows the file's")
    if not healthy:
        yield Concern(
            Level.CRITICAL,
            f"No backup will start by itself: {sentence}.",
            "docker compose -f docker-compose.prod.yml --profile backup up -d backup-cron;"
            " where it is up and hangs: … restart backup-cron",
        )
    age = now - snapshot.taken_at
    if age > STALE_AFTER:
        yield Concern(
            Level.WARNING,
            f"The facts below are {human_age(age.total_seconds())} old: the last check of the stores did not finish.",
            "docker logs hub-chantier-backup; then hubbackup status",
        )


def _of_the_newest(snapshot: Snapshot, database: str, now: datetime) -> Iterator[Concern]:
    newest = snapshot.last_good(database)
    if newest is None:
        # A store that can't be asked may hold one.
        unknown = any(store.problem for store in snapshot.stores)
        where = "in any store that answers" if unknown else "in any store"
        yield Concern(
            Level.CRITICAL,
            f"There is no good backup of {database} {where}.",
            f"make one now: hubbackup backup{snapshot.typed(database)}",
        )
        return
    took = timedelta(seconds=(newest.dump_seconds or 0) + (newest.verify_seconds or 0))
    fresh = deadline_of(snapshot.schedule, since=newest.started_at, took=took, now=now)
    if fresh.due is not None and fresh.overdue:
        late = human_age((now - fresh.due).total_seconds())
        yield Concern(
            Level.CRITICAL,
            f"A backup of {database} was due {late} ago, and there is none.",
            f"see the failed runs below; then make one now: hubbackup backup{snapshot.typed(database)}",
        )
    last = snapshot.last_run("backup", database)
    elsewhere = last is not None and last.not_needed  # another daemon's, which has it on its own disk
    answering = [store.name for store in snapshot.stores if not store.problem and not (store.on_disk and elsewhere)]
    lacking = [name for name in answering if name not in newest.good_in]
    if lacking:
        run = next((run for run in snapshot.runs_of("backup") if run.name == newest.name), None)
        detail = f" ({'; '.join(run.problems)})" if run and run.problems else ""
        where = listed([snapshot.title(name) for name in lacking])
        yield Concern(
            Level.WARNING,
            f"The last good backup of {database} is not in {where}{detail}.",
            f"the next run uploads what is missing; to do it now: hubbackup backup{snapshot.typed(database)}",
        )
    if newest.unrestorable:
        yield Concern(
            Level.CRITICAL,
            f"The last backup of {database} can't be restored: {newest.unrestorable}.",
            f"mend the schema, then: hubbackup backup{snapshot.typed(database)}; to try this one again:"
            f" hubbackup drill --schema {newest.name}",
        )
    for warning in newest.warnings:
        yield Concern(
            Level.WARNING,
            f"The last backup of {database} looks unlike the ones before: {warning}.",
            f"nothing is pruned until you have looked; if it is right: hubbackup accept {newest.name}",
        )


def _of_damaged_copies(snapshot: Snapshot) -> Iterator[Concern]:
    for backup in snapshot.backups:
        for store in backup.damaged_in:
            yield Concern(
                Level.WARNING,
                f"A verification found the copy of {backup.name} in {snapshot.title(store)} damaged.",
                f"mend it from another store's copy: hubbackup verify {backup.name} --repair",
            )


def _of_strangers(snapshot: Snapshot, now: datetime) -> Iterator[Concern]:
    """What is not ours, in one sentence however many there are, and what is from the future."""
    foreign = [backup for backup in snapshot.backups if backup.foreign]
    if foreign:
        held = [store.name for store in snapshot.stores if any(store.name in one.not_good_in for one in foreign)]
        where = listed([snapshot.title(name) for name in held])
        count = "A backup" if len(foreign) == 1 else f"{len(foreign)} backups"
        yield Concern(
            Level.WARNING,
            f"{count} in {where}, such as {foreign[0].name}, {'is' if len(foreign) == 1 else 'are'} not known to be"
            f" ours ({foreign[0].problem}), and count for nothing.",
            f"if you know who made it: hubbackup adopt {foreign[0].name}; if not, find out who can write there",
        )
    for backup in snapshot.backups:
        if backup.from_future(now):
            yield Concern(
                Level.WARNING,
                f"{backup.name} is from the future: it is never the newest, and while it is there nothing is pruned.",
                "set this machine's clock right; where it is right now, move this backup and its manifest away",
            )


def _of_the_last_run(snapshot: Snapshot, database: str, now: datetime) -> Iterator[Concern]:
    last = snapshot.last_run("backup", database)
    if last is None:
        return
    of = f" of {database}" if snapshot.several else ""
    ago = human_age((now - last.started_at).total_seconds())
    if last.result == "failed":
        stage = f" at the stage {last.stage}" if last.stage else ""
        yield Concern(
            Level.CRITICAL,
            f"The last run{of}, {ago} ago, failed{stage}: {last.cause or 'no cause was recorded'}.",
            last.remedy or "hubbackup doctor",
        )
    elif last.result == "stopped":
        yield Concern(Level.WARNING, f"The last run{of}, {ago} ago, was stopped before its end.", "hubbackup backup")
    elif last.result == "degraded":
        newest = [snapshot.last_good(name) for name in snapshot.databases]
        made = next((backup for backup in newest if backup and backup.name == last.name), None)
        refused = made is not None and bool(made.unrestorable)
        problems = [one for one in last.problems if not (refused and one.startswith(REFUSED))]
        # A missing copy, and that it can't be restored, are reported already.
        if problems and (made is None or len(made.good_in) == len(snapshot.stores)):
            yield Concern(Level.WARNING, f"The last run{of}, {ago} ago, was not complete: {'; '.join(problems)}.")


def _of_the_last_drill(snapshot: Snapshot, database: str, now: datetime) -> Iterator[Concern]:
    last = snapshot.last_run("drill", database)
    if last is not None and last.result == "failed":
        ago = human_age((now - last.started_at).total_seconds())
        cause = f": {last.cause}" if last.cause else ""
        of = f" of {database}" if snapshot.several else ""
        which = f"--database{snapshot.typed(database)}" if snapshot.several else "--latest"
        yield Concern(
            Level.CRITICAL,
            f"The last restore drill{of}, {ago} ago, failed{cause}.",
            last.remedy or f"hubbackup drill {which}",
        )


def _of_the_alerts(snapshot: Snapshot) -> Iterator[Concern]:
    alerts = snapshot.alerts
    if alerts.sinks and alerts.failing:
        waits = f"; {alerts.waiting} wait" if alerts.waiting else ""
        yield Concern(
            Level.WARNING,
            f"The last alert could not be sent ({alerts.failure}){waits}.",
            "correct NOTIFICATION_URLS, then: hubbackup notify-test",
        )


def _of_the_stores(snapshot: Snapshot) -> Iterator[Concern]:
    none_answers = all(store.problem for store in snapshot.stores)
    for store in snapshot.stores:
        if store.problem:
            level = Level.CRITICAL if none_answers else Level.WARNING
            title = store.title[:1].upper() + store.title[1:]
            yield Concern(level, f"{title} can't be read: {store.problem}.", store.remedy)
    newest = [b.stored_bytes for database in snapshot.databases if (b := snapshot.last_good(database))]
    needed = sum(newest)
    for store in snapshot.stores:
        if store.free_bytes is None or not needed or store.free_bytes >= ROOM_FOR_BACKUPS * needed:
            continue
        level = Level.CRITICAL if store.free_bytes < next_run_bytes(newest) else Level.WARNING
        yield Concern(
            level,
            f"Only {human_bytes(store.free_bytes)} are free in {store.where}; a backup takes {human_bytes(needed)}.",
            "lower BACKUP_RETENTION_DAYS, then: hubbackup prune; or free some space",
        )
