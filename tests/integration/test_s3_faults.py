"""What S3Store does when the server, or the way to it, is broken: faults 19 to 24 of the catalogue, and their kin."""

from __future__ import annotations

import os
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from hubbackup.catalog.origin import SigningKey, Trust
from hubbackup.catalog.target import LocalTarget, Policy, Target
from hubbackup.errors import (
    ExistsError,
    NotFoundError,
    StoppedError,
    StoreDeniedError,
    StoreError,
    StoreFullError,
)
from hubbackup.jobs.history import History
from hubbackup.jobs.progress import silent
from hubbackup.jobs.run import Run
from hubbackup.logs.setup import get_logger
from hubbackup.stores.local import LocalStore
from hubbackup.stores.s3 import S3Store
from hubbackup.stores.s3_upload import SMALLEST_PART_BYTES
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.growing_file import GrowingFile
from hubbackup.verify.copies import Copy
from hubbackup.verify.job import CopyResult
from hubbackup.verify.repair import RepairJob
from tests.support import proxy as faults
from tests.support.backups import manifest_of, put_backup
from tests.support.proxy import Fault, FaultProxy, Predicate
from tests.support.s3 import QUICK, SMALL_PARTS, S3Server

PARTS_BYTES = 60_000
"""Seven parts, and a rest."""


@pytest.fixture(scope="module")
def bucket(s3: S3Server) -> str:
    return s3.bucket()


