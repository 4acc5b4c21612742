"""What a bucket does by itself: its lifecycle rules, and the thaw of an archived copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hubbackup.app.stores import terms_of
from hubbackup.catalog.typed_name import parse_name
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

    def __init__(self, installation: Installation, which: str) -> None:
        self._home = installation
        self._target = installation.targets(which)[-1]
        if which == "all" or not isinstance(self._target.store, S3Store):
            raise UsageError(f"{which} is not one bucket", remedy="take s3, or mirror")
        self._store = self._target.store

    @property
    def _terms(self) -> Terms:
        return terms_of(self._home.settings.buckets[self._store.name])

    def plan(self) -> Plan:
        """What is there, and what `apply` would do. Raises UsageError, StoreError."""
        return make_plan(self._target, self._store, self._terms, self._home.database)

    def apply(self, confirm: Callable[[Plan], None]) -> Outcome[LifecycleResult]:
        """Do it, under the lock; `confirm` is shown the plan first. Raises HubbackupError."""
        return self._home.run(LifecycleJob(self._target, self._store, self._terms, self._home.database, confirm))

    def thaw(self, typed: str, order: ThawOrder) -> None:
        """Have a copy that can be read when this returns; one that is not archived can be.

        Raises ThawingError where that takes its time, UsageError, NotFoundError, StoreError.
        """
        thaw(self._store, str(parse_name(typed, [self._store])), order)
