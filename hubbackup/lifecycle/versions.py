"""What a versioned bucket keeps beside what it lists: versions that a newer one or a removal has hidden."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from hubbackup.errors import NotFoundError, StoreError
from hubbackup.stores.s3_errors import NOT_IMPLEMENTED, error_code

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

    from hubbackup.stores.s3 import S3Store

PAGES = 5
"""Of a thousand versions each: enough to see that they pile up."""
NO_LOCK = {"ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration"}


@dataclass(frozen=True)
class Hidden:
    """Versions that no listing shows, and that are billed. `more`: there are more than were looked at."""

    count: int = 0
    size_bytes: int = 0
    more: bool = False


def is_versioned(store: S3Store) -> bool:
    """Whether a removal only hides there. Raises StoreError."""
    bucket = store.bucket
    try:
        answer = store.ask("ask about versions", lambda client: client.get_bucket_versioning(Bucket=bucket))
    except StoreError as error:
        if error_code(error) in NOT_IMPLEMENTED:
            return False
        raise
    return answer.get("Status", "") in ("Enabled", "Suspended")  # in the latter those of before stay


def hidden(store: S3Store) -> Hidden:
    """The hidden versions under our prefix. Raises StoreError."""
    count = size_bytes = 0
    more: dict[str, Any] = {}
    for _ in range(PAGES):
        page = store.ask("list the versions", partial(_page, store=store, more=more))
        old = [one for one in page.get("Versions", []) if not one.get("IsLatest")]
        count += len(old)
        size_bytes += sum(int(one.get("Size", 0)) for one in old)
        if not page.get("IsTruncated") or not page.get("NextKeyMarker"):
            return Hidden(count, size_bytes)
        more = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page.get("NextVersionIdMarker", "")}
    return Hidden(count, size_bytes, more=True)


def can_lock(store: S3Store) -> bool:
    """Whether the bucket has Object Lock. Raises StoreError."""
    bucket = store.bucket
    try:
        answer = store.ask(
            "ask about Object Lock", lambda client: client.get_object_lock_configuration(Bucket=bucket)
        )
    except NotFoundError as error:
        if error_code(error) in NO_LOCK:
            return False
        raise
    except StoreError as error:
        if error_code(error) in NOT_IMPLEMENTED:
            return False
        raise
    return answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"


def _page(client: S3Client, store: S3Store, more: dict[str, Any]) -> dict[str, Any]:
    return dict(client.list_object_versions(Bucket=store.bucket, Prefix=store.prefix, **more))