@pytest.fixture(scope="module")
def shared_proxy(s3: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(s3.endpoint_url) as running:
        yield running


@pytest.fixture(scope="module")
def shared_store(s3: S3Server, shared_proxy: FaultProxy, bucket: str) -> S3Store:
    return s3.store(bucket, endpoint_url=shared_proxy.url)  # boto3 takes a quarter of a second for each client


@pytest.fixture
def proxy(s3: S3Server, shared_proxy: FaultProxy, bucket: str) -> FaultProxy:
    """The proxy without faults, before a bucket without objects and uploads."""
    for key in s3.keys(bucket):
        s3.client.delete_object(Bucket=bucket, Key=key)
    for upload in s3.client.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
        s3.client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    shared_proxy.forget()
    return shared_proxy


@pytest.fixture
def store(shared_store: S3Store, proxy: FaultProxy) -> S3Store:
    """A store that reaches the server by way of the proxy."""
    return shared_store


def upload(store: S3Store, data: bytes, name: str = "dump.sql.gz") -> None:
    with store.create(name) as draft:
        draft.write(data)
        draft.commit()


def read(store: S3Store, name: str = "dump.sql.gz") -> bytes:
    with store.open(name) as file:
        return file.read()


def assert_nothing_left(s3: S3Server, bucket: str) -> None:
    assert s3.keys(bucket) == []
    assert s3.unfinished(bucket) == []


# 19: errors that pass


@pytest.mark.parametrize(
    ("fault", "when"),
    [
        (faults.answer(500, "InternalError"), faults.is_part(3)),
        (faults.answer(503, "SlowDown"), faults.is_part(3)),
        (faults.answer(400, "RequestTimeout"), faults.is_part(3)),
        (faults.answer(400, "BadDigest"), faults.is_part(3)),
        (faults.reset, faults.is_part(3)),
        (faults.lose_answer, faults.is_part(3)),
        (faults.with_header("ETag", '"0123456789abcdef0123456789abcdef"'), faults.is_part(3)),
        (faults.answer(503, "SlowDown"), faults.is_begin),
        (faults.answer(503, "SlowDown"), faults.is_complete),
        (faults.answer(503, "SlowDown"), faults.is_head),
        (faults.reset, faults.is_head),
    ],
    ids=[
        "part 500", "part 503", "part RequestTimeout", "part BadDigest", "part reset", "part answer lost",
        "part other ETag", "begin 503", "complete 503", "head 503", "head reset",
    ],
)  # fmt: skip
def test_an_error_that_passes_does_not_fail_the_upload(
    store: S3Store, proxy: FaultProxy, fault: Fault, when: Predicate
) -> None:
    """Two failures of the same step, then success: the object is whole, and only that step was done again."""
    proxy.fault(fault, when=when, times=2)
    data = os.urandom(PARTS_BYTES)
    upload(store, data)
    assert read(store) == data
    assert proxy.count(faults.is_part(2)) == 1


def test_a_small_file_is_retried_too(store: S3Store, proxy: FaultProxy) -> None:
    """A single PUT that fails twice is sent a third time."""
    proxy.fault(faults.answer(500, "InternalError"), when=faults.is_put, times=2)
    upload(store, b"manifest")
    assert read(store) == b"manifest"
    assert proxy.count(faults.is_put) == 3


@pytest.mark.parametrize("size", [8, PARTS_BYTES], ids=["small", "in parts"])
def test_a_lost_answer_to_publishing_is_not_taken_for_a_failure(store: S3Store, proxy: FaultProxy, size: int) -> None:
    """The server published, its answer was lost, the retry is told 'exists': our own object is recognized."""
    proxy.fault(faults.lose_answer, when=lambda seen: faults.is_put(seen) or faults.is_complete(seen), times=1)
    data = os.urandom(size)
    upload(store, data)
    assert read(store) == data


def test_no_such_upload_after_a_lost_answer_is_decided_by_looking(store: S3Store, proxy: FaultProxy) -> None:
    """A server that forgets completed uploads answers NoSuchUpload to the retry; the object tells it was done."""
    proxy.fault(faults.lose_answer, when=faults.is_complete, times=1)
    proxy.fault(faults.answer(404, "NoSuchUpload"), when=faults.is_complete, times=1)
    data = os.urandom(PARTS_BYTES)
    upload(store, data)
    assert read(store) == data


# 20: errors that do not pass


@pytest.mark.parametrize(
    "fault",
    [faults.answer(500, "InternalError"), faults.answer(503, "SlowDown"), faults.reset, faults.black_hole,
     faults.drip_answer],
    ids=["500", "503", "reset", "black hole", "drip"],
)  # fmt: skip
@pytest.mark.parametrize(
    "when",
    [faults.is_part(2), faults.is_complete, faults.is_head],
    ids=["part", "complete", "head"],
)
def test_an_error_that_stays_ends_the_upload_in_time(
    s3: S3Server, store: S3Store, proxy: FaultProxy, bucket: str, fault: Fault, when: Predicate
) -> None:
    """Within the deadline, one transient StoreError with a remedy or the server's word, and nothing is left."""
    proxy.fault(fault, when=when)
    started = time.monotonic()
    with pytest.raises(StoreError, match="could not") as raised:
        upload(store, b"x" * PARTS_BYTES)
    assert time.monotonic() - started < QUICK.no_progress_seconds + QUICK.call_seconds
    assert raised.value.transient
    assert s3.secret_access_key not in str(raised.value)
    assert_nothing_left(s3, bucket)


def test_a_server_that_is_not_there_ends_the_upload(s3: S3Server, bucket: str) -> None:
    """Connection refused is retried a few times, then told."""
    store = s3.store(bucket, endpoint_url="http://127.0.0.1:9")
    with pytest.raises(StoreError, match="no connection") as raised:
        upload(store, b"x")
    assert "S3_ENDPOINT_URL" in raised.value.remedy


def test_a_part_that_is_taken_too_slowly_ends_the_upload(
    s3: S3Server, proxy: FaultProxy, bucket: str, tmp_path: Path
) -> None:
    """A server that sips at a part, never silent for long, runs into the bound on bytes that get no further."""
    limits = replace(QUICK, no_progress_seconds=1.5, slowest_bytes_per_second=32 << 20)
    store = s3.store(bucket, endpoint_url=proxy.url, limits=limits, smallest_part_bytes=SMALLEST_PART_BYTES)
    proxy.fault(faults.sip_request, when=faults.is_part())
    path = tmp_path / "dump"
    path.write_bytes(bytes(9 << 20))
    started = time.monotonic()
    with store.create("dump.sql.gz") as draft, pytest.raises(StoreError):
        draft.follow(GrowingFile.complete(path))
    assert time.monotonic() - started < 4
    assert_nothing_left(s3, bucket)


@pytest.mark.parametrize("size", [2 << 20, 8 << 20, (16 << 20) - 1])
def test_a_followed_file_is_not_held_in_memory(s3: S3Server, bucket: str, tmp_path: Path, size: int) -> None:
    """Not its parts, not the end that makes no whole part, not a file that is less than one: it is on the disk."""
    path = tmp_path / "x"
    path.write_bytes(os.urandom(size))
    store = s3.store(bucket, smallest_part_bytes=SMALLEST_PART_BYTES)
    list(store.entries())  # makes the client
    tracemalloc.start()
    try:
        with store.create(f"followed-{size}") as draft:
            draft.follow(GrowingFile.complete(path))
            draft.commit()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    with store.open(f"followed-{size}") as stream:
        assert stream.read() == path.read_bytes()
    store.delete(f"followed-{size}")
    assert peak < 4_000_000


def test_a_dead_server_never_slows_the_writer(store: S3Store, proxy: FaultProxy, tmp_path: Path) -> None:
    """While the upload hangs in a black hole, the dump is written to its end at full speed."""
    proxy.fault(faults.black_hole, when=faults.is_part())
    errors: list[BaseException] = []
    with LocalStore(tmp_path).create("dump.sql.gz") as written, store.create("dump.sql.gz") as draft:

        def follow() -> None:
            try:
                draft.follow(written.growing)
            except StoreError as error:
                errors.append(error)

        follower = threading.Thread(target=follow)
        follower.start()
        started = time.monotonic()
        for _ in range(200):
            written.write(b"x" * 10_000)
        written.commit()
        seconds = time.monotonic() - started
        assert follower.is_alive()
        follower.join(timeout=20)
    assert seconds < 1
    assert len(errors) == 1
    assert LocalStore(tmp_path).stat("dump.sql.gz").size_bytes == 2_000_000


@pytest.mark.parametrize(
    "when", [faults.is_part(2), faults.is_complete, faults.is_head], ids=["part", "complete", "head"]
)
def test_a_stop_ends_a_hanging_request_at_once(s3: S3Server, proxy: FaultProxy, bucket: str, when: Predicate) -> None:
    """A signal is heeded inside a request that hangs: StoppedError in a moment, and the upload is given up."""
    cancel = Cancel()
    limits = replace(QUICK, read_seconds=30, call_seconds=30, no_progress_seconds=30)
    store = s3.store(bucket, endpoint_url=proxy.url, cancel=cancel, limits=limits)
    proxy.fault(faults.black_hole, when=when)
    threading.Timer(0.7, cancel.set).start()
    started = time.monotonic()
    with pytest.raises(StoppedError):
        upload(store, b"x" * PARTS_BYTES)
    assert time.monotonic() - started < 3
    assert_nothing_left(s3, bucket)


def test_giving_up_is_short_and_silent(s3: S3Server, store: S3Store, proxy: FaultProxy, bucket: str) -> None:
    """`abort` against a dead server returns in its few seconds and raises nothing; the next run ends
    the upload."""
    draft = store.create("dump.sql.gz")
    draft.write(b"x" * PARTS_BYTES)
    proxy.fault(faults.black_hole)
    started = time.monotonic()
    draft.abort()
    assert time.monotonic() - started < QUICK.abort_seconds + 1
    assert s3.unfinished(bucket) == ["backups/dump.sql.gz"]
    proxy.mend()
    assert store.remove_leftovers() == ["dump.sql.gz"]
    assert_nothing_left(s3, bucket)


# 21: 200 with an error inside


def test_an_error_inside_a_200_is_retried(store: S3Store, proxy: FaultProxy) -> None:
    """CompleteMultipartUpload that fails with status 200 is asked again until it is true."""
    proxy.fault(faults.answer(200, "InternalError"), when=faults.is_complete, times=2)
    data = os.urandom(PARTS_BYTES)
    upload(store, data)
    assert read(store) == data
    assert proxy.count(faults.is_complete) == 3


def test_an_error_inside_a_200_that_stays_is_an_error(
    s3: S3Server, store: S3Store, proxy: FaultProxy, bucket: str
) -> None:
    """A completion that never succeeds is never counted as one."""
    proxy.fault(faults.answer(200, "InternalError"), when=faults.is_complete)
    with pytest.raises(StoreError, match="InternalError"):
        upload(store, b"x" * PARTS_BYTES)
    assert_nothing_left(s3, bucket)


def test_a_completion_that_was_only_said_is_an_error(store: S3Store, proxy: FaultProxy) -> None:
    """A server that says 'completed' and has no object is found out by the HEAD."""
    said = b"<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"
    proxy.fault(lambda exchange: (exchange.request_body(), exchange.reply(200, [], said))[1], when=faults.is_complete)
    with pytest.raises(StoreError, match="does not have it"):
        upload(store, b"x" * PARTS_BYTES)


@pytest.mark.parametrize("size", [8, PARTS_BYTES], ids=["small", "in parts"])
@pytest.mark.parametrize(
    ("header", "value"),
    [("Content-Length", "7"), ("ETag", '"0123456789abcdef0123456789abcdef"')],
    ids=["size", "ETag"],
)
def test_an_object_that_is_not_what_was_sent_is_an_error_and_is_removed(
    s3: S3Server, store: S3Store, proxy: FaultProxy, bucket: str, size: int, header: str, value: str
) -> None:
    """Size and ETag are compared with what was counted on the way; the object under the name is taken away."""
    data = os.urandom(size)
    with store.create("dump.sql.gz") as draft:
        draft.write(data)
        # The look before publishing finds nothing, so only the one after it is changed.
        proxy.fault(faults.with_header(header, value), when=faults.is_head)
        with pytest.raises(StoreError, match="does not hold"):
            draft.commit()
    assert_nothing_left(s3, bucket)


@pytest.mark.parametrize("size", [8, PARTS_BYTES], ids=["small", "in parts"])
def test_an_etag_that_is_no_md5_is_not_compared(store: S3Store, proxy: FaultProxy, size: int) -> None:
    """Under a key of KMS the ETags are not md5s; the upload is then proven by Content-MD5 and by size."""

    def as_kms(exchange: faults.Exchange) -> None:
        status, headers, body = exchange.forward()
        kept = [(key, value) for key, value in headers if key.lower() != "etag"]
        kms = [("ETag", '"ffffffffffffffffffffffffffffffff"'), ("x-amz-server-side-encryption", "aws:kms")]
        exchange.reply(status, kept + kms if status == 200 else headers, body)

    proxy.fault(as_kms, when=faults.is_head)
    data = os.urandom(size)
    upload(store, data)
    assert all("content-md5" in seen.headers for seen in proxy.seen if faults.is_part()(seen) or faults.is_put(seen))


# 22: denied


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "AccessDenied"), (403, "InvalidAccessKeyId"), (403, "SignatureDoesNotMatch"), (400, "ExpiredToken"),
     (401, "Unauthorized"), (403, "RequestTimeTooSkewed")],
)  # fmt: skip
@pytest.mark.parametrize(
    "when", [faults.is_part(3), faults.is_begin, faults.is_complete], ids=["part", "begin", "complete"]
)
def test_what_is_denied_is_told_at_once(
    s3: S3Server, store: S3Store, proxy: FaultProxy, bucket: str, when: Predicate, status: int, code: str
) -> None:
    """Credentials that are wrong, or revoked mid-upload: StoreDeniedError after one attempt, with a remedy."""
    proxy.fault(faults.answer(status, code, "No.\nReally"), when=when)
    with pytest.raises(StoreDeniedError, match=code) as raised:
        upload(store, b"x" * PARTS_BYTES)
    assert proxy.count(when) == 1
    message = str(raised.value)
    assert f"s3://{bucket}/backups/" in message
    assert "\n" not in message
    assert raised.value.remedy
    assert s3.secret_access_key not in message + raised.value.remedy
    assert_nothing_left(s3, bucket)


