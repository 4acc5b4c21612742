"""A bucket and a prefix as a store, at AWS or any server that speaks S3."""

from __future__ import annotations

import io
from collections.abc import Callable, Container, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import urlencode

from hubbackup.errors import NotFoundError, StoreError
from hubbackup.stores import Entry, check_name, check_range, is_flat_name
from hubbackup.stores.s3_calls import S3Calls, S3Limits
from hubbackup.stores.s3_client import Access, make_client, proxy_before
from hubbackup.stores.s3_errors import NOT_IMPLEMENTED, error_code
from hubbackup.stores.s3_head import ARCHIVE_CLASSES, Address, Head, ObjectLock, head_object, refuse_taken
from hubbackup.stores.s3_reader import open_object
from hubbackup.stores.s3_upload import SMALLEST_PART_BYTES, S3Draft, put_small
from hubbackup.streams.cancel import Cancel

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

ABANDONED = timedelta(days=1)
"""After so long an unfinished upload is nobody's any more, whoever shares the prefix."""


T = TypeVar("T")


@dataclass(frozen=True)
class BucketLook:
    """`ahead_seconds`: how far the server's clock is before ours (None: not reported); `region`: or empty."""

    ahead_seconds: float | None
    region: str


class S3Store:
    """Objects directly under `prefix`. boto3 is loaded, and the server asked, at the first call that needs it.

    What is None or empty is left to boto3's own chain (environment, profile, role). `ca_bundle` is a file with the
    authorities that sign for the server, `addressing_style` where the bucket's name is in a URL (`path`, `virtual`).
    `is_ours` says of a name whether this program may have begun it: `remove_leftovers` ends no other's upload.
    `storage_class` and `tag` are of the names that `in_storage_class` accepts, `lock` is of those that `in_lock`
    accepts. `cancel` ends every wait with StoppedError. `worded` rewords remedies, which name the settings of the
    first bucket.
    """

    remote = True

    def __init__(
        self,
        bucket: str,
        prefix: str = "backups/",
        *,
        name: str = "s3",
        endpoint_url: str | None = None,
        region: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        ca_bundle: str | None = None,
        addressing_style: str = "",
        storage_class: str | None = None,
        in_storage_class: Callable[[str], bool] = lambda name: True,
        tag: tuple[str, str] | None = None,
        lock: ObjectLock | None = None,
        in_lock: Callable[[str], bool] = lambda name: True,
        limits: S3Limits | None = None,
        smallest_part_bytes: int = SMALLEST_PART_BYTES,
        is_ours: Callable[[str], bool] = lambda name: True,
        cancel: Cancel | None = None,
        worded: Callable[[str], str] = str,
    ) -> None:
        self.name = name
        self._bucket = self.bucket = bucket
        self._prefix = self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._access = Access(endpoint_url, region, access_key_id, secret_access_key, ca_bundle, addressing_style)
        self._storage_class = storage_class
        self._in_storage_class = in_storage_class
        self.tag = tag
        """By which lifecycle rules tell backups from what is beside them; None where there are none."""
        self.lock = lock
        self._in_lock = in_lock
        self._limits = limits or S3Limits()
        self._smallest_part_bytes = smallest_part_bytes
        self._is_ours = is_ours
        where = self.describe() + (f" at {_host_of(endpoint_url)}" if endpoint_url else "")
        self._cancel = cancel or Cancel()
        self._calls = S3Calls(lambda: self._client, bucket, where, self._limits, self._cancel, worded)

    def proxy(self) -> str:
        """The host of the proxy that is asked instead of the server; empty where there is none. Raises StoreError."""
        return proxy_before(self._client.meta.endpoint_url)

    def describe(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{self._bucket}/{self._prefix}"

    @property
    def archives_at_once(self) -> bool:
        """Whether nothing that is put here can be read again before it was thawed."""
        return self._storage_class in ARCHIVE_CLASSES

    def key(self, name: str) -> str:
        """The whole key of a file."""
        return self._address(name).key

    def ask(self, doing: str, request: Callable[[S3Client], T]) -> T:
        """What a small request of another's gives. `doing` completes 'could not …'. Raises StoreError."""
        return self._calls.small(doing, request)

    def wait(self, seconds: float) -> None:
        """Raises StoppedError where a stop is asked for meanwhile."""
        self._cancel.wait(seconds)

    def create(
        self,
        name: str,
        metadata: dict[str, str] | None = None,
        *,
        dated: datetime | None = None,
        replacing: bool = False,
    ) -> S3Draft:
        """Begin an object; see `Store.create`."""
        address = self._address(name)
        if not replacing:
            refuse_taken(self._calls, address)
        return S3Draft(self._calls, address, metadata or {}, self._smallest_part_bytes, replacing=replacing)

    def replace(
        self, name: str, data: bytes, metadata: dict[str, str] | None = None, *, dated: datetime | None = None
    ) -> None:
        """Put a small object in the place of another, in one request; see `Store.replace`."""
        put_small(self._calls, self._address(name), data, metadata or {})

    def open(self, name: str, *, start: int = 0, end: int | None = None) -> AbstractContextManager[BinaryIO]:
        """The object's bytes, taken up again where the connection breaks off; see `Store.open`."""
        address = self._address(name)
        check_range(name, start, end)
        if start == end:
            self.stat(name)
            return io.BytesIO()
        reader: io.BufferedReader = open_object(self._calls, address, start, end)
        return reader

    def stat(self, name: str) -> Entry:
        """Raises NotFoundError, StoreError."""
        return self._stat(name)[0]

    def stat_restore(self, name: str) -> tuple[Entry, str]:
        """As `stat`, and what the server says of the object's thaw. Raises NotFoundError, StoreError."""
        entry, head = self._stat(name)
        return entry, head.restore

    def locked_until(self, name: str) -> datetime | None:
        """Until when the server lets nobody remove it, as far as it says so. Raises NotFoundError, StoreError."""
        return self._stat(name)[1].locked_until

    def _stat(self, name: str) -> tuple[Entry, Head]:
        head = head_object(self._calls, self._address(name))
        if head is None:
            raise NotFoundError(
                f"there is no object {name} in {self.describe()}",
                remedy=f"`hubbackup list --store {self.name}` prints the names there are",
            )
        return Entry(name, head.size_bytes, head.modified_at, head.archived), head

    def look(self) -> BucketLook:
        """One small question to the bucket: is it there, its clock, its region. Raises StoreError."""
        request = {"Bucket": self._bucket, "Prefix": self._prefix, "MaxKeys": 1}
        asked_at = datetime.now(UTC)
        headers = self._calls.small("look at the bucket", partial(_headers, arguments=request))
        region = headers.get("x-amz-bucket-region", "")
        try:
            server_time = parsedate_to_datetime(headers.get("date", "")).astimezone(UTC)
        except ValueError:
            return BucketLook(None, region)
        halfway = asked_at + (datetime.now(UTC) - asked_at) / 2
        return BucketLook((server_time - halfway).total_seconds(), region)

    def entries(self) -> Iterator[Entry]:
        """Every object directly under the prefix, in byte order, page by page.

        A server whose pages go backwards or round in circles is a StoreError: a prune must not act on half a list.
        """
        doing = "list the objects"
        request: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix, "Delimiter": "/"}
        last = ""
        while True:
            page = self._calls.small(doing, partial(_list_page, arguments=dict(request)))
            for found in page.objects:
                if found.name <= last:
                    raise StoreError(f"could not {doing} in {self.describe()}: the server lists them out of order")
                last = found.name
                name = last.removeprefix(self._prefix)
                if is_flat_name(name) and last.startswith(self._prefix):
                    yield Entry(name, found.size_bytes, found.modified_at, found.archived)
            if not page.truncated:
                return
            token = page.token
            if not token or token == request.get("ContinuationToken"):
                raise StoreError(f"could not {doing} in {self.describe()}: the server does not give the next page")
            request["ContinuationToken"] = token

    def delete(self, name: str) -> None:
        """Remove an object; one that is gone already is not an error."""
        key = self._address(name).key
        try:
            # Never DeleteObjects: it demands checksums that other vendors reject.
            self._calls.small(f"delete {name}", lambda client: client.delete_object(Bucket=self._bucket, Key=key))
        except NotFoundError as error:
            if error_code(error) == "NoSuchBucket":
                raise

    def remove_leftovers(self, known: Container[str] = frozenset()) -> list[str]:
        """See `Store.remove_leftovers`: ends unfinished uploads. A server that can't list them: nothing."""
        removed = []
        for name, upload in self._unfinished_of_ours():
            if name in known or upload.is_abandoned:
                self._end_upload(name, upload)
                removed.append(name)
        return sorted(removed)

    def unfinished(self) -> list[str]:
        """The names of ours whose uploads have not ended, which no listing shows, and the vendor bills."""
        return sorted(name for name, _ in self._unfinished_of_ours())

    def _unfinished_of_ours(self) -> list[tuple[str, _Unfinished]]:
        names = [(upload.key.removeprefix(self._prefix), upload) for upload in self._unfinished()]
        return [
            (name, upload)
            for name, upload in names
            if upload.key.startswith(self._prefix) and is_flat_name(name) and self._is_ours(name)
        ]

    def _end_upload(self, name: str, upload: _Unfinished) -> None:
        try:
            self._calls.small(
                f"give up the upload of {name}",
                lambda client: client.abort_multipart_upload(
                    Bucket=self._bucket, Key=upload.key, UploadId=upload.upload_id
                ),
            )
        except StoreError as error:
            if error_code(error) != "NoSuchUpload":  # that is: ended meanwhile
                raise

    def _unfinished(self) -> list[_Unfinished]:
        """Each upload. All are read before one is ended: ending them would move the pages."""
        found: list[_Unfinished] = []
        request: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix}
        while True:
            try:
                page = self._calls.small(
                    "list the unfinished uploads", partial(_list_uploads, arguments=dict(request))
                )
            except StoreError as error:
                if error_code(error) in NOT_IMPLEMENTED:
                    return []
                raise
            found += page.uploads
            if not page.truncated or not page.markers["KeyMarker"] or page.markers.items() <= request.items():
                return found
            request |= page.markers

    def _address(self, name: str) -> Address:
        options: dict[str, Any] = {}
        if self._storage_class and self._in_storage_class(name):
            options["StorageClass"] = self._storage_class
        if self.tag is not None and self._in_storage_class(name):
            options["Tagging"] = urlencode([self.tag])
        if self.lock is not None and self._in_lock(name):
            options |= self.lock.options(datetime.now(UTC))
        return Address(self._bucket, self._prefix + check_name(name), name, options)

    @cached_property
    def _client(self) -> S3Client:
        return make_client(self._access, self._limits)


