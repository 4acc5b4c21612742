"""The tag by which lifecycle rules tell a backup from its manifest and marks, and a pinned one from the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from hubbackup.catalog.backup import Mark
from hubbackup.catalog.listing import Listed
from hubbackup.errors import NotFoundError, StoreDeniedError
from hubbackup.lifecycle.checksum import sign_by_md5
from hubbackup.stores.s3_errors import error_code

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import TagTypeDef

    from hubbackup.stores.s3 import S3Store

T = TypeVar("T")
KEY = "hubbackup"
BACKUP = (KEY, "backup")
PINNED = "pinned"
"""The value of a pinned one's: no rule moves or removes it."""
THREADS = 8


@dataclass(frozen=True)
class Untagged:
    """A backup's file that has not the tag that it should have."""

    name: str
    value: str


def untagged(store: S3Store, listed: Iterable[Listed]) -> tuple[Untagged, ...]:
    """Those of the listed backups that have not the tag they should have. One that is gone meanwhile is left out.

    Raises StoreError.
    """
    there = [one for one in listed if store.name in one.copies]
    with ThreadPoolExecutor(THREADS) as pool:
        values = list(pool.map(lambda one: _value(store, str(one.name)), there))
    wanted = [PINNED if Mark.PINNED in one.marks else BACKUP[1] for one in there]
    return tuple(
        Untagged(str(one.name), value)
        for one, value, found in zip(there, wanted, values, strict=True)
        if found is not None and found != value
    )


def put_tag(store: S3Store, name: str, value: str) -> None:
    """Give the file our tag with this value, and leave it those of others. Raises NotFoundError, StoreError."""
    kept: list[TagTypeDef] = [tag for tag in _tags(store, name) if tag["Key"] != KEY]

    def request(client: S3Client) -> object:
        sign_by_md5(client, "PutObjectTagging")
        tags: list[TagTypeDef] = [*kept, {"Key": KEY, "Value": value}]
        return client.put_object_tagging(Bucket=store.bucket, Key=store.key(name), Tagging={"TagSet": tags})

    _ask(store, f"tag {name}", request)


def _value(store: S3Store, name: str) -> str | None:
    """What our tag says of it; empty where it has none, None where the object is gone."""
    try:
        return next((tag["Value"] for tag in _tags(store, name) if tag["Key"] == KEY), "")
    except NotFoundError:
        return None


def _tags(store: S3Store, name: str) -> list[TagTypeDef]:
    key = store.key(name)

    def request(client: S3Client) -> list[TagTypeDef]:
        return list(client.get_object_tagging(Bucket=store.bucket, Key=key)["TagSet"])

    try:
        return _ask(store, f"read the tags of {name}", request)
    except NotFoundError as error:
        if error_code(error) == "NoSuchTagSet":
            return []
        raise


def _ask(store: S3Store, doing: str, request: Callable[[S3Client], T]) -> T:
    try:
        return store.ask(doing, request)
    except StoreDeniedError as error:
        remedy = "give the key s3:GetObjectTagging and s3:PutObjectTagging: docs/security.md has the policy"
        raise StoreDeniedError(str(error), remedy=remedy) from error
