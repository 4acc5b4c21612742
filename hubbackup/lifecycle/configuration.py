"""A bucket's lifecycle configuration: read, changed, and read back, since a vendor may not keep what it was sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn
from xml.etree import ElementTree

from hubbackup.errors import HubbackupError, NotFoundError, StoreDeniedError, StoreError, UsageError
from hubbackup.lifecycle.checksum import sign_by_md5
from hubbackup.lifecycle.rules import Difference, S3Rule, normal, takes_manifests
from hubbackup.stores.s3_errors import NOT_IMPLEMENTED, error_code

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

    from hubbackup.stores.s3 import S3Store

NO_RULES = {"NoSuchLifecycleConfiguration", "NoSuchLifecycle"}
READ_BACKS = 3
"""Some servers show a new configuration only after some seconds."""
PAUSE_SECONDS = 1.0
UNKNOWN = "UnknownElements"
MINIMUM = "TransitionDefaultMinimumObjectSize"
KNOWN_ELEMENTS = {
    *("LifecycleConfiguration", "Rule", "ID", "Status", "Prefix", "Filter", "And", "Tag", "Key", "Value"),
    *("ObjectSizeGreaterThan", "ObjectSizeLessThan", "Transition", "NoncurrentVersionTransition", "Expiration"),
    *("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload", "Days", "Date", "StorageClass"),
    *("ExpiredObjectDeleteMarker", "NoncurrentDays", "NewerNoncurrentVersions", "DaysAfterInitiation"),
}
"""What botocore reads, and so puts again. Of a rule with anything else a part would be lost."""


@dataclass(frozen=True)
class Found:
    """What a bucket has: `unknown` are elements that would be lost if it were put again."""

    rules: tuple[S3Rule, ...] = ()
    minimum: str = ""
    """AWS's default for the smallest object that a rule archives: it is reset unless it is put again."""
    unknown: tuple[str, ...] = ()

    def same_as(self, rules: Sequence[Mapping[str, Any]]) -> bool:
        """Whether these are the rules, in any order."""
        return sorted(map(repr, map(normal, self.rules))) == sorted(map(repr, map(normal, rules)))


class Configuration:
    """The lifecycle rules of one bucket."""

    def __init__(self, store: S3Store) -> None:
        self._store = store

    def read(self) -> Found:
        """Raises UsageError where the service has no such rules, StoreError."""
        try:
            answer = self._store.ask("read the lifecycle rules", self._get)
        except NotFoundError as error:
            if error_code(error) in NO_RULES:
                return Found()
            raise
        except StoreError as error:
            self._explain(error, "s3:GetLifecycleConfiguration")
        return Found(tuple(answer.get("Rules", [])), answer.get(MINIMUM, ""), tuple(answer.get(UNKNOWN, ())))

    def put(self, before: Found, change: Difference) -> None:
        """Put the merged rules, and read them back: what the server did not keep as it was sent is taken back.

        Nothing is put where somebody else has changed the rules since `before`, or where they have something that we
        would drop. Raises UsageError, StoreError, HubbackupError.
        """
        where, rules = self._store.describe(), change.merged()
        if before.unknown:
            raise UsageError(
                f"the lifecycle rules of {where} have {', '.join(before.unknown)}, which would be lost: nothing done",
                remedy="add the rules that `hubbackup lifecycle show` prints by the vendor's own console",
            )
        if not self.read().same_as(before.rules):
            raise HubbackupError(
                f"somebody else has just changed the lifecycle rules of {where}: nothing was done",
                remedy="hubbackup lifecycle show, then try again",
            )
        try:
            self._put(rules, before.minimum)
        except StoreError as error:
            self._explain(error, "s3:PutLifecycleConfiguration")
        for attempt in range(READ_BACKS):
            self._store.wait(PAUSE_SECONDS if attempt else 0)
            found = self.read()
            if found.same_as(rules):
                return
        kept = set(map(repr, map(normal, found.rules)))
        lost = [rule["ID"] for rule in rules if repr(normal(rule)) not in kept]
        try:
            self._take_back(before)
        except StoreError as error:
            raise HubbackupError(
                f"{where} did not keep the lifecycle rules as they were sent, and has them still: {error}",
                remedy=f"remove the rules {', '.join(lost)} by the vendor's own console, at once",
            ) from error
        raise UsageError(
            f"{where} did not keep the lifecycle rules as they were sent ({', '.join(lost) or 'there are others'}):"
            " they were taken back",
            remedy="this vendor can't tell backups from their manifests: use S3_STORAGE_CLASS instead",
        )

    def _take_back(self, before: Found) -> None:
        # One of ours that had lost its tag before, in a run that was killed here, does not come back.
        rules = [dict(rule) for rule in before.rules if not takes_manifests(rule)]
        if rules:
            self._put(rules, before.minimum)
            return
        bucket = self._store.bucket
        self._store.ask("remove the lifecycle rules", lambda client: client.delete_bucket_lifecycle(Bucket=bucket))

    def _get(self, client: S3Client) -> Mapping[str, Any]:
        event = "before-parse.s3.GetBucketLifecycleConfiguration"
        client.meta.events.register(event, note_unknown, unique_id="hubbackup-lifecycle")
        return client.get_bucket_lifecycle_configuration(Bucket=self._store.bucket)

    def _put(self, rules: list[dict[str, Any]], minimum: str) -> None:
        options: dict[str, Any] = {MINIMUM: minimum} if minimum else {}
        rules_: Any = rules

        def request(client: S3Client) -> object:
            sign_by_md5(client, "PutBucketLifecycleConfiguration")
            return client.put_bucket_lifecycle_configuration(
                Bucket=self._store.bucket, LifecycleConfiguration={"Rules": rules_}, **options
            )

        self._store.ask("set the lifecycle rules", request)

    def _explain(self, error: StoreError, action: str) -> NoReturn:
        """What a refusal means. Raises UsageError, StoreError."""
        code, where = error_code(error), self._store.describe()
        if code in NOT_IMPLEMENTED:
            raise UsageError(
                f"the S3 service of {where} has no lifecycle rules (it answered {code}): nothing was done",
                remedy="unset S3_ARCHIVE_AFTER_DAYS and S3_EXPIRE_AFTER_DAYS: hubbackup itself removes what is old",
            ) from error
        if isinstance(error, StoreDeniedError):
            remedy = f"give the key {action} on the bucket, for this command alone: docs/security.md has the policy"
            raise StoreDeniedError(str(error), remedy=remedy) from error
        if code and not error.transient and not isinstance(error, NotFoundError):
            raise UsageError(
                f"{error}: nothing was done",
                remedy="the vendor refuses such rules; its documents say which classes and how many days it takes",
            ) from error
        raise error


def note_unknown(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    """Note the elements that botocore would drop."""
    if response_dict["status_code"] >= 300:
        return
    try:
        root = ElementTree.fromstring(response_dict["body"])  # noqa: S314 - as botocore itself reads it
    except ElementTree.ParseError:
        return
    names = {one.tag.rpartition("}")[2] for one in root.iter()}
    customized_response_dict[UNKNOWN] = sorted(names - KNOWN_ELEMENTS - {MINIMUM})
