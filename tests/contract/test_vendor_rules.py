"""Each vendor of S3 takes what a backup sends, as far as its documents tell; the vendors are fakes of ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from hubbackup.errors import ExistsError, NotFoundError, StoreError
from hubbackup.stores.local import LocalStore
from hubbackup.stores.s3 import S3Store
from tests.support import proxy as faults
from tests.support.proxy import FaultProxy
from tests.support.s3 import SMALL_PARTS, S3Server
from tests.support.vendors import STRICTEST, VENDORS, Rules, Vendor

ALL = pytest.mark.parametrize("vendor", [*VENDORS, STRICTEST], ids=lambda vendor: vendor.name)


@pytest.fixture
def proxy(s3: S3Server, vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """By which every host name leads to the vendor's fake."""
    with FaultProxy(s3.endpoint_url) as running:
        Rules(vendor, running)
        for name in ("no_proxy", "http_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTP_PROXY", running.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")  # what the tests look at behind the fake's back
        yield running


def store_at(s3: S3Server, vendor: Vendor) -> S3Store:
    """With what the documents say to set for this vendor."""
    style = "virtual" if vendor.addressing == {"virtual"} else "auto"
    return s3.store(s3.bucket(), endpoint_url=f"http://{vendor.host}", addressing_style=style)


@ALL
def test_a_vendor_takes_what_a_backup_sends(s3: S3Server, proxy: FaultProxy, vendor: Vendor, tmp_path: Path) -> None:
    """A file that grows, in parts; one that is written; a manifest and its replacement; a taken name; all of it read,
    or a range; the list; an upload given up; deletion."""
    store = store_at(s3, vendor)
    data = os.urandom(20 * SMALL_PARTS + 1000)
    with LocalStore(tmp_path).create("dump.sql.gz") as written, store.create("dump.sql.gz") as draft:
        written.write(data)
        written.commit()
        draft.follow(written.growing)
        assert draft.commit().size_bytes == len(data)
    assert proxy.count(faults.is_part()) == 21
    with pytest.raises(ExistsError):
        store.create("dump.sql.gz")
    with store.create("written.sql.gz") as draft:
        draft.write(data)
        draft.commit()
    for text in (b"{}", b"{1}"):
        store.replace("dump.manifest.json", text)
    with store.open("dump.sql.gz") as whole, store.open("written.sql.gz", start=5, end=99) as some:
        assert (whole.read(), some.read()) == (data, data[5:99])
    assert [entry.name for entry in store.entries()] == ["dump.manifest.json", "dump.sql.gz", "written.sql.gz"]
    with store.create("given-up.sql.gz") as draft:
        draft.write(data)
    assert store.remove_leftovers() == store.unfinished() == []
    store.delete("dump.sql.gz")
    with pytest.raises(NotFoundError):
        store.stat("dump.sql.gz")
    by_host = {("virtual" if seen.headers["host"] != vendor.host else "path") for seen in proxy.seen}
    assert by_host <= vendor.addressing


@pytest.mark.parametrize("vendor", [STRICTEST], ids=["strictest"])
def test_the_fake_refuses_what_it_says(s3: S3Server, proxy: FaultProxy, vendor: Vendor) -> None:
    """Or it would prove nothing: boto3 as it comes, parts of two sizes, a path, a condition, no MD5."""
    bucket, keys = s3.bucket(), {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}

    def client(style: str, checksums: str) -> object:
        config = boto3.session.Config(s3={"addressing_style": style}, request_checksum_calculation=checksums)
        return boto3.session.Session().client("s3", endpoint_url=f"http://{vendor.host}", config=config, **keys)

    plain, usual = client("virtual", "when_required"), client("virtual", "when_supported")
    by_path = client("path", "when_required")
    body = {"Bucket": bucket, "Key": "k", "Body": b"x"}
    with pytest.raises(ClientError, match="Unsupported header"):
        usual.put_object(**body)
    with pytest.raises(ClientError, match="Content-MD5"):
        plain.put_object(**body)
    with pytest.raises(ClientError, match="NoSuchBucket"):
        by_path.list_objects_v2(Bucket=bucket)
    md5 = "nUpWn8MjZhF6mPkjCaX5lg=="
    with pytest.raises(ClientError, match="NotImplemented"):
        plain.put_object(**body, ContentMD5=md5, IfNoneMatch="*")
    with pytest.raises(ClientError, match="NotImplemented"):
        plain.list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize("vendor", [VENDORS[-1]], ids=["by host"])
def test_where_the_bucket_is_looked_for_can_be_set(s3: S3Server, proxy: FaultProxy, vendor: Vendor) -> None:
    """A server that knows buckets by host names alone is asked in vain until S3_ADDRESSING_STYLE says so."""
    bucket = s3.bucket()
    with pytest.raises(StoreError, match="there is no bucket"):
        list(s3.store(bucket, endpoint_url=f"http://{vendor.host}").entries())
    by_host = s3.store(bucket, endpoint_url=f"http://{vendor.host}", addressing_style="virtual")
    assert list(by_host.entries()) == []
    assert proxy.seen[-1].headers["host"] == f"{bucket}.{vendor.host}"
