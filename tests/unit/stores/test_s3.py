"""The parts of S3Store that decide without a server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st

from hubbackup.errors import StoreError, StoreSilentError
from hubbackup.stores.s3 import S3Store
from hubbackup.stores.s3_calls import Patience, S3Calls, S3Limits
from hubbackup.stores.s3_upload import PARTS_EVERYWHERE, SMALLEST_PART_BYTES, part_size_bytes
from hubbackup.streams.cancel import Cancel

REPOSITORY = Path(__file__).parents[3]


@given(st.integers(0, 5 * 10**12))
def test_parts_are_within_s3s_limits(expected_bytes: int) -> None:
    """5 MiB to 5 GiB; a dump ten times as large as the last still fits into the thousand parts that Scaleway takes,
    up to 5 TB, which is AWS's limit on objects."""
    size = part_size_bytes(expected_bytes)
    assert 5 << 20 <= size <= 5 << 30
    assert size * PARTS_EVERYWHERE >= min(10 * expected_bytes - 1000, 5 * 10**12)


def test_parts_are_small() -> None:
    """An upload starts early, and is never more than a hundredth, or one smallest part, behind the file."""
    assert part_size_bytes(0) == SMALLEST_PART_BYTES == 8 << 20
    assert part_size_bytes(10**11) == 10**9


def test_patience_grows_only_with_bytes_that_get_further(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time earned is for new bytes; sending the same ones again, or a clock that passes, earns nothing."""
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    patience = Patience(10, bytes_per_second=100)
    assert patience.left_seconds() == pytest.approx(10)
    patience.reached(500)
    assert patience.left_seconds() == pytest.approx(15)
    patience.reached(200)
    assert patience.left_seconds() == pytest.approx(15)
    now += 16
    assert patience.left_seconds() == pytest.approx(-1)


def test_making_a_store_does_not_load_boto3() -> None:
    """The command line starts fast: boto3 is loaded at the first request, not before."""
    script = (
        "import sys; from hubbackup.stores.s3 import S3Store; S3Store('b', endpoint_url='https://s3.example');"
        "sys.exit(any(name in sys.modules for name in ('boto3', 'botocore')))"
    )
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True, timeout=30)


@pytest.mark.parametrize(
    ("prefix", "described"),
    [("backups/", "s3://b/backups/"), ("/backups", "s3://b/backups/"), ("", "s3://b/"), ("a/b", "s3://b/a/b/")],
)
def test_a_prefix_is_a_directory(prefix: str, described: str) -> None:
    """However it is written in the settings, a prefix ends at a slash and starts at none."""
    assert S3Store("b", prefix).describe() == described


@pytest.mark.parametrize("endpoint_url", ["s3.fr-par.scw.cloud", "https://", "http://[::1"])
def test_an_endpoint_that_is_no_url_is_told_without_it(endpoint_url: str) -> None:
    """A client that can't be made is a StoreError that names the setting, not its value."""
    with pytest.raises(StoreError) as raised:
        list(S3Store("bucket", endpoint_url=endpoint_url, access_key_id="a", secret_access_key="b").entries())
    assert "S3_ENDPOINT_URL" in raised.value.remedy


@pytest.mark.parametrize(
    ("endpoint_url", "host"),
    [(None, "bucket.s3.eu-west-3.amazonaws.com"), ("https://s3.fr-par.scw.cloud", "s3.fr-par.scw.cloud")],
)
def test_requests_go_to_the_place_that_was_set(endpoint_url: str | None, host: str) -> None:
    """AWS is addressed by the bucket's host name, another vendor by path."""
    store = S3Store("bucket", region="eu-west-3", endpoint_url=endpoint_url, access_key_id="a", secret_access_key="b")
    urls: list[str] = []

    def keep(request: AWSPreparedRequest, **rest: object) -> None:
        urls.append(request.url)
        raise ZeroDivisionError  # nothing is sent, and what is odd is an error of ours

    store._client.meta.events.register("before-send.s3", keep)
    with pytest.raises(StoreError, match="ZeroDivisionError"):
        store.delete("a")
    assert urls == [f"https://{host}/{'bucket/' if endpoint_url else ''}backups/a"]


def test_a_server_that_was_silent_has_little_time_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first silence takes the whole patience, the next ones little; an answer makes it well again."""
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    limits = S3Limits(answer_seconds=60, after_silence_seconds=10, attempts=1)
    calls = S3Calls(lambda: None, "b", "s3://b", limits, Cancel())  # type: ignore[arg-type,return-value]

    def silent(_client: object) -> None:
        raise ReadTimeoutError(endpoint_url="")

    assert calls.patience().left_seconds() == limits.no_progress_seconds
    with pytest.raises(StoreSilentError):
        calls.small("look", silent)
    assert calls.patience().left_seconds() == 10
    calls.small("look", lambda _client: None)
    assert calls.patience().left_seconds() == limits.no_progress_seconds
    with pytest.raises(StoreSilentError):
        calls.small("look", silent)
    now += 601
    assert calls.patience().left_seconds() == limits.no_progress_seconds
