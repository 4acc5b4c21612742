"""The check of encryption at rest. This version has none, and says so; with age keys, they are checked here."""

from __future__ import annotations

from hubbackup.doctor import Check, Diagnosis, skip
from hubbackup.doctor.site import Site


def encryption(site: Site) -> Diagnosis:
    """Who can read a backup that was stolen."""
    app = site.app
    readers = f"whoever reads {app.local.describe()}"
    remedy = "keep BACKUP_DIR on an encrypted disk"
    if app.remotes:
        readers += "".join(f" or {target.describe()}" for target in app.remotes)
        remedy += ", and turn on the bucket's own encryption (SSE) and close it to the public"
    return skip(f"no keys to check: this version does not encrypt, so {readers} can read the data", remedy)


CHECKS = [Check("encryption", encryption)]
