"""A file on its way into S3: in parts that follow a growing file, or in one request where it is small."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from uuid import uuid4

from hubbackup.errors import StoreError
from hubbackup.stores import Entry, follow_by_writing
from hubbackup.stores.s3_calls import Patience, S3Calls
from hubbackup.stores.s3_errors import NOT_IMPLEMENTED, error_code
from hubbackup.stores.s3_head import Address, Head, head_object, md5_of, refuse_taken, taken
from hubbackup.streams.growing_file import CHUNK_BYTES, FileSlice, GrowingFile

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

SMALLEST_PART_BYTES = 8 << 20
LARGEST_PART_BYTES = 5 << 30
USUAL_PARTS = 100
"""Of a file like the last: so the upload is never more than a hundredth behind it."""
PARTS_EVERYWHERE = 1_000
"""Scaleway takes no more."""
PARTS_AT_MOST = 10_000
_MOST_HELD_BYTES = 16 << 20
"""A part of what is written (not followed) waits in memory, so it is no larger."""
_SMALL_BYTES = 1 << 20
"""A file up to this size is held, and put in one request; a larger one is sent from the disk to its end."""
_TOKEN = "hubbackup-upload"  # noqa: S105 - the name of a metadata field
_CONDITION_UNKNOWN = NOT_IMPLEMENTED | {"InvalidArgument", "InvalidRequest"}
_TAG_REFUSED = NOT_IMPLEMENTED | {"AccessDenied", "InvalidTag", "403"}
_PART_REFUSED = {"InvalidArgument", "InvalidPart", "InvalidPartNumber", "InvalidRequest", "TooManyParts"}
_PERHAPS_DONE = {"PreconditionFailed", "412", "NoSuchUpload"}


def part_size_bytes(expected_bytes: int, smallest_bytes: int = SMALLEST_PART_BYTES) -> int:
    """The size of each part but the last, of a file that will have about `expected_bytes` (0: not known).

    All alike: R2 refuses others. A file that is ten times as large still fits into the parts that all servers take.
    """
    return min(max(expected_bytes // USUAL_PARTS, smallest_bytes), LARGEST_PART_BYTES)


class _TooManyPartsError(StoreError):
    """The server takes no further part: they must be larger."""


@dataclass(frozen=True)
class _Part:
    number: int
    etag: str
    md5: bytes


class S3Draft:
    """An object being uploaded; nothing shows under its key before `commit`.

    `metadata` may be added to until the first part is sent: for a file of up to 1 MiB that is at `commit`.
    """

    def __init__(
        self,
        calls: S3Calls,
        address: Address,
        metadata: Mapping[str, str],
        part_bytes: int,
        *,
        replacing: bool = False,
    ) -> None:
        self.metadata = dict(metadata)
        self._replacing = replacing
        self.size_bytes = 0
        self.remark = ""
        self._calls = calls
        self._address = address
        self._options = dict(address.options)
        self._part_bytes = part_bytes
        self._token = uuid4().hex
        self._held = bytearray()
        self._upload_id: str | None = None
        self._parts: list[_Part] = []
        self._closed = False
        self._entry: Entry | None = None

    def __enter__(self) -> S3Draft:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.abort()

    def write(self, data: bytes | memoryview) -> None:
        """Append `data`, which is held until it makes a part. Raises StoreError."""
        self._check_open()
        self._held += data
        self.size_bytes += memoryview(data).nbytes
        size = min(self._part_bytes, _MOST_HELD_BYTES)
        while len(self._held) >= size:
            self._send_held(bytes(self._held[:size]))
            del self._held[:size]

    def follow(self, source: GrowingFile) -> None:
        """Append all of `source`, part by part as it grows; see `Draft.follow`."""
        self._check_open()
        if self._held:
            follow_by_writing(self, source)
            return
        self._part_bytes = part_size_bytes(source.expected_bytes, self._part_bytes)
        try:
            with source.open() as file:
                self._follow(source, file)
        except OSError as error:
            raise StoreError(f"{source.path} could not be read to upload it: {error.strerror}") from error

    def commit(self) -> Entry:
        """Publish under the key, and prove by a HEAD that the object is what was sent; see `Draft.commit`."""
        if self._entry is not None:
            return self._entry
        self._check_open()
        if not self._replacing:
            # `IfNoneMatch` decides where the server knows it; this look covers the servers that ignore it.
            refuse_taken(self._calls, self._address)
        if not self._parts:
            md5 = hashlib.md5(self._held, usedforsecurity=False)
            etag = md5.hexdigest()
            body, checksum = bytes(self._held), _base64(md5.digest())
            self._publish(
                lambda client, condition: client.put_object(
                    Body=body, ContentMD5=checksum, Metadata=self._labels(), **self._where(), **condition
                )
            )
        else:
            if self._held:
                self._send_held(bytes(self._held))
            etag = hashlib.md5(b"".join(part.md5 for part in self._parts), usedforsecurity=False).hexdigest()
            etag = f"{etag}-{len(self._parts)}"
            parts: list[CompletedPartTypeDef] = [
                {"PartNumber": part.number, "ETag": part.etag} for part in self._parts
            ]
            upload_id = self._upload_id or ""
            self._publish(
                lambda client, condition: client.complete_multipart_upload(
                    Bucket=self._address.bucket,
                    Key=self._address.key,
                    UploadId=upload_id,
                    MultipartUpload={"Parts": parts},
                    **condition,
                )
            )
        self._upload_id = None
        self._entry = self._proven(etag)
        self._closed = True
        return self._entry

    def abort(self) -> None:
        """End the multipart upload, best effort and in a few seconds; never raises."""
        self._closed = True
        self._held.clear()
        self._end_upload()

    def _end_upload(self) -> None:
        upload_id, self._upload_id = self._upload_id, None
        if upload_id is not None:
            self._calls.tidy(
                f"give up the upload of {self._address.name}",
                lambda client: client.abort_multipart_upload(
                    Bucket=self._address.bucket, Key=self._address.key, UploadId=upload_id
                ),
            )

    def _follow(self, source: GrowingFile, file: BinaryIO) -> None:
        """Where the file outgrows its parts it is sent anew, in larger ones: all must be of one size."""
        while True:
            try:
                self._send_as_it_grows(source, file)
                return
            except _TooManyPartsError:
                if self._part_bytes >= LARGEST_PART_BYTES:
                    raise
                self._end_upload()
                self._parts.clear()
                self.size_bytes = 0
                self._part_bytes = min(self._part_bytes * 10, LARGEST_PART_BYTES)

    def _send_as_it_grows(self, source: GrowingFile, file: BinaryIO) -> None:
        offset, size = 0, self._part_bytes
        while True:
            available, _finished = source.wait_for(offset + size)
            self._calls.cancel.check()
            if available - offset < size:  # so it is finished
                break
            self._send_slice(file, offset, size)
            offset += size
        rest = available - offset
        if not self._parts and rest <= _SMALL_BYTES:
            self.write(_read_exactly(file, offset, rest))
        elif rest:
            self._send_slice(file, offset, rest)

    def _send_slice(self, file: BinaryIO, offset: int, size: int) -> None:
        md5 = hashlib.md5(usedforsecurity=False)
        with FileSlice(file.fileno(), offset, size) as body:
            while block := body.read(CHUNK_BYTES):
                self._calls.cancel.check()
                md5.update(block)
        patience = self._calls.patience()

        def on_read(data: bytes, position: int) -> None:
            patience.reached(position + len(data))
            # A request that was left behind must not go on sending.
            if self._calls.cancel.is_set() or patience.left_seconds() <= 0:
                raise TimeoutError

        def request(client: S3Client, arguments: dict[str, Any]) -> Mapping[str, Any]:
            # Opened and closed here: the thread of a request left behind keeps its own descriptor.
            with FileSlice(file.fileno(), offset, size, on_read) as body:
                return client.upload_part(Body=cast("BinaryIO", body), **arguments)

        self._send_part(md5.digest(), size, request, patience)
        self.size_bytes += size

    def _send_held(self, data: bytes) -> None:
        def request(client: S3Client, arguments: dict[str, Any]) -> Mapping[str, Any]:
            return client.upload_part(Body=data, **arguments)

        md5 = hashlib.md5(data, usedforsecurity=False).digest()
        patience = self._calls.patience()
        patience.reached(len(data))  # how far it gets is not seen: the time for all of it
        self._send_part(md5, len(data), request, patience)

    def _send_part(
        self,
        md5: bytes,
        size: int,
        request: Callable[[S3Client, dict[str, Any]], Mapping[str, Any]],
        patience: Patience,
    ) -> None:
        number = len(self._parts) + 1
        if number > PARTS_AT_MOST:
            raise _TooManyPartsError(
                f"could not upload {self._address.name}: it has more than {PARTS_AT_MOST:,} parts"
            )
        doing = f"upload part {number} of {self._address.name}"
        arguments = {
            "Bucket": self._address.bucket,
            "Key": self._address.key,
            "UploadId": self._begun(),
            "PartNumber": number,
            "ContentLength": size,
            # The one checksum that every vendor takes: the server itself refuses a part that changed on its way,
            # also where its ETags are not md5, and a bucket with object lock asks for it.
            "ContentMD5": _base64(md5),
        }

        def attempt(client: S3Client) -> str:
            answer = request(client, arguments)
            if md5_of(answer) not in ("", md5.hex()):
                raise StoreError(f"could not {doing}: the server holds other bytes than were sent", transient=True)
            return str(answer["ETag"])

        try:
            etag = self._calls.run(doing, attempt, attempts=self._calls.limits.part_attempts, patience=patience)
        except StoreError as error:
            if number > PARTS_EVERYWHERE and error_code(error) in _PART_REFUSED:
                raise _TooManyPartsError(str(error), remedy=error.remedy) from error
            raise
        self._parts.append(_Part(number, etag, md5))

    def _begun(self) -> str:
        """The id of the multipart upload, begun at the first part: a small file needs none."""
        while self._upload_id is None:
            try:
                self._upload_id = self._calls.small(
                    f"begin the upload of {self._address.name}",
                    lambda client: client.create_multipart_upload(Metadata=self._labels(), **self._where())[
                        "UploadId"
                    ],
                )
            except StoreError as error:
                if not self._give_up_tag(error):
                    raise
        return self._upload_id

    def _give_up_tag(self, error: StoreError) -> bool:
        """Whether to go on without the tag: a copy that no rule archives is better than none."""
        if "Tagging" not in self._options or error_code(error) not in _TAG_REFUSED:
            return False
        tag = self._options.pop("Tagging")
        self.remark = f"no lifecycle rule archives or expires {self._address.name}, without its tag {tag}: {error}"
        return True

    def _publish(self, request: Callable[..., object]) -> None:
        """Run the request that makes the object visible; a lost answer is not a reason to believe that it failed."""
        conditions: list[dict[str, Any]] = [{}] if self._replacing else [{"IfNoneMatch": "*"}, {}]
        for condition in conditions:
            try:
                self._calls.run(f"publish {self._address.name}", partial(request, condition=condition))
                return
            except StoreError as error:
                if self._upload_id is None and self._give_up_tag(error):
                    self._publish(request)
                    return
                code = error_code(error)
                if code in _PERHAPS_DONE:
                    # An earlier attempt may have come through, and only its answer been lost: the token tells.
                    head = self._head()
                    if head is not None and self._is_ours(head):
                        return
                    if head is not None and code != "NoSuchUpload":
                        raise taken(self._address) from error
                if code not in _CONDITION_UNKNOWN or not condition:
                    raise

    def _proven(self, etag: str) -> Entry:
        head = self._head()
        if head is None:
            raise StoreError(f"{self._address.name} was published, but the server does not have it")
        if head.size_bytes == self.size_bytes and head.etag in ("", etag):
            return Entry(self._address.name, head.size_bytes, head.modified_at)
        if self._is_ours(head):
            # What this very upload made is not what was sent: no name may lead to it.
            self._calls.tidy(
                f"remove {self._address.name}",
                lambda client: client.delete_object(Bucket=self._address.bucket, Key=self._address.key),
            )
        raise StoreError(
            f"the server does not hold {self._address.name} as it was sent: {head.size_bytes:,} bytes with ETag "
            f"{head.etag or 'unknown'} "
            f"instead of {self.size_bytes:,} with {etag}",
            remedy="upload it again; where this happens again, do not trust this S3 service",
        )

    def _head(self) -> Head | None:
        return head_object(self._calls, self._address)

    def _is_ours(self, head: Head) -> bool:
        return head.metadata.get(_TOKEN) == self._token

    def _labels(self) -> dict[str, str]:
        return {**self.metadata, _TOKEN: self._token}

    def _where(self) -> dict[str, Any]:
        return {"Bucket": self._address.bucket, "Key": self._address.key, **self._options}

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"{self._address.name} is not being written any more")


def put_small(calls: S3Calls, address: Address, data: bytes, metadata: Mapping[str, str]) -> None:
    """One object in one request, whatever was there; the server itself refuses bytes that changed on their way."""
    md5 = hashlib.md5(data, usedforsecurity=False)
    answer = calls.run(
        f"replace {address.name}",
        lambda client: client.put_object(
            Bucket=address.bucket,
            Key=address.key,
            Body=data,
            ContentMD5=_base64(md5.digest()),
            Metadata=dict(metadata),
            **address.options,
        ),
    )
    if md5_of(answer) not in ("", md5.hexdigest()):
        raise StoreError(f"could not replace {address.name}: the server holds other bytes than were sent")


def _base64(md5: bytes) -> str:
    return base64.b64encode(md5).decode()


def _read_exactly(file: BinaryIO, offset: int, size: int) -> bytes:
    with FileSlice(file.fileno(), offset, size) as rest:
        return b"".join(iter(lambda: rest.read(CHUNK_BYTES), b""))
