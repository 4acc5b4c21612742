"""Checks of S3: the bucket, its clock and region, and a probe object that takes the same path as a backup."""

from __future__ import annotations

import re
import secrets
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from hubbackup.app.stores import bucket_policy
from hubbackup.catalog.listing import scan
from hubbackup.config.bucket import MIRROR, S3, BucketSettings
from hubbackup.doctor import Check, Diagnosis, bucket_rules, fail, ok, skip, warn
from hubbackup.doctor.site import PART_BYTES, Site
from hubbackup.errors import HubbackupError, NotFoundError, StoreDeniedError, StoreError

if TYPE_CHECKING:
    from hubbackup.stores.s3 import S3Store

SMALL_BYTES = 1024
KEPT_PROBE = "hubbackup-probe-000000000000"
PROBE_NAME = re.compile(r"hubbackup-probe-[0-9a-f]{12}")
WAYS = (("put", SMALL_BYTES), ("put in parts", PART_BYTES + SMALL_BYTES))
PROBE_AGE = timedelta(hours=1)
SKEW_WARN_SECONDS, SKEW_FAIL_SECONDS = 60, 600
"""S3 refuses requests from a clock that is 15 minutes off."""
OFF = "S3 is off (S3_BACKUP_BUCKET is not set): all copies are on this host"
NAMES = {
    S3: ("bucket", "clock", "probe object", "left in S3"),
    MIRROR: ("mirror bucket", "mirror clock", "mirror probe", "left in mirror"),
}
"""What the checks of each bucket are called."""


class Place:
    """A bucket that is looked at: its settings, and its store, which is asked with little patience."""

    def __init__(self, site: Site, settings: BucketSettings) -> None:
        self.site = site
        self.settings = settings

    @cached_property
    def store(self) -> S3Store:
        """Made by the check that asks for it first."""
        return self.site.bucket(self.settings)


def bucket(place: Place) -> Diagnosis:
    """The bucket is there, and the key may list it."""
    settings = place.settings
    look = place.store.look()
    where = f"{place.store.describe()} at {settings.endpoint_url or 'AWS'}"
    if look.region and settings.region and look.region != settings.region:
        variable = settings.variable("region")
        return warn(
            f"{where} is in the region {look.region}, {variable} is {settings.region}",
            f"set {variable}={look.region}",
        )
    region = look.region or settings.region
    proxy = place.store.proxy()
    said = ([f"region {region}"] if region else []) + ([f"by the proxy {proxy}"] if proxy else [])
    return ok(f"{where} answers" + (f" ({', '.join(said)})" if said else ""))


def clock(place: Place) -> Diagnosis:
    """This machine's clock against the server's."""
    ahead = place.store.look().ahead_seconds
    if ahead is None:
        return skip("the server does not report its time")
    skew, title = abs(ahead), place.settings.title
    words = f"this machine's clock is {skew:.0f} s {'behind' if ahead > 0 else 'before'} that of {title}"
    remedy = "let the host keep its time by NTP: timedatectl set-ntp true"
    if skew >= SKEW_FAIL_SECONDS:
        return fail(words, remedy)
    return (
        warn(words, remedy) if skew >= SKEW_WARN_SECONDS else ok(f"this machine's clock agrees with that of {title}")
    )


def probe(place: Place) -> Diagnosis:
    """Put, get, list and delete, with objects of our own: a small one, as manifests are, and by hand one in two
    parts."""
    site, store, done = place.site, place.store, list[str]()
    if bucket_policy(site.app.settings, place.settings).days == 0 and not _may_delete(store):
        return _kept_probe(store)
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
            _delete(store, names[-1])
            names.pop()
        done.append("delete")
        for entry in old:  # of a doctor that was killed
            if site.now - entry.modified_at > PROBE_AGE:
                _delete(store, entry.name)
    except StoreError as error:
        so_far = f"after {', '.join(done)}: " if done else ""
        return fail(f"{so_far}{error}", error.remedy)
    finally:
        for name in names:
            _try_delete(store, name)
    if unlisted:
        return warn(
            f"{store.describe()} does not list at once what was just put there",
            "nothing, where it takes some seconds; where it stays so, nothing is ever pruned there",
        )
    return ok(f"put, get, list and delete work in {store.describe()}")


def _may_delete(store: S3Store) -> bool:
    """Raises StoreError where nobody answers."""
    try:
        store.delete(KEPT_PROBE)
    except StoreDeniedError:
        return False
    return True


def _kept_probe(store: S3Store) -> Diagnosis:
    """Put, get and list, for a key that may not delete where nothing is ever pruned: one object, always the same."""
    data = secrets.token_bytes(SMALL_BYTES)
    store.replace(KEPT_PROBE, data)
    with store.open(KEPT_PROBE) as stream:
        if stream.read() != data:
            return fail(f"{store.describe()} returns other bytes than were written")
    for _ in store.entries():
        break
    return ok(f"put, get and list work in {store.describe()}; the key may not delete, and nothing is pruned there")


def leftovers(place: Place) -> Diagnosis:
    """What killed runs left in the bucket: uploads without an end, copies without a manifest."""
    site, store = place.site, place.store
    at_work = site.at_work
    if at_work is not None:
        return ok(f"a run is at work ({at_work.kind}, process {at_work.pid}): its uploads are not checked")
    elsewhere = site.at_work_elsewhere
    if elsewhere is not None:
        return ok(f"a run is at work elsewhere ({elsewhere}): its uploads are not checked")
    unfinished = store.unfinished()
    if unfinished:
        return warn(
            f"unfinished uploads, which no listing shows and the vendor bills: {', '.join(unfinished[:5])}",
            "the next backup ends those of this host, and others after a day",
        )
    listed = (one for database in site.app.chosen.at_hand() for one in scan([store], database))
    unproven = [str(one.name) for one in listed if store.name in one.copies and store.name not in one.manifests_in]
    if unproven:
        return warn(
            f"{len(unproven)} copies in {store.describe()} have no manifest, such as {unproven[0]}",
            "hubbackup list says why; the next backup replaces those that are good on disk",
        )
    return ok(f"no run left anything unfinished in {store.describe()}")


def _delete(store: S3Store, name: str) -> None:
    store.delete(name)
    try:
        store.stat(name)
    except NotFoundError:
        return
    raise StoreError(
        f"{name} is still in {store.describe()} after it was deleted",
        remedy="give the key the right to delete objects, or prune can remove nothing",
    )


def _try_delete(store: S3Store, name: str) -> None:
    try:
        store.delete(name)
    except HubbackupError:
        return  # the failure that brought us here is the one to report


def checks(site: Site) -> list[Check]:
    """Those of each bucket that is set; of the first one also where it isn't, to say so."""
    found = [] if S3 in site.app.settings.buckets else [Check(name, _off) for name in NAMES[S3]]
    for target, settings in site.app.settings.buckets.items():
        place = Place(site, settings)
        found += [*_checks(place, *NAMES[target]), *bucket_rules.checks(place, NAMES[target][0])]
    return found


def _off(site: Site) -> Diagnosis:
    return skip(OFF)


def _checks(place: Place, there: str, time: str, tried: str, left: str) -> list[Check]:
    return [
        Check(there, lambda _: bucket(place)),
        Check(time, lambda _: clock(place), needs=(there,)),
        Check(tried, lambda _: probe(place), needs=(there,)),
        Check(left, lambda _: leftovers(place), needs=(tried,)),
    ]
