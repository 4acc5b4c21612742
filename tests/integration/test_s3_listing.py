"""Listing a large bucket: a request for a thousand objects, little memory, and every page as botocore reads it."""

from __future__ import annotations

import tracemalloc
from typing import Any
from xml.sax.saxutils import escape

import boto3
import pytest
from botocore.parsers import ResponseParserError, create_parser
from hypothesis import given
from hypothesis import strategies as st

from hubbackup.catalog.listing import newest, scan
from hubbackup.stores.s3_pages import take_objects
from tests.support.prepared_bucket import PAGE_KEYS, name_of, prepared_bucket

NAMESPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
REST = (
    "<IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b</NextContinuationToken><KeyCount>3</KeyCount>"
    "<EncodingType>url</EncodingType><CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes>"
)
SHAPE = (
    boto3.session.Session()
    .client("s3", region_name="us-east-1")
    .meta.service_model.operation_model("ListObjectsV2")
    .output_shape
)


def answer(body: str) -> dict[str, Any]:
    return {"status_code": 200, "headers": {}, "body": body.encode()}


def by_botocore(response: dict[str, Any]) -> dict[str, Any]:
    parsed: dict[str, Any] = create_parser("rest-xml").parse(response, SHAPE)
    return parsed


def object_xml(key: str, size: int | str, time: str) -> str:
    return (
        f"<Contents><Key>{escape(key)}</Key><LastModified>{time}</LastModified><ETag>&quot;1-2&quot;</ETag>"
        f"<Size>{size}</Size><Owner><ID>me</ID></Owner><StorageClass>STANDARD</StorageClass></Contents>"
    )


def page(objects: list[str], namespace: str = NAMESPACE) -> str:
    head = f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult{namespace}>'
    return f"{head}{''.join(objects)}{REST}</ListBucketResult>"


keys = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), min_size=1)
times = st.sampled_from(
    ["2026-02-08T03:00:07.000Z", "2026-02-08T03:00:07Z", "2026-02-08T03:00:07.123456Z", "2026-02-08T03:00:07+01:00"]
)


@given(
    st.lists(st.builds(object_xml, keys, st.integers(0, 2**43), times), max_size=3), st.sampled_from([NAMESPACE, ""])
)
def test_a_page_is_read_as_botocore_reads_it(objects: list[str], namespace: str) -> None:
    """Key, size, time and class of each object are those that botocore finds, and so is the rest of the page."""
    expected = by_botocore(answer(page(objects, namespace)))
    for found in expected.get("Contents", []):
        for other in ("ETag", "Owner"):
            del found[other]
    response, taken = answer(page(objects, namespace)), dict[str, Any]()
    take_objects(response, taken)
    assert bool(taken) == bool(objects)
    assert b"Contents" not in response["body"]
    assert by_botocore(response) | taken == expected


@pytest.mark.parametrize(
    "body",
    [
        page([object_xml("a", 1, "Sun, 08 Feb 2026 03:00:07 GMT")]),
        page([object_xml("a", 1, "2026-02-08T03:00:07")]),
        page([object_xml("a", 1, "2026-02-08T03:00:07Z"), object_xml("", 1, "2026-02-08T03:00:07Z")]),
        page([object_xml("a", "many", "2026-02-08T03:00:07Z")]),
        page([object_xml("a", 1, "2026-02-08T03:00:07Z").replace("<Size>1</Size>", "")]),
        page([]),
        "<Error><Code>SlowDown</Code></Error>",
        "<ListBucketResult><Contents>",
        "",
    ],
)
def test_what_is_not_as_expected_is_left_to_botocore(body: str) -> None:
    """A time in another form, a field that is missing, an error, half a page: nothing is touched."""
    response, taken = answer(body), dict[str, Any]()
    take_objects(response, taken)
    assert response == answer(body)
    assert taken == {}


def test_half_a_page_is_an_error_and_no_short_list() -> None:
    """What botocore then says of it is what `entries` hears."""
    with pytest.raises(ResponseParserError):
        by_botocore(answer("<ListBucketResult><Contents>"))


def test_a_store_reads_its_pages_so() -> None:
    """What S3Store lists by never asks botocore for the fields that a listing has no use for."""
    with prepared_bucket(3) as bucket:
        found = bucket.store()._client.list_objects_v2(Bucket="bucket", Prefix="backups/")
    assert [one["Key"] for one in found["Contents"]][1::2] == [f"backups/{name_of(number)}" for number in range(3)]
    assert all(one.keys() == {"Key", "Size", "LastModified", "StorageClass"} for one in found["Contents"])


def test_a_hundred_thousand_objects_cost_a_hundred_requests() -> None:
    """Each page once and nothing beside, for the whole listing and for finding the newest; no manifest is read."""
    with prepared_bucket(50_000) as bucket:
        store = bucket.store()
        assert sum(1 for _ in scan([store])) == 50_000
        assert bucket.requests() == 2 * 50_000 / PAGE_KEYS
        (found,), left_out = newest(scan([store]), 1)
    assert (found.name, left_out) == (name_of(49_999), 49_999)


def test_a_large_bucket_is_listed_in_the_memory_of_a_page() -> None:
    """Twenty pages take no more than two do: what was listed is not held."""

    def peak(backups: int) -> int:
        with prepared_bucket(backups) as bucket:
            store = bucket.store()
            next(store.entries())  # boto3 itself
            tracemalloc.start()
            try:
                assert sum(1 for _ in scan([store])) == backups
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    few, many = peak(1_000), peak(10_000)
    assert many < few + (1 << 20)