def test_a_missing_bucket_is_told_with_its_name(s3: S3Server) -> None:
    """Every call on a bucket that does not exist is NotFoundError; it names bucket and setting."""
    store = s3.store("no-such-bucket")
    with pytest.raises(NotFoundError, match="no-such-bucket") as raised:
        upload(store, b"x" * PARTS_BYTES)
    assert "S3_BACKUP_BUCKET" in raised.value.remedy
    with pytest.raises(NotFoundError, match="no-such-bucket"):
        list(store.entries())
    with pytest.raises(NotFoundError, match="no-such-bucket"):
        store.delete("a")


def test_a_listing_that_is_denied_is_an_error(store: S3Store, proxy: FaultProxy) -> None:
    """A prune that may not list must know it, instead of seeing an empty store."""
    proxy.fault(faults.answer(403, "AccessDenied"), when=faults.is_list)
    with pytest.raises(StoreDeniedError):
        list(store.entries())
    assert proxy.count(faults.is_list) == 1


def test_no_credentials_at_all_are_told(
    s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where boto3's own chain finds nothing either, the error names the two variables."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    store = s3.store(bucket, access_key_id=None, secret_access_key=None)
    with pytest.raises(StoreDeniedError) as raised:
        list(store.entries())
    assert "AWS_ACCESS_KEY_ID" in raised.value.remedy


@pytest.mark.parametrize(("status", "code"), [(403, "QuotaExceeded"), (507, "XMinioStorageFull")])
def test_a_full_bucket_is_told_as_such(store: S3Store, proxy: FaultProxy, status: int, code: str) -> None:
    """A quota that is used up is StoreFullError, not a matter of permissions."""
    proxy.fault(faults.answer(status, code), when=faults.is_part())
    with pytest.raises(StoreFullError):
        upload(store, b"x" * PARTS_BYTES)


def test_a_password_in_the_endpoint_is_never_told(s3: S3Server, bucket: str) -> None:
    """Messages name the endpoint without the user and password that its URL may hold."""
    store = s3.store(bucket, endpoint_url="http://user:hunter2@127.0.0.1:9")
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:9") as raised:
        list(store.entries())
    assert "hunter2" not in str(raised.value) + raised.value.remedy + store.describe()


# 23: limits of other vendors


@pytest.mark.parametrize("known", [True, False], ids=["a size that is known", "a size that is not"])
def test_a_server_that_wants_equal_parts(
    s3: S3Server, store: S3Store, proxy: FaultProxy, bucket: str, tmp_path: Path, known: bool
) -> None:
    """As R2 does: all parts but the last are of one size. A fake of ours: moto takes any."""
    faults.want_equal_parts(proxy)
    data = os.urandom(200 * SMALL_PARTS + 1000)
    with LocalStore(tmp_path).create("dump.sql.gz") as written, store.create("dump.sql.gz") as draft:
        written.growing.expected_bytes = len(data) if known else 0
        written.write(data)
        written.commit()
        draft.follow(written.growing)
        draft.commit()
    assert read(store) == data
    assert proxy.count(faults.is_part()) == (100 if known else 201)


def test_a_held_file_is_sent_in_equal_parts(store: S3Store, proxy: FaultProxy) -> None:
    """What is written, and follows no file, as well."""
    faults.want_equal_parts(proxy)
    data = os.urandom(PARTS_BYTES)
    upload(store, data)
    assert read(store) == data


def test_the_fake_refuses_parts_of_two_sizes(s3: S3Server, proxy: FaultProxy, bucket: str) -> None:
    """Or it would prove nothing."""
    faults.want_equal_parts(proxy)
    client = s3.client_at(proxy.url)
    upload_id = client.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    tags = [
        client.upload_part(Bucket=bucket, Key="k", UploadId=upload_id, PartNumber=number, Body=b"x" * size)["ETag"]
        for number, size in ((1, 100), (2, 110), (3, 10))
    ]
    parts = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, 1)]
    with pytest.raises(ClientError, match="InvalidPart"):
        client.complete_multipart_upload(
            Bucket=bucket,
            Key="k",
            UploadId=upload_id,
            MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
        )


