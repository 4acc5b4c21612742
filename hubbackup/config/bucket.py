"""The settings of the buckets: the first, `s3`, and the `mirror` with the same names behind `S3_MIRROR_`.

A new setting of a bucket is a field of `BucketSettings`, and one of `BucketFields` for each bucket.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, SecretStr, model_validator

from hubbackup.config import values
from hubbackup.config.urls import origin_of

S3, MIRROR = "s3", "mirror"
AddressingStyle = Literal["auto", "path", "virtual"]
LockMode = Literal["COMPLIANCE", "GOVERNANCE"]
NO_KEY = SecretStr("")
OTHER_NAMES = {
    "bucket": "S3_BACKUP_BUCKET",
    "region": "AWS_DEFAULT_REGION",
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
}
"""The variables of the first bucket whose names are not `S3_` and the field's."""
SHARED = ("timeout_seconds", "retention_days", "keep_min", "keep_weeks", "keep_months", "keep_years")
"""What the mirror takes from the first bucket where it has none of its own."""
KEYS = ("access_key_id", "secret_access_key")


def variable(target: str, field_name: str) -> str:
    """The variable that sets a field of `BucketSettings` for the bucket of that target."""
    name = OTHER_NAMES.get(field_name, f"S3_{field_name.upper()}")
    return name if target == S3 else f"S3_MIRROR_{name.removeprefix('S3_').removeprefix('AWS_')}"


@dataclass(frozen=True)
class BucketSettings:
    """All that makes one bucket's target, whatever its variables are called. Empty is left to boto3."""

    target: str
    """The word for it in logs, manifests and `--store`."""
    bucket: str
    prefix: str
    endpoint_url: str
    region: str
    access_key_id: SecretStr
    secret_access_key: SecretStr
    storage_class: str
    ca_bundle: str
    addressing_style: AddressingStyle
    timeout_seconds: int
    retention_days: int | None = None
    """This and the next four: where it differs from the local disk's."""
    keep_min: int | None = None
    keep_weeks: int | None = None
    keep_months: int | None = None
    keep_years: int | None = None
    archive_after_days: int = 0
    """This and the next three: what the bucket's own rules are to do; 0: nothing."""
    archive_class: str = "GLACIER"
    expire_after_days: int = 0
    noncurrent_days: int = 0
    object_lock_days: int = 0
    object_lock_mode: LockMode = "COMPLIANCE"

    def variable(self, field_name: str) -> str:
        """The variable that sets this field, for remedies."""
        return variable(self.target, field_name)

    def worded(self, remedy: str) -> str:
        """A remedy that names the first bucket's variables and target, for this one."""
        if self.target == S3:
            return remedy
        for one in fields(self)[1:]:
            remedy = re.sub(rf"\b{variable(S3, one.name)}\b", variable(self.target, one.name), remedy)
        return remedy.replace(f"--store {S3}", f"--store {self.target}")

    @property
    def title(self) -> str:
        """What sentences for people call it."""
        return "S3" if self.target == S3 else "the S3 mirror"

    @property
    def place(self) -> tuple[str, str]:
        """The server and the bucket: equal for two settings that mean the same."""
        return origin_of(self.endpoint_url), self.bucket

    def overlaps(self, other: BucketSettings) -> bool:
        """Whether both would keep their files in one place, or the one inside the other's."""
        inside = self.prefix.startswith(other.prefix) or other.prefix.startswith(self.prefix)
        return self.place == other.place and inside


