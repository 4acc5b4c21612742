"""Content-MD5, the one checksum that every vendor takes, for the calls that demand one."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


def sign_by_md5(client: S3Client, operation: str) -> None:
    """From now on `client` sends this operation with Content-MD5, in the place of botocore's newer checksum."""
    client.meta.events.register(f"before-call.s3.{operation}", _sign, unique_id=f"hubbackup-{operation}")


def _sign(params: dict[str, Any], **_: object) -> None:
    params.get("context", {}).pop("checksum", None)
    headers = params["headers"]
    for name in [name for name in headers if name.lower().startswith(("x-amz-checksum", "x-amz-sdk-"))]:
        del headers[name]
    headers["Content-MD5"] = base64.b64encode(hashlib.md5(params["body"], usedforsecurity=False).digest()).decode()