def test_a_file_that_outgrows_its_parts_is_sent_anew_in_larger_ones(
    s3: S3Server, store: S3Store, proxy: FaultProxy, bucket: str, tmp_path: Path
) -> None:
    """A server that takes a thousand equal parts, as Scaleway does, and no newer checksum; the size was not known.

    Everything is scaled by 1:1024, so a part has 8 KiB and the dump 9 MB.
    """
    faults.want_equal_parts(proxy)
    proxy.fault(faults.answer(400, "InvalidArgument"), when=lambda seen: int(seen.query.get("partNumber", 0)) > 1000)
    proxy.fault(faults.answer(400, "InvalidRequest"), when=faults.has_checksum_header)
    data = os.urandom(1_100 * SMALL_PARTS)
    with LocalStore(tmp_path).create("dump.sql.gz") as written, store.create("dump.sql.gz") as draft:
        written.write(data)
        written.commit()
        draft.follow(written.growing)
        draft.commit()
    assert read(store) == data
    assert list(store.entries())
    store.delete("dump.sql.gz")
    assert proxy.count(faults.is_part()) == 1_001 + 110
    assert_nothing_left(s3, bucket)


@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (400, "InvalidArgument")])
@pytest.mark.parametrize("size", [8, PARTS_BYTES], ids=["small", "in parts"])
def test_a_server_without_conditional_writes(
    store: S3Store, proxy: FaultProxy, status: int, code: str, size: int
) -> None:
    """A server that rejects If-None-Match is asked again without it, and a taken name is still not overwritten."""
    proxy.fault(faults.answer(status, code), when=lambda seen: "if-none-match" in seen.headers)
    data = os.urandom(size)
    with store.create("dump.sql.gz") as late:
        late.write(b"y" * size)
        upload(store, data)
        with pytest.raises(ExistsError):
            late.commit()
    assert read(store) == data


