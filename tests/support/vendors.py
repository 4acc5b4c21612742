"""Fakes of S3's vendors: moto behind a proxy that enforces what a vendor's documents say it takes and refuses.

None of the vendors was asked. What each row rests on is in docs/s3-vendors.md. A fake is asked as a proxy
(HTTP_PROXY), so that it has the vendor's kind of host names, with a bucket in them or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tests.support.proxy import Exchange, FaultProxy, Seen, answer, has_checksum_header, is_complete, is_part, pass_on

BOTH = frozenset({"path", "virtual"})


@dataclass(frozen=True)
class Vendor:
    """What it takes."""

    name: str
    addressing: frozenset[str] = BOTH
    most_parts: int = 10_000
    wants_equal_parts: bool = False
    takes_checksums: bool = False
    """The headers x-amz-checksum-…, x-amz-sdk-checksum-… and trailers of newer SDKs: not all versions of all vendors
    do, so only AWS's fake."""
    wants_md5: bool = False
    """Content-MD5 or a checksum on each object and part, as a bucket with Object Lock does."""
    conditions: Literal["kept", "ignored", "refused"] = "kept"
    """If-None-Match on writes."""
    lists_uploads: Literal["all", "none", "refused"] = "all"

    @property
    def host(self) -> str:
        """Of its endpoint."""
        return f"s3.{self.name.lower()}.example"


VENDORS = (
    Vendor("AWS", takes_checksums=True, wants_md5=True),
    Vendor("Scaleway", most_parts=1_000),
    Vendor("OVH"),
    Vendor("R2", wants_equal_parts=True),
    Vendor("B2", conditions="refused"),
    Vendor("MinIO", addressing=frozenset({"path"}), lists_uploads="none"),
    Vendor("Ceph", addressing=frozenset({"path"}), conditions="ignored"),
    Vendor("Garage", addressing=frozenset({"path"}), conditions="ignored"),
    Vendor("Hetzner", conditions="ignored"),
    Vendor("By-host", addressing=frozenset({"virtual"})),
)
STRICTEST = Vendor(
    "Strictest",
    addressing=frozenset({"virtual"}),
    most_parts=1_000,
    wants_equal_parts=True,
    wants_md5=True,
    conditions="refused",
    lists_uploads="refused",
)
"""All that any of them refuses, at once."""


class Rules:
    """A vendor's, before each request that a proxy is asked for."""

    def __init__(self, vendor: Vendor, proxy: FaultProxy) -> None:
        self._vendor = vendor
        self._sizes: dict[str, dict[int, int]] = {}
        proxy.fault(self._judge)

    def _judge(self, exchange: Exchange) -> None:
        vendor, seen = self._vendor, exchange.seen
        host = seen.headers["host"].partition(":")[0]
        bucket = host.removesuffix(f".{vendor.host}") if host != vendor.host else ""
        problem = self._problem(seen, by_host=bool(bucket))
        if problem:
            answer(*problem)(exchange)
            return
        if bucket:
            exchange.path = f"/{bucket}{exchange.path}"
        if vendor.conditions == "ignored":
            del exchange.headers["If-None-Match"]
        if vendor.lists_uploads == "none" and "uploads" in seen.query and seen.method == "GET":
            status, headers, _ = exchange.forward()
            nothing = b"<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>"
            exchange.reply(status, headers, nothing)
            return
        pass_on(exchange)

    def _problem(self, seen: Seen, *, by_host: bool) -> tuple[int, str, str] | None:
        """(status, code, message) of what the vendor refuses."""
        vendor, is_a_part = self._vendor, is_part()(seen)
        if ("virtual" if by_host else "path") not in vendor.addressing:
            return 404, "NoSuchBucket", "The specified bucket does not exist"
        if not vendor.takes_checksums and has_checksum_header(seen):
            return 400, "InvalidArgument", "Unsupported header received for this API call."
        body = seen.method == "PUT" and "uploads" not in seen.query
        if vendor.wants_md5 and body and "content-md5" not in seen.headers and not has_checksum_header(seen):
            return 400, "InvalidRequest", "Content-MD5 or x-amz-checksum- is required with Object Lock parameters"
        if vendor.conditions == "refused" and "if-none-match" in seen.headers:
            return 501, "NotImplemented", "A header you provided implies functionality that is not implemented"
        if vendor.lists_uploads == "refused" and "uploads" in seen.query and seen.method == "GET":
            return 501, "NotImplemented", "ListMultipartUploads is not implemented"
        if is_a_part and int(seen.query["partNumber"]) > vendor.most_parts:
            return 400, "InvalidArgument", f"Part number must be an integer between 1 and {vendor.most_parts}"
        if is_a_part:
            sizes = self._sizes.setdefault(seen.query["uploadId"], {})
            sizes[int(seen.query["partNumber"])] = int(seen.headers["content-length"])
        if vendor.wants_equal_parts and is_complete(seen):
            sizes = self._sizes[seen.query["uploadId"]]
            *parts, last = (sizes[number] for number in sorted(sizes))
            if len(set(parts)) > 1 or last > min(parts, default=last):
                return 400, "InvalidPart", "All non-trailing parts must have the same length."
        return None