class BucketFields(BaseModel):
    """The settings of both buckets, by the names of their variables in lower case."""

    s3_backup_bucket: values.Bucket = Field(default="", description="S3 is off without it")
    s3_prefix: values.Folder = Field(default="backups/", description="before each object's name")
    s3_endpoint_url: values.Endpoint = Field(default="", description="empty is AWS")
    s3_storage_class: str = Field(default="", description="as the S3 vendor names it")
    s3_ca_bundle: values.AbsolutePathOrNone = Field(
        default="", description="file with the authorities that sign for the endpoint, instead of the usual ones"
    )
    s3_addressing_style: AddressingStyle = Field(
        default="auto", description="the bucket in the URL's path, in its host name, or as boto3 chooses"
    )
    s3_timeout_seconds: values.Patience = Field(
        default=300, description="how long an upload may get no further; silence: a fifth of it"
    )
    s3_retention_days: values.DayCount | None = Field(
        default=None, description="days to keep in S3, where it differs"
    )
    s3_keep_min: values.AtLeastOne | None = Field(
        default=None, description="BACKUP_KEEP_MIN for S3, where it differs"
    )
    s3_keep_weeks: values.DayCount | None = Field(default=None, description="weeks kept in S3, where it differs")
    s3_keep_months: values.DayCount | None = Field(default=None, description="months kept in S3, where it differs")
    s3_keep_years: values.DayCount | None = Field(default=None, description="years kept in S3, where it differs")
    s3_archive_after_days: values.DayCount = Field(
        default=0, description="days after which a rule of the bucket archives a backup; 0 = never"
    )
    s3_archive_class: values.ClassName = Field(default="GLACIER", description="the archive's class")
    s3_expire_after_days: values.DayCount = Field(
        default=0, description="days after which a rule of the bucket removes a backup; 0 = never"
    )
    s3_noncurrent_days: values.DayCount = Field(
        default=30, description="in a versioned bucket, days after which a rule removes hidden versions; 0 = never"
    )
    s3_object_lock_days: values.LockDays = Field(default=0, description="days that nobody can remove a copy; 0 = off")
    s3_object_lock_mode: LockMode = Field(
        default="COMPLIANCE", description="GOVERNANCE: who has a right of its own can remove it all the same"
    )
    aws_access_key_id: SecretStr = Field(default=NO_KEY, description="boto3's own chain where unset")
    aws_secret_access_key: SecretStr = Field(default=NO_KEY, description="boto3's own chain where unset")
    aws_default_region: str = Field(default="", description="the bucket's region")

    s3_mirror_backup_bucket: values.Bucket = Field(default="", description="a second bucket, with each copy too")
    s3_mirror_prefix: values.Folder = Field(default="backups/", description="before each object's name there")
    s3_mirror_endpoint_url: values.Endpoint = Field(default="", description="the mirror's; empty is AWS")
    s3_mirror_storage_class: str = Field(default="", description="as the mirror's vendor names it")
    s3_mirror_ca_bundle: values.AbsolutePathOrNone = Field(default="", description="S3_CA_BUNDLE for the mirror")
    s3_mirror_addressing_style: AddressingStyle = Field(
        default="auto", description="S3_ADDRESSING_STYLE for the mirror"
    )
    s3_mirror_timeout_seconds: values.Patience | None = Field(
        default=None, description="S3_TIMEOUT_SECONDS for the mirror, where it differs"
    )
    s3_mirror_retention_days: values.DayCount | None = Field(
        default=None, description="days to keep in the mirror, where it differs from S3"
    )
    s3_mirror_keep_min: values.AtLeastOne | None = Field(
        default=None, description="S3_KEEP_MIN for the mirror, where it differs"
    )
    s3_mirror_keep_weeks: values.DayCount | None = Field(default=None, description="weeks kept in the mirror")
    s3_mirror_keep_months: values.DayCount | None = Field(default=None, description="months kept in the mirror")
    s3_mirror_keep_years: values.DayCount | None = Field(default=None, description="years kept in the mirror")
    s3_mirror_archive_after_days: values.DayCount = Field(
        default=0, description="days after which a rule of the mirror archives a backup; 0 = never"
    )
    s3_mirror_archive_class: values.ClassName = Field(default="GLACIER", description="the archive's class there")
    s3_mirror_expire_after_days: values.DayCount = Field(
        default=0, description="days after which a rule of the mirror removes a backup; 0 = never"
    )
    s3_mirror_noncurrent_days: values.DayCount = Field(
        default=30, description="days after which a rule of the mirror removes hidden versions; 0 = never"
    )
    s3_mirror_object_lock_days: values.LockDays = Field(
        default=0, description="days that nobody can remove a copy in the mirror; 0 = off"
    )
    s3_mirror_object_lock_mode: LockMode = Field(default="COMPLIANCE", description="COMPLIANCE or GOVERNANCE")
    s3_mirror_access_key_id: SecretStr = Field(default=NO_KEY, description="the mirror's; AWS_… where unset")
    s3_mirror_secret_access_key: SecretStr = Field(default=NO_KEY, description="the mirror's; AWS_… where unset")
    s3_mirror_default_region: str = Field(default="", description="the mirror's region")

    @property
    def buckets(self) -> dict[str, BucketSettings]:
        """The buckets that are set, by the names of their targets: `s3` first, then `mirror`."""
        found = (self._bucket(S3), self._bucket(MIRROR))
        return {one.target: one for one in found if one.bucket}

    def _bucket(self, target: str) -> BucketSettings:
        given = {one.name: self._value(target, one.name) for one in fields(BucketSettings)[1:]}
        if target == MIRROR:
            shared = [name for name in SHARED if given[name] is None]
            shared += KEYS if given[KEYS[0]] == NO_KEY else []
            given |= {name: self._value(S3, name) for name in shared}
        return BucketSettings(target, **given)

    def _value(self, target: str, field_name: str) -> Any:
        return getattr(self, variable(target, field_name).lower())

    @model_validator(mode="after")
    def _is_archived_before_it_expires(self) -> Self:
        for one in self.buckets.values():
            archive, expire = one.archive_after_days, one.expire_after_days
            if archive and expire and expire <= archive:
                names = one.variable("expire_after_days"), one.variable("archive_after_days")
                raise values.refused(
                    f"{names[0]}={expire} is not after {names[1]}={archive}",
                    f"set {names[0]} higher (an archive bills 90 days at least), or unset {names[1]}",
                )
        return self

    @model_validator(mode="after")
    def _keys_come_in_pairs(self) -> Self:
        for target in (S3, MIRROR):
            one, other = (self._value(target, name) for name in KEYS)
            if bool(one.get_secret_value()) != bool(other.get_secret_value()):
                names = " and ".join(variable(target, name) for name in KEYS)
                chain = "boto3's own chain (profile, role)" if target == S3 else "those of AWS_ACCESS_KEY_ID"
                raise values.refused(f"{names}: one is set without the other", f"set both, or neither for {chain}")
        return self

    @model_validator(mode="after")
    def _mirror_is_whole(self) -> Self:
        """A mirror's setting without its bucket would be passed over in silence."""
        if self.s3_mirror_backup_bucket:
            return self
        for one in fields(BucketSettings)[1:]:
            name = variable(MIRROR, one.name)
            if self._value(MIRROR, one.name) != BucketFields.model_fields[name.lower()].default:
                raise values.refused(
                    f"{name} is set, and {variable(MIRROR, 'bucket')} is not",
                    f"name the mirror's bucket, or remove {name}",
                )
        return self

    @model_validator(mode="after")
    def _mirror_is_elsewhere(self) -> Self:
        """Two targets in one place would prune, mark and repair each other's files."""
        first, mirror = self.buckets.get(S3), self.buckets.get(MIRROR)
        if first is not None and mirror is not None and mirror.overlaps(first):
            where = "that of S3_BACKUP_BUCKET" if mirror.prefix == first.prefix else "one inside the other's prefix"
            raise values.refused(
                f"S3_MIRROR_BACKUP_BUCKET: the mirror's place s3://{mirror.bucket}/{mirror.prefix} is {where}"
                f" (s3://{first.bucket}/{first.prefix}) on the same server",
                "name another bucket, better of another vendor, or set S3_MIRROR_PREFIX beside S3_PREFIX",
            )
        return self
