"""Thawing: having an archive class give an object back for some days, so that it can be read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal

from hubbackup.errors import HubbackupError, StoreDeniedError, StoreError
from hubbackup.stores.s3_errors import error_code
from hubbackup.stores.s3_head import restore_of

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

    from hubbackup.stores.s3 import S3Store

Tier = Literal["standard", "bulk", "expedited"]
HOURS: dict[str, str] = {
    "standard": "at AWS 3 to 5 hours, 12 from DEEP_ARCHIVE; elsewhere up to 24",
    "bulk": "at AWS 5 to 12 hours, 48 from DEEP_ARCHIVE",
    "expedited": "at AWS 1 to 5 minutes, not from DEEP_ARCHIVE",
}
"""How long each takes."""
LOOK_SECONDS = 60.0
_EXPIRY = re.compile(r'expiry-date="([^"]*)"')


class ThawingError(HubbackupError):
    """The thaw was asked for, and is not done: the command is to be given again."""


@dataclass(frozen=True)
class ThawOrder:
    """For how many `days` the copy shall be readable, how fast, and whether to `wait` for it."""

    days: int = 3
    tier: Tier = "standard"
    wait: bool = False


@dataclass(frozen=True)
class Thaw:
    """Where an object stands: it can be read (until a time), is being thawed, or is frozen."""

    state: Literal["readable", "thawing", "frozen"]
    until: datetime | None = None


def state_of(store: S3Store, name: str) -> Thaw:
    """Raises NotFoundError, StoreError."""
    entry, restore = store.stat_restore(name)
    if not entry.archived:
        found = _EXPIRY.search(restore)
        try:
            return Thaw("readable", parsedate_to_datetime(found[1]).astimezone(UTC) if found else None)
        except ValueError:
            return Thaw("readable")
    return Thaw("thawing" if restore_of(restore) == "ongoing" else "frozen")


def ask_for(store: S3Store, name: str, order: ThawOrder) -> None:
    """Ask the server to thaw the object; one that it is at already is as well. Raises StoreError."""
    wanted: dict[str, Any] = {"Days": order.days, "GlacierJobParameters": {"Tier": order.tier.capitalize()}}
    key = store.key(name)

    def request(client: S3Client) -> object:
        restore: Any = wanted
        return client.restore_object(Bucket=store.bucket, Key=key, RestoreRequest=restore)

    try:
        store.ask(f"thaw {name}", request)
    except StoreDeniedError as error:
        raise StoreDeniedError(
            str(error), remedy="give the key s3:RestoreObject under the prefix: docs/security.md has the policy"
        ) from error
    except StoreError as error:
        if error_code(error) != "RestoreAlreadyInProgress":
            raise


def thaw(store: S3Store, name: str, order: ThawOrder) -> Thaw:
    """The copy can be read when this returns.

    Raises ThawingError where it can't yet, and `order` does not wait; StoppedError, StoreError.
    """
    asked = False
    while True:
        found = state_of(store, name)
        if found.state == "readable":
            return found
        if found.state == "frozen":
            if asked and not order.wait:
                break  # some servers show the request only after a moment
            ask_for(store, name, order)
            asked = True
        if not order.wait:
            break
        store.wait(LOOK_SECONDS)
    if asked:
        said = f"the thaw of {name} was asked for, for {order.days} days: {HOURS[order.tier]}"
    else:
        said = f"{name} is being thawed, and can't be read yet"
    raise ThawingError(
        said, remedy="give the same command again later: it goes on when the copy can be read; or add --wait"
    )