@dataclass(frozen=True)
class _Page:
    """A page of a listing, its objects under their whole keys, and where the next one begins."""

    objects: list[Entry]
    truncated: bool
    token: str


# What an answer lacks must show inside the request, where it becomes a StoreError.
def _list_page(client: S3Client, arguments: dict[str, Any]) -> _Page:
    page = client.list_objects_v2(**arguments)
    objects = [
        Entry(
            found["Key"],
            found["Size"],
            found["LastModified"].astimezone(UTC),
            found.get("StorageClass") in ARCHIVE_CLASSES,
        )
        for found in page.get("Contents", [])
    ]
    return _Page(objects, bool(page.get("IsTruncated")), page.get("NextContinuationToken", ""))


def _headers(client: S3Client, arguments: dict[str, Any]) -> dict[str, str]:
    return client.list_objects_v2(**arguments)["ResponseMetadata"]["HTTPHeaders"]


def _list_uploads(client: S3Client, arguments: dict[str, Any]) -> _UploadsPage:
    page = client.list_multipart_uploads(**arguments)
    markers = {"KeyMarker": page.get("NextKeyMarker", ""), "UploadIdMarker": page.get("NextUploadIdMarker", "")}
    uploads = [
        _Unfinished(upload["Key"], upload["UploadId"], upload.get("Initiated")) for upload in page.get("Uploads", [])
    ]
    return _UploadsPage(uploads, bool(page.get("IsTruncated")), markers)


@dataclass(frozen=True)
class _Unfinished:
    """A multipart upload without an end. `begun_at` is by the server's clock, None where it does not tell."""

    key: str
    upload_id: str
    begun_at: datetime | None

    @property
    def is_abandoned(self) -> bool:
        """Whoever began it has given it up: no run takes so long."""
        return self.begun_at is not None and datetime.now(UTC) - self.begun_at > ABANDONED


@dataclass(frozen=True)
class _UploadsPage:
    """A page of unfinished uploads."""

    uploads: list[_Unfinished]
    truncated: bool
    markers: dict[str, str]


def _host_of(endpoint_url: str) -> str:
    # Without the user and password that a URL may hold; `urlsplit` would raise on what is none.
    return endpoint_url.rpartition("//")[2].rpartition("@")[2].partition("/")[0]
