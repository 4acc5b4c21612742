"""Checks of what a bucket does by itself: hidden versions, Object Lock, lifecycle rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hubbackup.app.stores import terms_of
from hubbackup.config.bucket import MIRROR, S3
from hubbackup.doctor import Check, Diagnosis, fail, ok, skip, warn
from hubbackup.errors import StoreDeniedError, StoreError
from hubbackup.lifecycle.configuration import Configuration
from hubbackup.lifecycle.rules import difference, removes_hidden, wanted
from hubbackup.lifecycle.tags import BACKUP
from hubbackup.lifecycle.versions import can_lock, hidden, is_versioned
from hubbackup.units import human_bytes

if TYPE_CHECKING:
    from hubbackup.doctor.bucket import Place

NAMES = {
    S3: ("hidden versions", "object lock", "lifecycle rules"),
    MIRROR: ("mirror versions", "mirror object lock", "mirror rules"),
}


def versions(place: Place) -> Diagnosis:
    """In a versioned bucket a removal only hides: without a rule what is pruned piles up, and is billed."""
    store, where = place.store, place.store.describe()
    try:
        if not is_versioned(store):
            return ok(f"what is removed from {where} is gone: it keeps no versions")
        found = hidden(store)
    except StoreDeniedError:
        return skip(f"the key may not see whether {where} keeps hidden versions")
    except StoreError as error:
        return skip(f"whether {where} keeps hidden versions can't be seen: {error}")
    more = " or more" if found.more else ""
    pile = f"{found.count:,}{more} hidden versions ({human_bytes(found.size_bytes)}{more})"
    try:
        rules = Configuration(store).read().rules
    except StoreError:
        rules = ()
        unknown = ", and the key may not see whether a rule removes them"
    else:
        unknown = ", and no lifecycle rule removes them"
    if removes_hidden(rules, store.prefix):
        return ok(f"{where} keeps versions, and a lifecycle rule removes hidden ones ({pile} now)")
    if not found.count:
        return ok(f"{where} keeps versions; none is hidden yet{unknown}")
    sentence = f"{where} keeps versions, so what is pruned stays and is billed: {pile}{unknown}"
    remedy = f"hubbackup lifecycle apply --store {store.name} adds such a rule (S3_NONCURRENT_DAYS)"
    return warn(sentence, place.settings.worded(remedy))


def object_lock(place: Place) -> Diagnosis:
    """S3_OBJECT_LOCK_DAYS needs a bucket that can lock."""
    settings, where = place.settings, place.store.describe()
    variable, days = settings.variable("object_lock_days"), settings.object_lock_days
    try:
        able = can_lock(place.store)
    except StoreDeniedError:
        return warn(
            f"{variable}={days} is set, and the key may not see whether {where} can lock",
            "give the key s3:GetBucketObjectLockConfiguration: docs/security.md has the policy",
        )
    if not able:
        return fail(
            f"{variable}={days} is set, and {where} has no Object Lock: it refuses every copy",
            f"switch Object Lock on (most vendors: only when a bucket is made), or unset {variable}",
        )
    return ok(f"{where} can lock: each copy for {days} days, in {settings.object_lock_mode} mode")


def rules(place: Place) -> Diagnosis:
    """The settings ask for rules: the bucket has them."""
    settings, store = place.settings, place.store
    terms = terms_of(settings)
    try:
        change = difference(Configuration(store).read().rules, terms, wanted(terms, BACKUP))
    except StoreDeniedError:
        return skip(f"the key may not see the lifecycle rules of {store.describe()}")
    asked = [rule for rule in (*change.added, *(new for _, new in change.changed)) if rule.tag is not None]
    if asked:
        return warn(
            f"{store.describe()} has not the lifecycle rule that the settings ask for: {asked[0].sentence()}",
            f"hubbackup lifecycle apply --store {store.name}",
        )
    if change.overlaps:
        return warn(change.overlaps[0], "remove that rule, or give it another prefix")
    return ok(f"{store.describe()} has the lifecycle rules that the settings ask for")


def checks(place: Place, there: str) -> list[Check]:
    """Those that the settings of this bucket give a reason for; `there` is the check that it answers."""
    names = NAMES[place.settings.target]
    found = [Check(names[0], lambda _: versions(place), needs=(there,))]
    if place.settings.object_lock_days:
        found.append(Check(names[1], lambda _: object_lock(place), needs=(there,)))
    if place.settings.archive_after_days or place.settings.expire_after_days:
        found.append(Check(names[2], lambda _: rules(place), needs=(there,)))
    return found
