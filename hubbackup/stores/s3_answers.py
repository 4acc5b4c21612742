"""What is made of a foreign server's answers before botocore reads them: only those of an S3 server count.

botocore takes any XML for the answer it expects, finds nothing of it in there, and returns that: another program's
page is an empty bucket. It also follows a redirect to another region by asking for the bucket's region, which a
server that redirects everything answers with the next redirect, without end.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from hubbackup.stores.s3_errors import ForeignAnswerError
from hubbackup.stores.s3_pages import take_objects

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

ROOTS = {
    "ListObjectsV2": "ListBucketResult",
    "ListMultipartUploads": "ListMultipartUploadsResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "CompleteMultipartUpload": "CompleteMultipartUploadResult",
    "GetBucketLifecycleConfiguration": "LifecycleConfiguration",
    "GetBucketVersioning": "VersioningConfiguration",
    "GetObjectLockConfiguration": "ObjectLockConfiguration",
    "GetObjectTagging": "Tagging",
    "ListObjectVersions": "ListVersionsResult",
}
"""Operations whose answer is XML, and its outermost element."""
FIRST_ELEMENT = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<[?!][^>]*>\s*)*<(?:[A-Za-z0-9_.-]+:)?([A-Za-z0-9_.-]+)")
"""Its name, after a declaration and comments."""
LISTS = {"ListObjectsV2", "ListMultipartUploads", "ListObjectVersions"}
"""An answer of theirs that does not say whether more follows is not known to be whole."""


def watch_answers(client: S3Client, *, follow_regions: bool) -> None:
    """From now on `client` raises ForeignAnswerError for what is not an answer of S3, and never redirects in circles.

    `follow_regions`: a bucket in another region than the client's is found there; only AWS has such.
    """

    def once(context: dict[str, Any], model: Any, **_: object) -> None:
        if not follow_regions or model.name == "HeadBucket":
            context["s3_redirect"]["redirected"] = True

    events = client.meta.events
    events.register_last("before-parameter-build.s3", once)
    events.register("before-parse.s3.ListObjectsV2", take_objects)  # first: it leaves little to look at
    for operation in ROOTS:
        events.register(f"before-parse.s3.{operation}", check_root)


def check_root(response_dict: dict[str, Any], operation_model: Any, **_: object) -> None:
    """Raise ForeignAnswerError where a success is not the XML that the operation is answered with.

    Half a page, no XML at all and an error within a success are left to botocore: failures that may pass (a 500).
    """
    if response_dict["status_code"] >= 300:
        return
    body = response_dict["body"].strip()
    if not body:
        raise ForeignAnswerError("it is empty")
    first = FIRST_ELEMENT.match(body)
    name = first[1].decode("ascii", "replace") if first else ""
    if name == "Error":
        return
    operation = operation_model.name
    if name not in {ROOTS[operation], f"{operation}Response", f"{operation}Output"}:  # as some servers name it
        raise ForeignAnswerError(f"it begins with <{name:.40}>" if name else "it is not XML")
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - as botocore itself reads it
    except ElementTree.ParseError:
        return
    if operation in LISTS and not any(one.tag.rpartition("}")[2] == "IsTruncated" for one in root):
        raise ForeignAnswerError("it does not say whether more follows")
