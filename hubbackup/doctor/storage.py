"""Checks of the local store: directory, room, leftovers."""

from __future__ import annotations

import math
import os
import secrets
import stat
from datetime import timedelta

from hubbackup.doctor import Check, Diagnosis, fail, ok, warn
from hubbackup.doctor.site import Site
from hubbackup.errors import HubbackupError
from hubbackup.retention.forecast import next_run_bytes
from hubbackup.stores import PARTIAL_SUFFIX

PROBE_BYTES = 4096
COUNTED_DAYS = 28
"""So many days' runs are counted; who keeps backups for a century has as many of the same."""


def directory(site: Site) -> Diagnosis:
    """BACKUP_DIR stores a file, returns it, and removes it; tried for real."""
    store, data = site.app.local.store, secrets.token_bytes(PROBE_BYTES)
    name = f"hubbackup-probe-{secrets.token_hex(6)}"
    try:
        with store.create(name) as draft:
            draft.write(data)
            draft.commit()
        with store.open(name) as stream:
            if stream.read() != data:
                return fail(f"{store.describe()} returns other bytes than were written", "check the disk")
    finally:
        if os.path.isfile(store.directory / name):
            store.delete(name)
    return ok(f"{store.describe()} stores files and returns them")


def readers(site: Site) -> Diagnosis:
    """Who can read the backups: by the directory's mode, BACKUP_FILE_MODE, and what lies there already."""
    store, mode = site.app.local.store, site.app.local.store.mode
    shown = f"{mode:04o}"
    try:
        directory = store.directory.stat()
        files = [entry.stat() for entry in os.scandir(store.directory) if entry.is_file(follow_symlinks=False)]
    except OSError as error:
        raise HubbackupError(f"{store.describe()} could not be listed: {error.strerror}") from error
    user, group = os.geteuid(), directory.st_gid if directory.st_mode & stat.S_ISGID else os.getegid()
    strangers = [file for file in files if file.st_uid != user]
    if strangers:
        return warn(
            f"{len(strangers)} files in {store.describe()} belong to user id {strangers[0].st_uid}, new ones to"
            f" {user}: not everybody who can read one can read all",
            f"on the host: sudo chown -R {user}:{group}, and the directory that is mounted as {store.describe()}",
        )
    if mode & 0o040 and directory.st_mode & 0o050 != 0o050:
        return warn(
            f"BACKUP_FILE_MODE={shown} lets group id {group} read, but the directory does not let it in",
            f"on the host: sudo chmod g+rx, and the directory that is mounted as {store.describe()}",
        )
    if mode & 0o004 and directory.st_mode & 0o001:
        return warn(
            f"everybody who has a login on this host can read the backups: BACKUP_FILE_MODE={shown}",
            "set BACKUP_FILE_MODE=0640, and chmod the files that are there",
        )
    others = sum(stat.S_IMODE(file.st_mode) != mode for file in files)
    older = f"; {others} files that were there before have another mode" if others else ""
    who = f"user id {user}, group id {group} and root" if mode & 0o040 else f"user id {user} and root alone"
    return ok(f"backups can be read by {who} (mode {shown}){older}")


def room(site: Site) -> Diagnosis:
    """Free space against the next run, and against what the retention will come to, of all databases together."""
    app, free = site.app, site.app.local.store.free_bytes()
    sizes: dict[str, list[int]] = {}
    for backup in site.backups:  # oldest first
        if backup.good_in(app.local.name):
            sizes.setdefault(backup.name.database, []).append(backup.copies[app.local.name].size_bytes)
    if not sizes:
        return ok(f"{free:,} bytes are free; how much a backup takes will be known after the first")
    newest = [of_one[-1] for of_one in sizes.values()]
    remedy = "lower BACKUP_RETENTION_DAYS, then: hubbackup prune; or make room, or move BACKUP_DIR to a larger disk"
    if free < (next_bytes := next_run_bytes(newest)):
        return fail(f"{free:,} bytes are free, the next run needs about {next_bytes:,}", remedy)
    policy, a_run = app.local.policy, sum(newest)
    counted_days = min(policy.days, COUNTED_DAYS)
    runs = sum(1 for _ in app.settings.schedule.times_between(site.now, site.now + timedelta(days=counted_days)))
    runs = math.ceil(runs * policy.days / max(counted_days, 1))
    kept = max(runs, policy.keep_min) + 1  # the oldest goes when the newest is there
    needed = a_run * kept - sum(sum(of_one[-kept:]) for of_one in sizes.values())
    if policy.days and free < needed:
        return warn(
            f"{free:,} bytes are free; {policy.days} days of runs like the last ({a_run:,} bytes each) need"
            f" {needed:,} more than there is now",
            remedy,
        )
    last = f"the last backups of {len(sizes)} databases have" if len(sizes) > 1 else "the last backup has"
    return ok(f"{free:,} bytes are free, {last} {a_run:,}")


def leftovers(site: Site) -> Diagnosis:
    """What killed runs left on this disk."""
    app = site.app
    at_work = site.at_work
    if at_work is not None:
        return ok(f"a run is at work ({at_work.kind}, process {at_work.pid}): its files are not checked")
    try:
        names = sorted(
            entry.name for entry in os.scandir(app.local.store.directory) if entry.name.endswith(PARTIAL_SUFFIX)
        )
        names += [str(path.name) for path in app.state.directory.glob("download-*")]
    except OSError as error:
        raise HubbackupError(f"{app.local.describe()} could not be listed: {error.strerror}") from error
    if names:
        return warn(
            f"left over from killed runs: {', '.join(names[:5])}",
            "the next run removes what is hubbackup's own; anything else, remove by hand",
        )
    unproven = [str(backup.name) for backup in site.backups if not backup.good_in(app.local.name)]
    if unproven:
        return warn(
            f"{len(unproven)} backups are not good, such as {unproven[0]}",
            "hubbackup list says why; they are not counted, and not offered for a restore",
        )
    return ok("no run left anything unfinished")


CHECKS = [
    Check("directory", directory),
    Check("readers", readers, needs=("directory",)),
    Check("room", room, needs=("directory",)),
    Check("leftovers", leftovers, needs=("directory",)),
]
