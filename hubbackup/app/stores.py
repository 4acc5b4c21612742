"""The targets that the settings name: the disk, and a bucket for each of `Settings.buckets`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hubbackup.catalog.backup import ITSELF, MANIFEST_SUFFIX, BackupName, split
from hubbackup.catalog.target import LocalTarget, Policy, Target
from hubbackup.config.bucket import BucketSettings
from hubbackup.config.reader import SERVICE, in_container
from hubbackup.config.settings import Settings
from hubbackup.lifecycle.rules import Terms
from hubbackup.lifecycle.tags import BACKUP, PINNED, put_tag
from hubbackup.stores.local import LocalStore
from hubbackup.streams.cancel import Cancel

if TYPE_CHECKING:
    from hubbackup.stores.s3 import S3Store
    from hubbackup.stores.s3_calls import S3Limits


Databases = Callable[[], Sequence[str]]
"""Names those that are backed up here."""


def local_target(settings: Settings) -> LocalTarget:
    """BACKUP_DIR."""
    store = LocalStore(
        settings.backup_dir, is_ours=lambda name: BackupName.owner_of(name) is not None, mode=settings.file_mode
    )
    path = shlex.quote(f"{settings.backup_dir}/")
    fetch = f"docker compose cp {SERVICE}:{path}{{name}} ." if in_container() else f"cp {path}{{name}} ."
    return LocalTarget("the local store", store, local_policy(settings), fetch=fetch)


def remote_targets(settings: Settings, databases: Databases, cancel: Cancel) -> tuple[Target, ...]:
    """The buckets of the settings, in their order."""
    return tuple(_target(one, settings, databases, cancel) for one in settings.buckets.values())


def s3_store(
    bucket: BucketSettings,
    databases: Databases,
    cancel: Cancel,
    *,
    limits: S3Limits | None = None,
    smallest_part_bytes: int | None = None,
) -> S3Store:
    """The store of a bucket, for the backups of `databases`; `limits` instead of those that the settings give."""
    from hubbackup.stores.s3 import S3Store
    from hubbackup.stores.s3_calls import S3Limits
    from hubbackup.stores.s3_head import ObjectLock
    from hubbackup.stores.s3_upload import SMALLEST_PART_BYTES

    def is_ours(name: str) -> bool:
        # Another host may share the prefix: only uploads of our own databases can be our own leftovers.
        owner = BackupName.owner_of(name)
        return owner is not None and owner.database in databases()

    return S3Store(
        bucket.bucket,
        bucket.prefix,
        name=bucket.target,
        endpoint_url=bucket.endpoint_url,
        region=bucket.region,
        access_key_id=bucket.access_key_id.get_secret_value(),
        secret_access_key=bucket.secret_access_key.get_secret_value(),
        ca_bundle=bucket.ca_bundle,
        addressing_style=bucket.addressing_style,
        storage_class=bucket.storage_class,
        # Manifests and marks are read each day: an archive would not give them back for hours.
        in_storage_class=lambda name: BackupName.parse(name) is not None,
        tag=BACKUP if bucket.archive_after_days or bucket.expire_after_days else None,
        lock=ObjectLock(bucket.object_lock_days, bucket.object_lock_mode) if bucket.object_lock_days else None,
        in_lock=_is_locked,
        limits=limits or S3Limits.of_timeout(bucket.timeout_seconds),
        smallest_part_bytes=smallest_part_bytes or SMALLEST_PART_BYTES,
        is_ours=is_ours,
        cancel=cancel,
        worded=bucket.worded,
    )


def _is_locked(name: str) -> bool:
    """Backups and manifests are locked; marks are not, since they come and go."""
    parts = split(name)
    return parts is not None and parts[1] in (ITSELF, MANIFEST_SUFFIX) and BackupName.owner_of(name) is not None


def terms_of(bucket: BucketSettings) -> Terms:
    """What the lifecycle rules of a bucket are to do."""
    return Terms(
        bucket.prefix,
        bucket.archive_after_days,
        bucket.archive_class,
        bucket.expire_after_days,
        bucket.noncurrent_days,
    )


def local_policy(settings: Settings) -> Policy:
    """How long the disk keeps a backup."""
    return Policy(
        settings.backup_retention_days,
        settings.backup_keep_min,
        settings.backup_keep_weeks,
        settings.backup_keep_months,
        settings.backup_keep_years,
    )


def bucket_policy(settings: Settings, bucket: BucketSettings) -> Policy:
    """How long a bucket keeps one: as long as the disk, but for the counts that the settings give it."""
    overrides = {
        "days": bucket.retention_days,
        "keep_min": bucket.keep_min,
        "weeks": bucket.keep_weeks,
        "months": bucket.keep_months,
        "years": bucket.keep_years,
    }
    given = {name: count for name, count in overrides.items() if count is not None}
    return replace(local_policy(settings), **given)


def _target(bucket: BucketSettings, settings: Settings, databases: Databases, cancel: Cancel) -> Target:
    store = s3_store(bucket, databases, cancel)
    endpoint = f" --endpoint-url {shlex.quote(bucket.endpoint_url)}" if bucket.endpoint_url else ""
    authorities = f" --ca-bundle {shlex.quote(bucket.ca_bundle)}" if bucket.ca_bundle else ""
    fetch = f"aws s3 cp {store.describe()}{{name}} .{endpoint}{authorities}"

    def keep_from_rules(name: str, on: bool) -> None:
        if store.tag is not None:
            put_tag(store, name, PINNED if on else BACKUP[1])

    return Target(
        bucket.title,
        store,
        bucket_policy(settings, bucket),
        fetch=fetch,
        lock_days=bucket.object_lock_days,
        expire_days=bucket.expire_after_days,
        frozen=store.archives_at_once,
        locked_until=store.locked_until,
        keep_from_rules=keep_from_rules,
    )