@pytest.mark.parametrize("size", [8, PARTS_BYTES], ids=["small", "in parts"])
def test_a_rival_between_the_last_look_and_publishing_wins(
    s3: S3Server, store: S3Store, proxy: FaultProxy, bucket: str, size: int
) -> None:
    """Where the server knows If-None-Match, not even a name taken at the last moment is overwritten."""

    def overtake(exchange: faults.Exchange) -> None:
        s3.client.put_object(Bucket=bucket, Key="backups/dump.sql.gz", Body=b"rival")
        faults.pass_on(exchange)

    proxy.fault(overtake, when=lambda seen: faults.is_put(seen) or faults.is_complete(seen))
    with pytest.raises(ExistsError):
        upload(store, b"x" * size)
    assert read(store) == b"rival"
    assert s3.unfinished(bucket) == []


def test_a_server_that_can_not_list_uploads(store: S3Store, proxy: FaultProxy) -> None:
    """`remove_leftovers` has nothing to do where unfinished uploads can't be listed."""
    proxy.fault(faults.answer(501, "NotImplemented"), when=faults.is_upload_list)
    assert store.remove_leftovers() == []


def test_clean_ends_only_uploads_of_ours(s3: S3Server, bucket: str, proxy: FaultProxy) -> None:
    """Uploads of other programs, under other prefixes or deeper ones are left alone."""
    keys = ["backups/ours.sql.gz", "backups/theirs.iso", "backups/deeper/ours.sql.gz", "other/ours.sql.gz"]
    for key in keys:
        s3.client.create_multipart_upload(Bucket=bucket, Key=key)
    store = s3.store(bucket, is_ours=lambda name: name.endswith(".sql.gz"))
    assert store.remove_leftovers() == ["ours.sql.gz"]
    assert sorted(s3.unfinished(bucket)) == sorted(keys[1:])


