"""Checks of S3: the bucket, its clock and region, and a probe object that takes the same path as a backup."""

from __future__ import annotations

import re
import secrets
from datetime import timedelta

from hubbackup.catalog.listing import scan
from hubbackup.doctor import Check, Diagnosis, fail, ok, skip, warn
from hubbackup.doctor.site import PART_BYTES, Site
from hubbackup.errors import HubbackupError, NotFoundError, StoreError

SMALL_BYTES = 1024
PROBE_NAME = re.compile(r"hubbackup-probe-[0-9a-f]{12}")
WAYS = (("put", SMALL_BYTES), ("put in parts", PART_BYTES + SMALL_BYTES))
PROBE_AGE = timedelta(hours=1)
SKEW_WARN_SECONDS, SKEW_FAIL_SECONDS = 60, 600
"""S3 refuses requests from a clock that is 15 minutes off."""
OFF = "S3 is off (S3_BACKUP_BUCKET is not set): all copies are on this host"


def bucket(site: Site) -> Diagnosis:
    """The bucket is there, and the key may list it."""
    settings = site.app.settings
    if not settings.s3_backup_bucket:
        return skip(OFF)
    look = site.bucket.look()
    where = f"{site.bucket.describe()} at {settings.s3_endpoint_url or 'AWS'}"
    if look.region and settings.aws_default_region and look.region != settings.aws_default_region:
        return warn(
            f"{where} is in the region {look.region}, AWS_DEFAULT_REGION is {settings.aws_default_region}",
            f"set AWS_DEFAULT_REGION={look.region}",
        )
    region = look.region or settings.aws_default_region
    return ok(f"{where} answers" + (f" (region {region})" if region else ""))


def clock(site: Site) -> Diagnosis:
    """This machine's clock against the server's."""
    if not site.app.settings.s3_backup_bucket:
        return skip(OFF)
    ahead = site.bucket.look().ahead_seconds
    if ahead is None:
        return skip("the server does not report its time")
    skew = abs(ahead)
    words = f"this machine's clock is {skew:.0f} s {'behind' if ahead > 0 else 'before'} that of S3"
    remedy = "let the host keep its time by NTP: timedatectl set-ntp true"
    if skew >= SKEW_FAIL_SECONDS:
        return fail(words, remedy)
    return warn(words, remedy) if skew >= SKEW_WARN_SECONDS else ok("this machine's clock agrees with that of S3")


def probe(site: Site) -> Diagnosis:
    """Put, get, list and delete, with objects of our own: a small one, as manifests are, and by hand one in two
    parts."""
    if not site.app.settings.s3_backup_bucket:
        return skip(OFF)
    store, done = site.bucket, list[str]()
    names: list[str] = []
    try:
        for way, size in WAYS if site.by_hand else WAYS[:1]:
            data = secrets.token_bytes(size)
            names.append(f"hubbackup-probe-{secrets.token_hex(6)}")
            with store.create(names[-1]) as draft:
                draft.write(data)
                draft.commit()
            done.append(way)
            with store.open(names[-1]) as stream:
                if stream.read() != data:
                    return fail(f"{store.describe()} returns other bytes than were written")
        done.append("get")
        old = [entry for entry in store.entries() if PROBE_NAME.fullmatch(entry.name)]
        unlisted = set(names) - {entry.name for entry in old}
        done.append("list")
        while names:
            _delete(site, names[-1])
            names.pop()
        done.append("delete")
        for entry in old:  # of a doctor that was killed
            if site.now - entry.modified_at > PROBE_AGE:
                _delete(site, entry.name)
    except StoreError as error:
        so_far = f"after {', '.join(done)}: " if done else ""
        return fail(f"{so_far}{error}", error.remedy)
    finally:
        for name in names:
            _try_delete(site, name)
    if unlisted:
        return warn(
            f"{store.describe()} does not list at once what was just put there",
            "nothing, where it takes some seconds; where it stays so, nothing is ever pruned there",
        )
    return ok(f"put, get, list and delete work in {store.describe()}")


def leftovers(site: Site) -> Diagnosis:
    """What killed runs left in the bucket: uploads without an end, copies without a manifest."""
    if not site.app.settings.s3_backup_bucket:
        return skip(OFF)
    at_work = site.at_work
    if at_work is not None:
        return ok(f"a run is at work ({at_work.kind}, process {at_work.pid}): its uploads are not checked")
    unfinished = site.bucket.unfinished()
    if unfinished:
        return warn(
            f"unfinished uploads, which no listing shows and the vendor bills: {', '.join(unfinished[:5])}",
            "the next backup ends them",
        )
    where = site.bucket.name
    listed = scan([site.bucket], site.app.database)
    unproven = [str(one.name) for one in listed if where in one.copies and where not in one.manifests_in]
    if unproven:
        return warn(
            f"{len(unproven)} copies in {site.bucket.describe()} have no manifest, such as {unproven[0]}",
            "hubbackup list says why; the next backup replaces those that are good on disk",
        )
    return ok(f"no run left anything unfinished in {site.bucket.describe()}")


def _delete(site: Site, name: str) -> None:
    site.bucket.delete(name)
    try:
        site.bucket.stat(name)
    except NotFoundError:
        return
    raise StoreError(
        f"{name} is still in {site.bucket.describe()} after it was deleted",
        remedy="give the key the right to delete objects, or prune can remove nothing",
    )


def _try_delete(site: Site, name: str) -> None:
    try:
        site.bucket.delete(name)
    except HubbackupError:
        return  # the failure that brought us here is the one to report


CHECKS = [
    Check("bucket", bucket),
    Check("clock", clock, needs=("bucket",)),
    Check("probe object", probe, needs=("bucket",)),
    Check("left in S3", leftovers, needs=("probe object",)),
]
