"""The check of encryption at rest: who can read a backup that was stolen, and whether its owner still can."""

from __future__ import annotations

import stat
from pathlib import Path

from hubbackup.catalog.backup import Backup
from hubbackup.doctor import Check, Diagnosis, fail, ok, skip, warn
from hubbackup.doctor.site import Site
from hubbackup.errors import PassphraseError, UsageError
from hubbackup.verify.sealed import read_header


def encryption(site: Site) -> Diagnosis:
    """Who can read a backup that was stolen."""
    app = site.app
    recipients = app.settings.recipients
    if recipients:
        whose = " or of ".join(one.fingerprint for one in recipients)
        return ok(f"new backups are sealed by age, and open with the key of {whose}")
    readers = f"whoever reads {app.local.describe()}"
    remedy = "hubbackup keygen, and set BACKUP_ENCRYPT_RECIPIENTS; or keep BACKUP_DIR on an encrypted disk"
    if app.remotes:
        readers += "".join(f" or {target.describe()}" for target in app.remotes)
        remedy += ", and turn on the bucket's own encryption (SSE) and close it to the public"
    return skip(f"backups are not sealed, so {readers} can read the data", remedy)


def identity(site: Site) -> Diagnosis:
    """The private key at hand opens the newest sealed backup, and should it be here at all."""
    app = site.app
    path = app.settings.backup_identity_file
    newest = next((one for one in reversed(site.backups) if one.name.format.sealed and not one.foreign), None)
    if path is None:
        if app.settings.recipients:
            return ok(
                "no private key is on this server, as it should be: what is sealed here is compared by its sha256,"
                " and decoded, drilled and restored only where the key is given (--identity FILE)"
            )
        return skip("there are no keys")
    try:
        app.identities.keys()
    except PassphraseError as error:
        return warn(
            f"whether the key opens the newest backup is not known: {error}",
            "hubbackup verify asks for it on a terminal",
        )
    except UsageError as error:
        return fail(str(error), error.remedy)
    if newest is not None and (problem := _problem(site, newest)):
        return fail(
            problem, "set BACKUP_IDENTITY_FILE to the file with that key, or BACKUP_ENCRYPT_RECIPIENTS to its own"
        )
    opened = f"it opens {newest.name}, but" if newest is not None else "no backup is sealed yet;"
    if others := _who_else(path):
        return warn(f"{path} can be read by {others}", f"chmod 600 {path}")
    return warn(
        f"the private key {path} is on the server whose backups it opens: {opened} who takes that server reads all",
        "keep it elsewhere, and give it where it is needed: hubbackup restore … --identity FILE",
    )


def _problem(site: Site, newest: Backup) -> str:
    """What keeps the key from opening it; empty where it does. Raises HubbackupError."""
    name = str(newest.name)
    recipients = newest.manifest.recipients if newest.manifest is not None else ()
    try:
        header = read_header(name, lambda: site.app.local.open(name))
        site.app.identities.demand(name, header, recipients)
    except UsageError as error:
        return str(error)
    return ""


def _who_else(path: Path) -> str:
    """Who else on the host can read the file, in words."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return ""
    if mode & stat.S_IROTH:
        return "everybody on this host"
    return "its group" if mode & stat.S_IRGRP else ""


CHECKS = [Check("encryption", encryption), Check("private key", identity)]
