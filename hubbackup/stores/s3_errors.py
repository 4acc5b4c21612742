"""What a server refused, left unanswered or answered oddly, as errors of our own: a sentence, and what to do."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from hubbackup.errors import (
    ArchivedError,
    NotFoundError,
    StoreDeniedError,
    StoreError,
    StoreFullError,
    StoreSilentError,
)

_DENIED = {
    "AccessDenied",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "Unauthorized",
}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}
_TRANSIENT = {
    "BadDigest",
    "IncompleteBody",
    "OperationAborted",
    "RequestTimeout",
    "RequestTimeoutException",
    "SlowDown",
    "Throttling",
}
_WRONG_REGION = {
    "301",
    "400",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "PermanentRedirect",
}
THAW_REMEDY = "it is in an archive class: hubbackup restore NAME --from s3 --thaw has it thawed, which takes hours"
PROXY_ASKS = 407
PROXY_REMEDY = "check HTTPS_PROXY (http://user:password@proxy:3128), or name S3's host in NO_PROXY"
NOT_IMPLEMENTED = {"MethodNotAllowed", "NotImplemented", "405", "501"}


class ForeignAnswerError(Exception):
    """An answer that no S3 server gives; its text says what is odd about it."""


def foreign(error: Exception, doing: str, where: str) -> StoreError:
    """Whatever an odd answer broke, in botocore or in what reads it."""
    if isinstance(error, ForeignAnswerError):
        words = str(error)
    else:
        lacking = isinstance(error, KeyError) and error.args
        words = f"it has no {error.args[0]}" if lacking else type(error).__name__
    return StoreError(
        f"could not {doing} ({where}): the answer is not one of an S3 server ({words})",
        remedy="check S3_ENDPOINT_URL: something else than S3 answers there, such as a portal or a proxy",
    )


def _elsewhere(error: Exception, doing: str, where: str) -> StoreError:
    """The server redirects: another region's bucket, or something in between that is not S3."""
    code, status, _ = _answer_of(error)
    response: dict[str, Any] = getattr(error, "response", {})
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    host = response.get("Error", {}).get("Endpoint") or urlsplit(headers.get("location", "")).hostname or ""
    region = _region_of(error)
    to = f" to {host!a:.80}".replace("'", "") if host else ""
    remedy = "set S3_ENDPOINT_URL to the S3 server itself: a portal, a balancer or another region's answers there"
    return StoreError(
        f"could not {doing} ({where}): the server redirects{to} ({code or status})",
        remedy=f"set AWS_DEFAULT_REGION={region}" if region else remedy,
    )


def refused(error: Exception, doing: str, where: str, bucket: str) -> StoreError:
    """What a server answered with an error (botocore's ClientError)."""
    code, status, said = _answer_of(error)
    if 300 <= status < 400 and status != 304:
        return _elsewhere(error, doing, where)
    sentence = f"could not {doing} ({where}): the server answered {code}{said}"
    if code == "NoSuchBucket":
        return NotFoundError(
            f"could not {doing}: there is no bucket {bucket} ({where})",
            remedy="create the bucket, or correct S3_BACKUP_BUCKET, S3_ENDPOINT_URL or AWS_DEFAULT_REGION",
        )
    if code == "InvalidObjectState":
        return ArchivedError(sentence, remedy=THAW_REMEDY)
    if code == "InvalidRequest" and "lock" in said.lower():
        return StoreError(sentence, remedy="take a bucket with Object Lock, or unset S3_OBJECT_LOCK_DAYS")
    if code == "NoSuchUpload":
        return StoreError(sentence, remedy="another run, or a rule of the bucket, ended this upload: run it again")
    if code in _FULL or status == 507:
        return StoreFullError(sentence, remedy="raise the bucket's quota, or lower S3_RETENTION_DAYS")
    if status == PROXY_ASKS:
        return StoreDeniedError(
            f"could not {doing} ({where}): the proxy before it asks for a login (407)", remedy=PROXY_REMEDY
        )
    if code == "RequestTimeTooSkewed":
        return StoreDeniedError(sentence, remedy="set this machine's clock right")
    if region := _region_of(error):
        return StoreDeniedError(sentence, remedy=f"set AWS_DEFAULT_REGION={region}")
    if code in _DENIED or status in (401, 403):
        return StoreDeniedError(
            sentence,
            remedy="check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_DEFAULT_REGION, and that the key may "
            "list, get, put and delete objects and uploads under the prefix",
        )
    if status == 404:
        return NotFoundError(sentence, remedy="`hubbackup list --store s3` prints the names there are")
    transient = code not in NOT_IMPLEMENTED and (status >= 500 or status == 429 or code in _TRANSIENT)
    by_s3 = code != str(status)  # an error of S3 has a code of its own
    remedy = "hubbackup doctor tries S3 step by step" if by_s3 else "check that S3 itself answers at S3_ENDPOINT_URL"
    return StoreError(sentence, remedy=remedy, transient=transient)


