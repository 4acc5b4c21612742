"""A policy-enforcing fake: a proxy before moto that does only what an IAM policy allows, and says no as AWS does.

moto's own IAM knows neither resources nor which further actions a request takes (a tag, a retention). This one knows
what AWS documents for the requests that hubbackup makes, and refuses a request that it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from tests.support.proxy import Exchange, FaultProxy, Seen, answer, pass_on

BUCKET_READS = {
    "lifecycle": "s3:GetLifecycleConfiguration",
    "versioning": "s3:GetBucketVersioning",
    "object-lock": "s3:GetBucketObjectLockConfiguration",
    "versions": "s3:ListBucketVersions",
    "uploads": "s3:ListBucketMultipartUploads",
}


@dataclass
class PolicyProxy(FaultProxy):
    """A server that knows one key, whose rights are `policy` (the document as JSON)."""

    policy: str = ""
    asked: set[str] = field(default_factory=set)
    """Every action that was asked for."""
    denied: list[str] = field(default_factory=list)
    """Those that were refused, in their order."""

    def take(self, seen: Seen) -> Any:
        """Refuse what is not allowed; the rest is the server's."""
        super().take(seen)
        for action, resource in actions_of(seen):
            self.asked.add(action)
            if not self._allows(action, resource):
                self.denied.append(action)
                return _refuse
        if seen.method in ("GET", "HEAD") and not self._allows("s3:ListBucket", _bucket(seen)):
            return _hide_missing
        return pass_on

    def _allows(self, action: str, resource: str) -> bool:
        statements = json.loads(self.policy)["Statement"]
        return any(
            statement["Effect"] == "Allow"
            and action in statement["Action"]
            and any(fnmatchcase(resource, pattern) for pattern in _listed(statement["Resource"]))
            for statement in statements
        )


def actions_of(seen: Seen) -> Iterator[tuple[str, str]]:
    """What a request takes, as AWS documents it: each action with its resource."""
    bucket = _bucket(seen)
    key = f"{bucket}/{seen.path.lstrip('/').partition('/')[2]}"
    method, query, headers = seen.method, seen.query, seen.headers
    if key.endswith("/") and bucket == key[:-1]:
        if method == "GET":
            reads = [action for word, action in BUCKET_READS.items() if word in query]
            yield reads[0] if reads else "s3:ListBucket", bucket
        elif method in ("PUT", "DELETE") and "lifecycle" in query:
            yield "s3:PutLifecycleConfiguration", bucket
        else:
            yield f"unknown: {method} {seen.path} {query}", bucket
    elif "tagging" in query:
        yield ("s3:PutObjectTagging" if method == "PUT" else "s3:GetObjectTagging"), key
    elif "restore" in query:
        yield "s3:RestoreObject", key
    elif method in ("GET", "HEAD"):
        yield "s3:GetObject", key
    elif method == "DELETE":
        word = "AbortMultipartUpload" if "uploadId" in query else "DeleteObject"
        yield f"s3:{word}Version" if "versionId" in query else f"s3:{word}", key
    else:  # PUT of an object or a part; POST begins or completes an upload
        yield "s3:PutObject", key
        if "x-amz-tagging" in headers:
            yield "s3:PutObjectTagging", key
        if "x-amz-object-lock-mode" in headers:
            yield "s3:PutObjectRetention", key


def _bucket(seen: Seen) -> str:
    return f"arn:aws:s3:::{seen.path.lstrip('/').partition('/')[0]}"


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _refuse(exchange: Exchange) -> None:
    if exchange.seen.method == "HEAD":
        exchange.reply(403, [], b"")
    else:
        answer(403, "AccessDenied", "Access Denied")(exchange)


def _hide_missing(exchange: Exchange) -> None:
    """Whether an object is missing is told only to who may list."""
    status, headers, body = exchange.forward()
    if status == 404:
        _refuse(exchange)
    else:
        exchange.reply(status, headers, body)
