"""What a bucket does by itself: its lifecycle rules, and the thaw of an archived copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import SecretStr

from hubbackup.app.stores import s3_store, terms_of
from hubbackup.catalog.target import choose
from hubbackup.catalog.typed_name import parse_name
from hubbackup.config.bucket import MIRROR, S3, BucketSettings
from hubbackup.errors import UsageError
from hubbackup.jobs.run import Outcome
from hubbackup.lifecycle.job import LifecycleJob, LifecycleResult, Plan, make_plan
from hubbackup.lifecycle.rules import Terms
from hubbackup.lifecycle.thaw import ThawOrder, thaw
from hubbackup.stores.s3 import S3Store

if TYPE_CHECKING:
    from hubbackup.app.installation import Installation


class Lifecycle:
    """What one bucket does, `s3` or `mirror`. Raises UsageError for a store that is none."""

    def __init__(self, installation: Installation, which: str, credentials: tuple[str, str] | None = None) -> None:
        """`credentials`: another key than that of the settings."""
        self._home = installation
        if which not in (S3, MIRROR):
            raise UsageError(f"{which} is not one bucket", remedy="take s3, or mirror")
        (self._target,) = choose(installation.remotes, which)
        assert isinstance(self._target.store, S3Store)  # noqa: S101 - every bucket's is
        self._store = self._target.store
        if credentials is not None:
            key, secret = map(SecretStr, credentials)
            bucket = replace(self._bucket, access_key_id=key, secret_access_key=secret)
            self._store = s3_store(bucket, installation.chosen.ours, installation.cancel)
            self._target = replace(self._target, store=self._store)

    @property
    def _bucket(self) -> BucketSettings:
        return self._home.settings.buckets[self._target.name]

    @property
    def _terms(self) -> Terms:
        return terms_of(self._bucket)

    def plan(self) -> Plan:
        """What is there, and what `apply` would do. Raises UsageError, StoreError."""
        return make_plan(self._target, self._store, self._terms, self._home.chosen.at_hand())

    def apply(self, confirm: Callable[[Plan], None]) -> Outcome[LifecycleResult]:
        """Do it, under the lock; `confirm` is shown the plan first. Raises HubbackupError."""
        databases = self._home.chosen.at_hand()
        return self._home.run(LifecycleJob(self._target, self._store, self._terms, databases, confirm))

    def thaw(self, typed: str, order: ThawOrder) -> None:
        """Have a copy that can be read when this returns; one that is not archived can be.

        Raises ThawingError where that takes its time, UsageError, NotFoundError, StoreError.
        """
        thaw(self._store, str(parse_name(typed, [self._store])), order)