def unanswered(error: Exception, doing: str, where: str) -> StoreError:
    """No answer, or none that could be read."""
    from botocore import exceptions

    sentence = f"could not {doing} ({where}): {_in_words(error)}"
    if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
        return StoreDeniedError(sentence, remedy="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if isinstance(error, exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return StoreDeniedError(
            sentence, remedy="correct S3_ENDPOINT_URL, or name the file of its authority in S3_CA_BUNDLE"
        )
    transient = isinstance(
        error,
        (
            exceptions.HTTPClientError,  # refused, reset, timed out, cut off
            exceptions.IncompleteReadError,
            exceptions.ResponseStreamingError,
            OSError,
        ),
    )
    remedy = "check S3_ENDPOINT_URL and that this container reaches it"
    if isinstance(error, exceptions.ProxyConnectionError):
        return StoreSilentError(sentence, remedy=PROXY_REMEDY, transient=True)
    silent = (
        exceptions.EndpointConnectionError,
        exceptions.ConnectTimeoutError,
        exceptions.ReadTimeoutError,
        TimeoutError,
    )
    if isinstance(error, silent):
        return StoreSilentError(sentence, remedy=remedy, transient=True)
    # Or neither: a wrong parameter, a missing profile, an answer that is not an S3 answer.
    return StoreError(sentence, remedy=remedy, transient=transient)


def is_foreign(error: StoreError) -> bool:
    """Whether whoever answered is not an S3 server."""
    from botocore.parsers import ResponseParserError

    return isinstance(error.__cause__, ForeignAnswerError | ResponseParserError)


def _region_of(error: BaseException) -> str:
    """The region that the server names for one that was wrong, or an empty string."""
    response: dict[str, Any] = getattr(error, "response", {})
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = str(response.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region") or "")
    wrong = response.get("Error", {}).get("Code") in _WRONG_REGION
    return region if wrong and re.fullmatch(r"[a-z0-9-]{1,40}", region) else ""


def error_code(error: StoreError) -> str:
    """The server's own code for what it refused, or an empty string."""
    return _answer_of(error.__cause__)[0]


def _answer_of(error: BaseException | None) -> tuple[str, int, str]:
    response = getattr(error, "response", None) or {}
    answer = response.get("Error", {})
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(answer.get("Code", "")) or (str(status) if status else "")
    # The server's words are foreign text: one line of them, and not a page.
    words = " ".join(str(answer.get("Message", "")).split())[:200].rstrip(".")
    return code, status, f" ({words})" if words and words != code else ""


def _in_words(error: Exception) -> str:
    # The messages of botocore hold the request's URL, and an endpoint may have been set with a password in it.
    words = {
        "ConnectTimeoutError": "no connection within the time",
        "ConnectionClosedError": "the connection broke off",
        "EndpointConnectionError": "no connection",
        "NoCredentialsError": "no credentials are set",
        "PartialCredentialsError": "only a part of the credentials is set",
        "ProxyConnectionError": "no connection by the proxy before it",
        "ReadTimeoutError": "no answer within the time",
        "ResponseParserError": "the answer is not one of an S3 server",
        "SSLError": "no trusted TLS connection",
    }
    kind = type(error).__name__
    return words.get(kind, f"the connection failed ({kind})")
