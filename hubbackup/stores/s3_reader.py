"""The bytes of an S3 object, taken up again where a connection broke off."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from hubbackup.errors import StoreError
from hubbackup.stores.s3_calls import S3Calls

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

READ_BYTES = 256 << 10


def open_object(calls: S3Calls, bucket: str, key: str, name: str) -> io.BufferedReader:
    """The object, read from its start. Raises NotFoundError, StoreError; so does each read."""
    return io.BufferedReader(ObjectReader(calls, bucket, key, name), READ_BYTES)


class ObjectReader(io.RawIOBase):
    """One object as it was at the first request: a later one asks for the same ETag, so no two versions mix."""

    _body: StreamingBody | None = None  # until __init__ has one: what could not be opened is closed too

    def __init__(self, calls: S3Calls, bucket: str, key: str, name: str) -> None:
        self._calls = calls
        self._bucket = bucket
        self._key = key
        self._doing = f"read {name}"
        self._position = 0

        def begin(client: S3Client) -> tuple[str, int, StreamingBody]:
            answer = client.get_object(Bucket=bucket, Key=key)
            return answer.get("ETag", ""), answer["ContentLength"], answer["Body"]

        self._etag, self._size_bytes, self._body = calls.small(self._doing, begin)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), READ_BYTES, self._size_bytes - self._position)
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
            answer: GetObjectOutputTypeDef = client.get_object(
                Bucket=self._bucket, Key=self._key, Range=f"bytes={start}-", IfMatch=self._etag
            )
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 412:
                raise StoreError(replaced) from error
            raise
        if answer.get("ETag") != self._etag:  # some servers ignore IfMatch
            answer["Body"].close()
            raise StoreError(replaced)
        if answer.get("ContentRange") != f"bytes {start}-{self._size_bytes - 1}/{self._size_bytes}":
            answer["Body"].close()
            raise StoreError(f"could not {self._doing}: the server can't go on from byte {start:,}")
        return answer["Body"]

    def _drop(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()
