"""The boto3 client of a bucket, and what stands between it and the server: authorities, a proxy."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hubbackup.errors import StoreError
from hubbackup.stores.s3_answers import watch_answers
from hubbackup.stores.s3_calls import S3Limits
from hubbackup.stores.s3_data import READING, loader

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


@dataclass(frozen=True)
class Access:
    """How a server is reached. What is None or empty is left to boto3's own chain (environment, profile, role)."""

    endpoint_url: str | None
    region: str | None
    access_key_id: str | None
    secret_access_key: str | None = field(repr=False)
    ca_bundle: str | None
    """A file with the authorities that sign for the server."""
    addressing_style: str
    """Where the bucket's name is in a URL: `path`, `virtual`, or as boto3 chooses."""


def make_client(access: Access, limits: S3Limits) -> S3Client:
    """Loads boto3. Raises StoreError where nothing can be made of these settings."""
    import boto3
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    if access.ca_bundle:
        check_authorities(access.ca_bundle)
    # Left alone, botocore puts the bucket into the path where an endpoint is set, at AWS into the host's name.
    style: Any = {"addressing_style": access.addressing_style}
    config = Config(
        s3=style if access.addressing_style in ("path", "virtual") else None,
        connect_timeout=limits.connect_seconds,
        read_timeout=limits.read_seconds,
        retries={"total_max_attempts": 1, "mode": "standard"},  # s3_calls decides about another attempt
        # Each part's md5 goes along and the ETags are checked; other vendors reject the newer checksums, and AWS
        # would want them again, part by part, on completion.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        tcp_keepalive=True,
        user_agent_extra="hubbackup",
    )
    parts = botocore.session.Session()
    parts.register_component("data_loader", loader())
    try:
        with READING:
            session = boto3.session.Session(
                aws_access_key_id=access.access_key_id or None,
                aws_secret_access_key=access.secret_access_key or None,
                region_name=access.region or ("us-east-1" if access.endpoint_url else None),
                botocore_session=parts,
            )
            client = session.client(
                "s3", endpoint_url=access.endpoint_url or None, verify=access.ca_bundle or None, config=config
            )
    except (BotoCoreError, ValueError) as error:
        raise StoreError(
            f"no S3 client can be made from these settings ({type(error).__name__})",
            remedy="check S3_ENDPOINT_URL (it starts with https://), AWS_DEFAULT_REGION and the AWS_* variables",
        ) from error
    watch_answers(client, follow_regions=not access.endpoint_url)
    return client


def check_authorities(path: str) -> None:
    """Raises StoreError where the file has no certificate: botocore would only find that no answer comes."""
    remedy = "set S3_CA_BUNDLE to a file with the authority's certificate in PEM, as it is in the container"
    try:
        found = ssl.create_default_context(cafile=path).cert_store_stats()["x509"]
    except ssl.SSLError:
        found = 0
    except OSError as error:
        raise StoreError(
            f"the file of the server's authorities, {path}, can't be read: {error.strerror}", remedy=remedy
        ) from error
    if not found:
        raise StoreError(f"the file of the server's authorities, {path}, has no certificate in it", remedy=remedy)


def proxy_before(url: str) -> str:
    """The host of the proxy by which botocore would ask for `url`, or an empty string."""
    from botocore.utils import get_environ_proxies

    found = get_environ_proxies(url).get(urlsplit(url).scheme, "")
    # Never its user and password.
    return str(found).rpartition("//")[2].rpartition("@")[2].strip("/")
