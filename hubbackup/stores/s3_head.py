"""Looking at one object by HEAD. Its answers have no body: of a refusal the cause is asked for by a GET."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from hubbackup.errors import ExistsError, NotFoundError, StoreError
from hubbackup.stores.s3_calls import S3Calls
from hubbackup.stores.s3_errors import ForeignAnswerError, is_foreign

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

LockMode = Literal["COMPLIANCE", "GOVERNANCE"]
_MD5_ETAG = re.compile(r'"?([0-9a-f]{32}(-[0-9]+)?)"?')


@dataclass(frozen=True)
class Address:
    """Where an object is: `options` are what both ways of uploading are given (storage class, object lock)."""

    bucket: str
    key: str
    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class ObjectLock:
    """For how long nobody can remove what is put: in COMPLIANCE mode nobody at all, else but who may bypass it."""

    days: int
    mode: LockMode = "COMPLIANCE"

    def options(self, now: datetime) -> dict[str, Any]:
        """Of an upload that begins now."""
        until = now + timedelta(days=self.days)
        return {"ObjectLockMode": self.mode, "ObjectLockRetainUntilDate": until}


@dataclass(frozen=True)
class Head:
    """What a server says of an object."""

    size_bytes: int
    modified_at: datetime
    """Now, where the server does not tell."""
    etag: str
    """Empty where the server does not tell, or where it is not an md5."""
    metadata: Mapping[str, str]
    archived: bool = False
    restore: str = ""
    """What the server says of its thaw."""
    locked_until: datetime | None = None

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Head:
        """Raises ForeignAnswerError where it is not the answer of an S3 server."""
        modified_at = answer.get("LastModified")
        if "ContentLength" not in answer or (modified_at is None and "ETag" not in answer):
            raise ForeignAnswerError("neither time nor ETag, or no size")
        return cls(
            answer["ContentLength"],
            (modified_at or datetime.now(UTC)).astimezone(UTC),
            md5_of(answer),
            answer.get("Metadata", {}),
            _is_archived(answer),
            str(answer.get("Restore", "")),
            answer.get("ObjectLockRetainUntilDate"),
        )


ARCHIVE_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Those that give nothing back before it was thawed. GLACIER_IR, for one, does."""


def restore_of(header: str) -> Literal["", "ongoing", "done"]:
    """What `x-amz-restore` says: nothing, that the thaw goes on, or that the object can be read for some days."""
    if not header:
        return ""
    return "ongoing" if 'ongoing-request="true"' in header.lower() else "done"


def _is_archived(answer: Mapping[str, Any]) -> bool:
    frozen = answer.get("StorageClass") in ARCHIVE_CLASSES or bool(answer.get("ArchiveStatus"))
    return frozen and restore_of(str(answer.get("Restore", ""))) != "done"


def md5_of(answer: Mapping[str, Any]) -> str:
    """The ETag where it is an md5 (with `-N` after it: of N parts), else an empty string.

    Under a key of KMS or the client's own it is not.
    """
    if answer.get("SSECustomerAlgorithm") or str(answer.get("ServerSideEncryption", "")).startswith("aws:kms"):
        return ""
    found = _MD5_ETAG.fullmatch(str(answer.get("ETag", "")))
    return found[1] if found is not None else ""


def head_object(calls: S3Calls, address: Address) -> Head | None:
    """What the server says of the object, None where there is none. Raises another StoreError."""
    doing = f"look at {address.name}"
    try:
        return calls.small(doing, lambda client: Head.of(client.head_object(Bucket=address.bucket, Key=address.key)))
    except NotFoundError:
        return None
    except StoreError as error:
        if error.transient or is_foreign(error):
            raise
        try:
            calls.small(doing, lambda client: _first_byte(client, address))
        except NotFoundError:
            return None
        raise


def refuse_taken(calls: S3Calls, address: Address) -> None:
    """Raise ExistsError where the key is taken, another StoreError where whoever says so is not an S3 server."""
    if head_object(calls, address) is None:
        return
    try:
        calls.small(
            f"look at {address.name}",
            lambda client: client.list_objects_v2(Bucket=address.bucket, Prefix=address.key, MaxKeys=1),
        )
    except StoreError as error:  # a portal has an answer to every HEAD, but no list
        if is_foreign(error):
            raise
    raise taken(address)


def taken(address: Address) -> ExistsError:
    """The error for a key that is taken."""
    return ExistsError(f"s3://{address.bucket}/{address.key} exists already, and a store never overwrites")


def _first_byte(client: S3Client, address: Address) -> None:
    client.get_object(Bucket=address.bucket, Key=address.key, Range="bytes=0-0")["Body"].close()
