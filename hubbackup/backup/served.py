"""What another daemon, with the same bucket, has done already: whether it served a slot, and its last backup."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TypeVar
from zoneinfo import ZoneInfo

from hubbackup.backup.anomalies import last_normal
from hubbackup.backup.results import result_of
from hubbackup.catalog.backup import Backup, Manifest
from hubbackup.catalog.listing import NAME_DOUBT, newest_first, newest_first_of, scan
from hubbackup.catalog.origin import Origin
from hubbackup.catalog.target import Target
from hubbackup.errors import StoreError
from hubbackup.jobs.results import BackupResult
from hubbackup.jobs.run import Outcome, Run
from hubbackup.streams.cancel import TICK_SECONDS

T = TypeVar("T")
LOOK_SECONDS = 10.0
"""How long a scheduled run waits for a remote target to say what it holds: a dead one costs no more."""


@dataclass(frozen=True)
class Served:
    """The backup that serves a slot, and the target that holds it."""

    manifest: Manifest
    target: Target

    def outcome(self, slot: datetime) -> Outcome[BackupResult]:
        """How a run ends for which there is nothing to do."""
        made = self.manifest
        return Outcome(
            f"no backup is needed: {made.name} in {self.target.name} was made since {slot:%Y-%m-%d %H:%M:%S} UTC",
            replace(result_of(made, (self.target.name,)), not_needed=True),
            not_needed=True,
        )


def find_served(
    run: Run, targets: Sequence[Target], zone: ZoneInfo, database: str, slot: datetime, now: datetime
) -> Served | None:
    """A good backup of `database`, begun at `slot` or later and signed as ours, in any of the remote `targets`.

    One that does not say in time what it holds is passed over: a backup too many is better than none.
    """
    for target in targets:
        found = _in_time(run, target, partial(_look, target, zone, database, slot, now))
        if found is not None and found.manifest is not None:
            return Served(found.manifest, target)
    return None


def last_of_server(
    run: Run, targets: Sequence[Target], zone: ZoneInfo, database: str, system_identifier: str, now: datetime
) -> Manifest | None:
    """The last normal backup in the remote `targets`, where it is of the same server: what a host without any of its
    own measures by. Of another server, as before a move, nothing is to be compared."""
    for target in targets:
        found = _in_time(run, target, partial(_last, target, zone, database, now))
        if found is not None:
            return found if found.system_identifier == system_identifier else None
    return None


def _in_time(run: Run, target: Target, look: Callable[[], T | None]) -> T | None:
    """What `look` finds in the target; nothing where it does not answer in LOOK_SECONDS."""
    answer: Future[T | None] = Future()

    def work() -> None:
        try:
            answer.set_result(look())
        except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that waits
            answer.set_exception(error)

    threading.Thread(target=work, name="served", daemon=True).start()
    began = time.monotonic()
    try:
        while True:
            run.cancel.check()
            with contextlib.suppress(TimeoutError):
                return answer.result(TICK_SECONDS)
            if time.monotonic() - began > LOOK_SECONDS:
                raise StoreError("it does not answer")
    except StoreError as error:
        message = f"what other daemons have put into {target.name} can't be seen: {error}"
        run.log.info("backup.slot_unknown", message=message, store=target.name)
        return None


def _last(target: Target, zone: ZoneInfo, database: str, now: datetime) -> Manifest | None:
    return last_normal(newest_first([target], zone, database), now)


def _look(target: Target, zone: ZoneInfo, database: str, slot: datetime, now: datetime) -> Backup | None:
    young = [one for one in scan([target], database) if one.name.started_at(zone) >= slot - NAME_DOUBT]
    for backup in newest_first_of(young, [target], zone):
        if backup.started_at < slot:
            return None
        ours = backup.origin is Origin.OURS and backup.counts_in(target.name)
        if ours and not backup.from_future(now):
            return backup
    return None
