"""Checks of whose the backups are: the key of the manifests, and what is not signed with it."""

from __future__ import annotations

from hubbackup.catalog.listing import newest, read_backups, scan
from hubbackup.catalog.origin import Origin
from hubbackup.doctor import Check, Diagnosis, ok, warn
from hubbackup.doctor.site import Site
from hubbackup.errors import StoreError

LOOKED_AT = 100
"""Of a bucket, where each manifest is a request: the newest."""


def manifest_key(site: Site) -> Diagnosis:
    """The key is there, and nobody else can read it. Raises KeyFileError where it is of no use."""
    key = site.app.manifest_key
    trust = key.look()
    if key.given:
        return ok("manifests are signed with BACKUP_MANIFEST_KEY")
    if trust.key is None:
        return ok(f"there is no manifest key yet: the first start or backup makes {key.path}")
    if key.path.stat().st_mode & 0o077:
        return warn(f"others can read {key.path}, and sign backups as yours", f"chmod 600 {key.path}")
    return ok(f"manifests are signed with {key.path}; hubbackup config says how to keep a copy of it")


def whose(site: Site) -> Diagnosis:
    """Backups that are not ours, or not signed yet, here and among the newest of each bucket."""
    app = site.app
    found = list(site.backups)
    for target in app.remotes:
        try:
            for database in app.chosen.at_hand():
                chosen, _ = newest(scan([target], database), LOOKED_AT)
                found += read_backups(chosen, [target], app.zone)
        except StoreError:  # the bucket's own check says so
            continue
    foreign = list(dict.fromkeys(str(one.name) for one in found if one.foreign))
    if foreign:
        return warn(
            f"{len(foreign)} backups are not known to be ours, such as {foreign[0]}: they count for nothing, and are"
            " never removed by us",
            f"if you know who made it: hubbackup adopt {foreign[0]}; if not, find out who can write there",
        )
    future = list(dict.fromkeys(str(one.name) for one in found if one.stranger(site.now)))
    if future:
        return warn(
            f"{future[0]} is from the future: it is never the newest, and while it is there nothing is pruned",
            "set this machine's clock right; where it is right now, move this backup and its manifest away",
        )
    earlier = {one.name for one in found if one.origin is Origin.EARLIER}
    if earlier:
        return warn(
            f"{len(earlier)} backups were made before manifests were signed here: they count as ever, until the"
            " rotation removes them",
            "to sign them now: hubbackup adopt --all-earlier",
        )
    return ok("every backup is signed as ours" if found else "there is no backup yet")


CHECKS = [Check("manifest key", manifest_key), Check("whose", whose, needs=("directory", "manifest key"))]