class Ages:
    """How old the uploads look that a store lists: moto says of each that it was begun in 2010."""

    def __init__(self, store: S3Store) -> None:
        self.age = timedelta(0)
        store._client.meta.events.register("after-call.s3.ListMultipartUploads", self._date)

    def _date(self, parsed: dict[str, Any], **_: Any) -> None:
        for upload in parsed["Uploads"]:
            upload["Initiated"] = datetime.now(UTC) - self.age


def test_clean_ends_no_upload_that_may_be_another_daemons(s3: S3Server, bucket: str, proxy: FaultProxy) -> None:
    """Of names that were not begun here only those that are a day old; so where no name is said to be."""
    store = s3.store(bucket)
    ages = Ages(store)
    for name in ("mine.sql.gz", "theirs.sql.gz"):
        s3.client.create_multipart_upload(Bucket=bucket, Key=f"backups/{name}")
    assert store.remove_leftovers({"mine.sql.gz"}) == ["mine.sql.gz"]
    ages.age = timedelta(hours=23)
    assert store.remove_leftovers() == []
    assert s3.unfinished(bucket) == ["backups/theirs.sql.gz"]
    ages.age = timedelta(hours=25)
    assert store.remove_leftovers() == ["theirs.sql.gz"]


def test_a_repair_ends_no_upload_of_another_daemon(
    s3: S3Server, bucket: str, proxy: FaultProxy, tmp_path: Path
) -> None:
    """It holds no lock that the other heeds: a backup is on its way into the bucket, and gets there."""
    key, disk, store = SigningKey(b"k" * 64), LocalStore(tmp_path), s3.store(bucket)
    Ages(store)
    trusting = {"trust": lambda: Trust(key, datetime(2026, 1, 1, tzinfo=UTC))}
    targets = [
        LocalTarget("the disk", disk, Policy(days=0), **trusting),
        Target("the bucket", store, Policy(days=0), **trusting),
    ]
    name = put_backup(disk, "hub", datetime(2026, 2, 1, 3))
    data = (tmp_path / str(name)).read_bytes()
    for target in targets:
        target.store.replace(name.manifest, manifest_of(name, data).signed(key).to_json())
    store.replace(str(name), b"rotten")
    with s3.store(bucket).create("hub_backup_20260208_030000.sql.gz") as theirs:
        theirs.write(b"x" * 2 * SMALL_PARTS)
        copy = Copy(name, targets[1], 6, True, False, datetime(2026, 2, 1, 3, tzinfo=UTC))
        history = History(tmp_path / "verified.jsonl")
        job = RepairJob([CopyResult(copy, "bad")], targets, tmp_path / "scratch", history)
        run = Run("repair", "20260208T030000-1a2b3c", Cancel(), get_logger(), lambda what, total: nullcontext(silent))
        assert [one.store for one in job(run).result.copies] == ["s3"]
        assert read(store, str(name)) == data
        theirs.commit()


# 24: listing and deleting


def test_more_than_a_page_is_listed_whole_and_in_order(
    s3: S3Server, store: S3Store, bucket: str, proxy: FaultProxy
) -> None:
    """Pages of the server are joined, with foreign keys left out."""
    wanted = [f"{number:04}.sql.gz" for number in range(12)]
    for key in [*wanted, ".hidden", "deeper/0001.sql.gz", "x.partial"]:
        s3.client.put_object(Bucket=bucket, Key=f"backups/{key}", Body=b"x")
    proxy.fault(page_of(5), when=faults.is_list)
    assert [entry.name for entry in store.entries()] == wanted
    assert len({seen.query.get("continuation-token") for seen in proxy.seen if faults.is_list(seen)}) == 3
    # What lies deeper is not even sent: another program's million keys there would cost a thousand pages.
    assert all(seen.query["delimiter"] == "/" for seen in proxy.seen if faults.is_list(seen))


