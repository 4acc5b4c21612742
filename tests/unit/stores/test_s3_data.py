"""What S3's clients are made from: less than botocore reads by itself, and to the same effect."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import boto3.session
import botocore.loaders
import botocore.session
import pytest

from hubbackup.stores.s3_data import SERVICES, LeanFiles, loader


def client(region: str, lean: bool) -> Any:
    parts = botocore.session.Session()
    if lean:
        parts.register_component("data_loader", loader())
    session = boto3.session.Session("key", "secret", region_name=region, botocore_session=parts)
    return session.client("s3")


def fresh() -> botocore.loaders.Loader:
    """Not the one that is shared: making a client adds to what it has read."""
    files: Any = LeanFiles()
    return botocore.loaders.Loader(file_loader=files)


def without_prose(data: Any) -> Any:
    """The oracle: `documentation` emptied, in the plainest way."""
    if isinstance(data, dict):
        empty = {"documentation": ""} if isinstance(data.get("documentation"), str) else {}
        return {key: without_prose(value) for key, value in data.items()} | empty
    return [without_prose(one) for one in data] if isinstance(data, list) else data


@pytest.mark.parametrize("kind", ["service-2", "endpoint-rule-set-1", "paginators-1"])
def test_the_model_of_s3_is_whole(kind: str) -> None:
    """Every operation, shape, rule and paginator is there; only texts for people are not."""
    own = botocore.loaders.Loader().load_service_model("s3", kind)
    assert fresh().load_service_model("s3", kind) == without_prose(own)


def test_other_services_endpoints_are_left_out() -> None:
    """What S3 and its credentials need is kept as it was, in every partition of AWS."""
    own = botocore.loaders.Loader().load_data("endpoints")
    kept = fresh().load_data("endpoints")
    assert len(kept["partitions"]) == len(own["partitions"]) > 1
    for ours, theirs in zip(kept["partitions"], own["partitions"], strict=True):
        assert ours["services"] == {name: theirs["services"][name] for name in SERVICES if name in theirs["services"]}
        assert "s3" in ours["services"]
        assert ours | {"services": {}} == theirs | {"services": {}}


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-3", "cn-north-1", "us-gov-west-1", "fr-par"])
def test_requests_go_where_they_went(region: str) -> None:
    """The same host and the same signature's region as with botocore's own data, in every kind of region."""
    request = {"Bucket": "bucket", "Key": "a key"}
    urls = [urlsplit(client(region, lean).generate_presigned_url("get_object", request)) for lean in (True, False)]
    places = [(url.scheme, url.netloc, url.path) for url in urls]
    signed = [{name: value for name, value in parse_qsl(url.query) if name == "X-Amz-Credential"} for url in urls]
    assert (places[0], signed[0]) == (places[1], signed[1])


def test_all_clients_share_what_was_read() -> None:
    """A second client costs no second copy of the model."""
    assert loader() is loader()
    assert loader().load_data("endpoints") is loader().load_data("endpoints")
