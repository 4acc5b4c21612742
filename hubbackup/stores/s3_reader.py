"""The bytes of an S3 object, or of a part of it, taken up again where a connection broke off."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from hubbackup.errors import StoreError
from hubbackup.stores.s3_calls import S3Calls
from hubbackup.stores.s3_head import Address

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

READ_BYTES = 256 << 10
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class _Begun(NamedTuple):
    """A first answer: its ETag, where its bytes begin and end in the object, and the connection, if any."""

    etag: str
    position: int
    end: int
    body: StreamingBody | None


def open_object(calls: S3Calls, address: Address, start: int = 0, end: int | None = None) -> io.BufferedReader:
    """The object's bytes from `start` on and before `end`. Raises NotFoundError, StoreError; so does each read."""
    return io.BufferedReader(ObjectReader(calls, address, start, end), READ_BYTES)


class ObjectReader(io.RawIOBase):
    """One object as it was at the first request: a later one asks for the same ETag, so no two versions mix.

    Positions are those in the whole object.
    """

    _body: StreamingBody | None = None  # until __init__ has one: what could not be opened is closed too

    def __init__(self, calls: S3Calls, address: Address, start: int, end: int | None) -> None:
        self._calls = calls
        self._address = address
        self._doing = f"read {address.name}"
        begun = calls.small(self._doing, lambda client: self._begin(client, start, end))
        self._etag, self._position, self._end, self._body = begun
        if self._position < start:
            self._skip(start)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), READ_BYTES, self._end - self._position)
        if wanted <= 0:
            return 0
        # Each attempt takes the connection out: one that fails, or is left behind, must not use it again.
        bodies, self._body = [self._body] if self._body else [], None
        data, self._body = self._calls.run(
            self._doing,
            lambda client: self._read(bodies.pop() if bodies else self._resume(client), wanted),
            attempt_seconds=self._calls.limits.call_seconds,
        )
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._drop()
        super().close()

    def _begin(self, client: S3Client, start: int, end: int | None) -> _Begun:
        from botocore.exceptions import ClientError

        if not start and end is None:
            answer: GetObjectOutputTypeDef = client.get_object(Bucket=self._address.bucket, Key=self._address.key)
            return _Begun(answer.get("ETag", ""), 0, answer["ContentLength"], answer["Body"])
        try:
            answer = self._get(client, start, end)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 416:  # nothing of the object is there
                return _Begun("", start, start, None)
            raise
        etag, body = answer.get("ETag", ""), answer["Body"]
        if answer["ResponseMetadata"]["HTTPStatusCode"] == 200:  # a server that knows no ranges gives all of it
            size_bytes = answer["ContentLength"]
            return _Begun(etag, 0, size_bytes if end is None else min(end, size_bytes), body)
        given = _given(answer)
        if given is None or given != (start, given[2] if end is None else min(end, given[2]), given[2]):
            body.close()
            raise StoreError(f"could not {self._doing}: the server gave other bytes of it than those asked for")
        return _Begun(etag, start, given[1], body)

    def _get(self, client: S3Client, start: int, end: int | None, **conditions: Any) -> GetObjectOutputTypeDef:
        wanted = f"bytes={start}-" if end is None else f"bytes={start}-{end - 1}"
        return client.get_object(Bucket=self._address.bucket, Key=self._address.key, Range=wanted, **conditions)

    def _skip(self, start: int) -> None:
        buffer = bytearray(READ_BYTES)
        last, self._end = self._end, min(start, self._end)
        while self.readinto(buffer):
            pass
        self._end = last

    def _read(self, body: StreamingBody, wanted: int) -> tuple[bytes, StreamingBody]:
        try:
            data = body.read(wanted)
            if not data:
                raise StoreError(f"could not {self._doing}: the connection ended too early", transient=True)
        except BaseException:
            body.close()
            raise
        return data, body

    def _resume(self, client: S3Client) -> StreamingBody:
        from botocore.exceptions import ClientError

        if not self._etag:
            raise StoreError(
                f"could not {self._doing}: the connection broke off, and the server gave no ETag to go on by",
                remedy="try again",
            )
        start, replaced = self._position, f"could not {self._doing}: it was replaced while it was being read"
        try:
            answer = self._get(client, start, self._end, IfMatch=self._etag)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 412:
                raise StoreError(replaced) from error
            raise
        if answer.get("ETag") != self._etag:  # some servers ignore IfMatch
            answer["Body"].close()
            raise StoreError(replaced)
        if (_given(answer) or ())[:2] != (start, self._end):
            answer["Body"].close()
            raise StoreError(f"could not {self._doing}: the server can't go on from byte {start:,}")
        return answer["Body"]

    def _drop(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()


def _given(answer: GetObjectOutputTypeDef) -> tuple[int, int, int] | None:
    """What an answer says to hold: its first byte, the one after its last, and the size of the whole object."""
    found = _CONTENT_RANGE.fullmatch(answer.get("ContentRange", ""))
    return (int(found[1]), int(found[2]) + 1, int(found[3])) if found is not None else None
