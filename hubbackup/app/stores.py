"""The targets that the settings name. A new kind of store is a module in stores/, and here a builder and a line."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hubbackup.catalog.backup import BackupName
from hubbackup.catalog.target import LocalTarget, Policy, Target
from hubbackup.config.reader import SERVICE, in_container
from hubbackup.config.settings import Settings
from hubbackup.errors import UsageError
from hubbackup.stores.local import LocalStore
from hubbackup.streams.cancel import Cancel

if TYPE_CHECKING:
    from hubbackup.stores.s3 import S3Store
    from hubbackup.stores.s3_calls import S3Limits


@dataclass(frozen=True)
class Kind:
    """How a remote target is made. `setting` is the variable that turns it on; without it `build` gives None."""

    setting: str
    build: Callable[[str, Settings, Cancel], Target | None]


def local_target(settings: Settings) -> LocalTarget:
    """BACKUP_DIR."""
    store = LocalStore(
        settings.backup_dir, is_ours=lambda name: BackupName.owner_of(name) is not None, mode=settings.file_mode
    )
    path = shlex.quote(f"{settings.backup_dir}/")
    fetch = f"docker compose cp {SERVICE}:{path}{{name}} ." if in_container() else f"cp {path}{{name}} ."
    return LocalTarget("the local store", store, local_policy(settings), fetch=fetch)


def remote_targets(settings: Settings, cancel: Cancel) -> tuple[Target, ...]:
    """The configured ones of REMOTES, in that order."""
    made = (kind.build(name, settings, cancel) for name, kind in REMOTES.items())
    return tuple(target for target in made if target is not None)


def choose(targets: Sequence[Target], which: str) -> list[Target]:
    """The one of that name, or `all`. Raises UsageError for one that is not configured."""
    found = [target for target in targets if which in ("all", target.name)]
    if found:
        return found
    names = " or ".join(f"--store {target.name}" for target in targets)
    turn_on = f"set {REMOTES[which].setting}, or " if which in REMOTES else ""
    raise UsageError(f"the store {which} is not configured", remedy=f"{turn_on}use {names}")


def s3_store(
    settings: Settings,
    cancel: Cancel,
    *,
    name: str = "s3",
    limits: S3Limits | None = None,
    smallest_part_bytes: int | None = None,
) -> S3Store:
    """The bucket of the settings; `limits` instead of those that the settings give."""
    from hubbackup.stores.s3 import S3Store
    from hubbackup.stores.s3_calls import S3Limits
    from hubbackup.stores.s3_upload import SMALLEST_PART_BYTES

    def is_ours(name: str) -> bool:
        # Another host may share the prefix: only uploads of our own database can be our own leftovers.
        owner = BackupName.owner_of(name)
        return bool(settings.postgres_db) and owner is not None and owner.database == settings.postgres_db

    return S3Store(
        settings.s3_backup_bucket,
        settings.s3_prefix,
        name=name,
        endpoint_url=settings.s3_endpoint_url,
        region=settings.aws_default_region,
        access_key_id=settings.aws_access_key_id.get_secret_value(),
        secret_access_key=settings.aws_secret_access_key.get_secret_value(),
        storage_class=settings.s3_storage_class,
        # Manifests and marks are read each day: an archive would not give them back for hours.
        in_storage_class=lambda name: BackupName.parse(name) is not None,
        limits=limits or S3Limits.of_timeout(settings.s3_timeout_seconds),
        smallest_part_bytes=smallest_part_bytes or SMALLEST_PART_BYTES,
        is_ours=is_ours,
        cancel=cancel,
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


def s3_policy(settings: Settings) -> Policy:
    """How long S3 keeps one: as long as the disk, but for the counts that the settings give it."""
    overrides = {
        "days": settings.s3_retention_days,
        "keep_min": settings.s3_keep_min,
        "weeks": settings.s3_keep_weeks,
        "months": settings.s3_keep_months,
        "years": settings.s3_keep_years,
    }
    given = {name: count for name, count in overrides.items() if count is not None}
    return replace(local_policy(settings), **given)


def _s3_target(name: str, settings: Settings, cancel: Cancel) -> Target | None:
    if not settings.s3_backup_bucket:
        return None
    store = s3_store(settings, cancel, name=name)
    endpoint = f" --endpoint-url {shlex.quote(settings.s3_endpoint_url)}" if settings.s3_endpoint_url else ""
    return Target("S3", store, s3_policy(settings), fetch=f"aws s3 cp {store.describe()}{{name}} .{endpoint}")


REMOTES = {
    "s3": Kind("S3_BACKUP_BUCKET", _s3_target),
}
"""Every kind beside the local one, by the name of its target."""