def test_a_page_that_fails_for_a_while_is_asked_for_again(
    s3: S3Server, store: S3Store, bucket: str, proxy: FaultProxy
) -> None:
    """A failing or a cut page is repeated, and no entry comes twice or is lost."""
    for number in range(3):
        s3.client.put_object(Bucket=bucket, Key=f"backups/{number}", Body=b"x")
    proxy.fault(faults.answer(503, "SlowDown"), when=faults.is_list, times=1)
    proxy.fault(faults.with_body(lambda body: body[: len(body) // 2]), when=faults.is_list, times=1)
    assert [entry.name for entry in store.entries()] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("fault", "times"),
    [
        (faults.answer(500, "InternalError"), float("inf")),
        (faults.with_body(lambda body: body.replace(b"<IsTruncated>false", b"<IsTruncated>true")), 1),
        (faults.with_body(lambda body: body.replace(
            b"<IsTruncated>false", b"<NextContinuationToken>t</NextContinuationToken><IsTruncated>true")),
         float("inf")),
        (faults.with_body(lambda body: body.replace(b"backups/2", b"backups/0")), 1),
        (faults.with_body(lambda body: b"<html>Log in to the hotel's network</html"), float("inf")),
    ],
    ids=["error", "no token", "in circles", "backwards", "captive portal"],
)  # fmt: skip
def test_a_lost_page_is_an_error(
    s3: S3Server, store: S3Store, bucket: str, proxy: FaultProxy, fault: Fault, times: float
) -> None:
    """A listing that can't be finished raises; it never ends as if it were whole, and never runs forever."""
    for number in range(3):
        s3.client.put_object(Bucket=bucket, Key=f"backups/{number}", Body=b"x")
    proxy.fault(fault, when=faults.is_list, times=times)
    with pytest.raises(StoreError):
        list(store.entries())


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (500, "InternalError")])
def test_a_delete_that_fails_is_an_error_and_can_be_repeated(
    store: S3Store, proxy: FaultProxy, status: int, code: str
) -> None:
    """The object is still there after the error, and gone after the next, undisturbed delete."""
    upload(store, b"x")
    proxy.fault(faults.answer(status, code), when=faults.is_delete)
    with pytest.raises(StoreError, match=code):
        store.delete("dump.sql.gz")
    assert read(store) == b"x"
    proxy.mend()
    store.delete("dump.sql.gz")
    assert list(store.entries()) == []


# reading


def test_a_broken_download_goes_on_where_it_was(store: S3Store, proxy: FaultProxy) -> None:
    """Connections that break off again and again: the bytes arrive once each, asked for from where they ended."""
    data = os.urandom(400_000)
    upload(store, data)
    for size, abruptly in ((0, False), (1, False), (100_000, True), (200_000, False)):
        proxy.fault(faults.cut_body(size, abruptly=abruptly), when=faults.is_get, times=1)
    assert read(store) == data
    later = [seen for seen in proxy.seen if faults.is_get(seen)][1:]
    assert len(later) == 4
    assert all(seen.headers["if-match"] and seen.headers["range"].startswith("bytes=") for seen in later)


def test_a_download_that_stays_broken_is_an_error(store: S3Store, proxy: FaultProxy) -> None:
    """No endless resuming, and no short read that looks like the end."""
    upload(store, os.urandom(400_000))
    proxy.fault(faults.cut_body(0), when=faults.is_get)
    with store.open("dump.sql.gz") as file, pytest.raises(StoreError):
        file.read()


def test_a_dripping_download_is_an_error(store: S3Store, proxy: FaultProxy) -> None:
    """A byte now and then is not progress."""
    upload(store, os.urandom(400_000))
    proxy.fault(faults.drip_body, when=faults.is_get)
    started = time.monotonic()
    with store.open("dump.sql.gz") as file, pytest.raises(StoreError):
        file.read()
    assert time.monotonic() - started < QUICK.no_progress_seconds + QUICK.call_seconds


@pytest.mark.parametrize("knows_if_match", [True, False])
def test_an_object_that_is_replaced_while_it_is_read_is_an_error(
    s3: S3Server, store: S3Store, proxy: FaultProxy, bucket: str, knows_if_match: bool
) -> None:
    """Two versions are never mixed into one stream, also where the server ignores If-Match."""
    upload(store, os.urandom(400_000))
    proxy.fault(faults.cut_body(300_000), when=faults.is_get, times=1)
    if not knows_if_match:
        proxy.fault(without("if-match"), when=faults.is_get)
    with store.open("dump.sql.gz") as file:
        file.read(1)
        s3.client.put_object(Bucket=bucket, Key="backups/dump.sql.gz", Body=os.urandom(400_000))
        with pytest.raises(StoreError, match="replaced"):
            file.read()


def is_part_of_an_object(seen: faults.Seen) -> bool:
    return faults.is_get(seen) and "range" in seen.headers


