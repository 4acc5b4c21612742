"""What the checks look at: the App, and what was found out once for all of them."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from hubbackup.app import App
from hubbackup.app.stores import s3_store
from hubbackup.catalog.backup import Backup
from hubbackup.catalog.listing import list_backups
from hubbackup.config.bucket import BucketSettings
from hubbackup.errors import HubbackupError
from hubbackup.jobs.current import AtWork
from hubbackup.jobs.run import new_run_id
from hubbackup.postgres.client import DatabaseProperties, describe
from hubbackup.postgres.run_lock import Holder, holder
from hubbackup.postgres.session import Connection
from hubbackup.runners import Runner

if TYPE_CHECKING:
    from hubbackup.stores.s3 import S3Store

PART_BYTES = 5 << 20
"""The smallest that S3 takes for a part that is not the last: enough for a probe in parts."""
IDLE_SECONDS = 20.0
"""A check is short: a tool that is silent for this long has failed."""


class Site:
    """Each part is opened by the check that asks for it first, which then reports what is wrong with it."""

    def __init__(self, app: App, *, by_hand: bool = True, database: str = "") -> None:
        """`by_hand`: somebody has asked, so that a probe may be large; the daemon looks at each of its starts.

        `database`: the one that is looked at, where there are several.
        """
        self.app = app
        self._database = database
        self.by_hand = by_hand
        self.now = datetime.now(UTC)

    @property
    def database(self) -> str:
        """The one that is looked at."""
        return self._database or self.app.chosen.names.only or self.app.chosen.home

    @cached_property
    def each(self) -> list[Site]:
        """A site for each database, by the same runner and connection. Raises HubbackupError."""
        if self.app.chosen.names.only is not None:
            return [self]
        found = []
        for name in self.app.chosen.at_hand():
            one = Site(self.app, by_hand=self.by_hand, database=name)
            one.__dict__ |= {"runner": self.runner, "connection": self.connection}
            found.append(one)
        return found

    @cached_property
    def reachable(self) -> list[Site]:
        """Those of `each` that can be looked into."""
        found = []
        for one in self.each:
            with contextlib.suppress(HubbackupError):
                _ = one.properties
                found.append(one)
        self.app.cancel.check()
        return found

    @cached_property
    def runner(self) -> Runner:
        """Raises RunnerError."""
        return self.app.server.open_runner(self.app.cancel, IDLE_SECONDS)

    @cached_property
    def connection(self) -> Connection:
        """As a run of its own."""
        return self.app.server.connection(f"doctor-{new_run_id(self.now)}")

    @cached_property
    def properties(self) -> DatabaseProperties:
        """Raises HubbackupError."""
        return describe(self.runner, self.connection, self.database)

    @cached_property
    def backups(self) -> list[Backup]:
        """The databases' backups on disk, oldest first. Raises StoreError."""
        names = self.app.chosen.at_hand()
        found = [one for name in names for one in list_backups([self.app.local], self.app.zone, name)]
        return found if len(names) == 1 else sorted(found, key=lambda one: one.started_at)

    def bucket(self, bucket: BucketSettings) -> S3Store:
        """The store of a bucket, asked with little patience."""
        from hubbackup.stores.s3_calls import S3Limits

        limits = S3Limits(
            connect_seconds=5,
            read_seconds=15,
            call_seconds=15,
            answer_seconds=30,
            attempts=2,
            no_progress_seconds=30,
            backoff_seconds=0.2,
        )
        databases = self.app.chosen.ours
        return s3_store(bucket, databases, self.app.cancel, limits=limits, smallest_part_bytes=PART_BYTES)

    @cached_property
    def at_work_elsewhere(self) -> Holder | None:
        """The run that is at work from anywhere, on the database or any of them; None also where no server says."""
        for name in [self._database] if self._database else self.app.chosen.at_hand():
            with contextlib.suppress(HubbackupError):
                if found := holder(self.runner, self.connection, name):
                    return found
        return None

    @property
    def at_work(self) -> AtWork | None:
        """The run that is at work this moment."""
        found = self.app.state.at_work()
        return found if found is not None and found.alive else None
