"""Checks of the local store: directory, room, leftovers."""

from __future__ import annotations

import os
import secrets

from hubbackup.doctor import Check, Diagnosis, fail, ok, warn
from hubbackup.doctor.site import Site
from hubbackup.errors import HubbackupError
from hubbackup.stores import PARTIAL_SUFFIX

PROBE_BYTES = 4096
SAFETY = 1.2
"""The next backup may be somewhat larger than the last."""


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
        if (store.directory / name).is_file():
            store.delete(name)
    return ok(f"{store.describe()} stores files and returns them")


def room(site: Site) -> Diagnosis:
    """Free space against what retention will come to."""
    app, free = site.app, site.app.local.store.free_bytes()
    good = [backup for backup in site.backups if backup.good_in(app.local.name)]
    stored = sum(backup.copies[app.local.name].size_bytes for backup in good)
    newest = good[-1].manifest if good else None
    if newest is None:
        return ok(f"{free:,} bytes are free; how much a backup takes will be known after the first")
    remedy = "lower BACKUP_RETENTION_DAYS, then: hubbackup prune; or make room, or move BACKUP_DIR to a larger disk"
    next_bytes = round(newest.stored_bytes * SAFETY)
    if free < next_bytes:
        return fail(f"{free:,} bytes are free, the next backup needs about {next_bytes:,}", remedy)
    days = app.settings.backup_retention_days
    needed = max(0, newest.stored_bytes * (days + 1) - stored)
    if days and free < needed:
        return warn(
            f"{free:,} bytes are free; {days} days of backups like the last ({newest.stored_bytes:,} bytes)"
            f" need {needed:,} more than there is now",
            remedy,
        )
    return ok(f"{free:,} bytes are free, the last backup has {newest.stored_bytes:,}")


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
    Check("room", room, needs=("directory",)),
    Check("leftovers", leftovers, needs=("directory",)),
]