def test_only_the_part_that_is_asked_for_is_fetched(store: S3Store, proxy: FaultProxy) -> None:
    """A small part of a large object costs its own bytes, and one request."""
    data = os.urandom(400_000)
    upload(store, data)
    proxy.forget()
    with store.open("dump.sql.gz", start=100_000, end=103_000) as file:
        assert file.read() == data[100_000:103_000]
    assert [seen.headers["range"] for seen in proxy.seen] == ["bytes=100000-102999"]


def test_a_broken_part_goes_on_where_it_was(store: S3Store, proxy: FaultProxy) -> None:
    """Within a part, too: asked for from where it ended, up to where the part ends, of the same version."""
    data = os.urandom(400_000)
    upload(store, data)
    for size, abruptly in ((0, False), (1, False), (70_000, True), (100_000, False)):
        proxy.fault(faults.cut_body(size, abruptly=abruptly), when=faults.is_get, times=1)
    with store.open("dump.sql.gz", start=50_000, end=380_000) as file:
        assert file.read() == data[50_000:380_000]
    later = [seen.headers for seen in proxy.seen if faults.is_get(seen)][1:]
    assert len(later) == 4
    assert all(headers["if-match"] and headers["range"].endswith("-379999") for headers in later)


@pytest.mark.parametrize(("start", "end"), [(50_000, 380_000), (0, 300_000), (390_000, 500_000), (400_000, 500_000)])
def test_a_server_without_ranges_gives_the_same_bytes(
    store: S3Store, proxy: FaultProxy, start: int, end: int
) -> None:
    """One that ignores Range answers with the whole object: what was not asked for is passed over."""
    data = os.urandom(400_000)
    upload(store, data)
    proxy.fault(without("range"), when=faults.is_get)
    with store.open("dump.sql.gz", start=start, end=end) as file:
        assert file.read() == data[start:end]


@pytest.mark.parametrize("said", ["bytes 50000-379998/400000", "bytes 50001-379999/400000", "bytes */400000", "some"])
def test_other_bytes_than_those_asked_for_are_an_error(store: S3Store, proxy: FaultProxy, said: str) -> None:
    """A part that is shorter, or lies elsewhere, or says nothing of it, is never taken for what was asked."""
    upload(store, os.urandom(400_000))
    proxy.fault(faults.with_header("Content-Range", said), when=is_part_of_an_object)
    with pytest.raises(StoreError, match="other bytes"):
        store.open("dump.sql.gz", start=50_000, end=380_000)


@pytest.mark.parametrize("knows_if_match", [True, False])
def test_an_object_that_is_replaced_while_a_part_is_read_is_an_error(
    s3: S3Server, store: S3Store, proxy: FaultProxy, bucket: str, knows_if_match: bool
) -> None:
    """Two versions are never mixed within a part, also where the server ignores If-Match."""
    upload(store, os.urandom(400_000))
    proxy.fault(faults.cut_body(290_000), when=faults.is_get, times=1)
    if not knows_if_match:
        proxy.fault(without("if-match"), when=faults.is_get)
    with store.open("dump.sql.gz", start=10_000, end=390_000) as file:
        file.read(1)
        s3.client.put_object(Bucket=bucket, Key="backups/dump.sql.gz", Body=os.urandom(400_000))
        with pytest.raises(StoreError, match="replaced"):
            file.read()


# what is sent


def test_options_reach_the_server(s3: S3Server, bucket: str, proxy: FaultProxy) -> None:
    """Storage class and metadata go with both ways of uploading."""
    store = s3.store(bucket, endpoint_url=proxy.url, storage_class="STANDARD_IA")
    for name, size in (("small", 8), ("large", PARTS_BYTES)):
        with store.create(name, {"run": "42"}) as draft:
            draft.metadata["database"] = "hub"
            draft.write(b"x" * size)
            draft.commit()
        head = s3.client.head_object(Bucket=bucket, Key=f"backups/{name}")
        assert head["StorageClass"] == "STANDARD_IA"
        assert head["Metadata"].items() >= {"run": "42", "database": "hub"}.items()


def page_of(size: int) -> Fault:
    """ListObjectsV2 with at most `size` keys a page."""

    def fault(exchange: faults.Exchange) -> None:
        exchange.path += f"&max-keys={size}"
        faults.pass_on(exchange)

    return fault


def without(*names: str) -> Fault:
    """Pass on to a server that does not know these headers of the request."""

    def fault(exchange: faults.Exchange) -> None:
        for name in names:
            del exchange.headers[name]
        faults.pass_on(exchange)

    return fault


def test_the_seen_requests_hold_no_secret(s3: S3Server, store: S3Store, proxy: FaultProxy) -> None:
    """The secret key signs requests, and is in none of them."""
    upload(store, b"x" * PARTS_BYTES)
    sent: Any = [(seen.path, seen.query, seen.headers) for seen in proxy.seen]
    assert s3.secret_access_key not in repr(sent)
