"""After a good backup: copies that are missing in S3 are uploaded, then the old backups go."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from hubbackup.backup.upload import catch_up
from hubbackup.catalog.listing import Listed, load, scan
from hubbackup.errors import StoreError
from hubbackup.jobs.run import Run
from hubbackup.retention.policy import Candidate, Policy, wanted
from hubbackup.retention.prune import apply_plans, make_plans
from hubbackup.stores import Store
from hubbackup.stores.local import LocalStore


class Stores(Protocol):
    """Where the backups of one database rest, and for how long: what a BackupJob knows."""

    @property
    def database(self) -> str: ...
    @property
    def local(self) -> tuple[LocalStore, Policy]: ...
    @property
    def remotes(self) -> Sequence[tuple[Store, Policy]]: ...
    @property
    def zone(self) -> ZoneInfo: ...
    @property
    def now(self) -> Callable[[], datetime]: ...
    @property
    def catch_up_seconds(self) -> float: ...


@dataclass
class Aftercare:
    """What was done: names uploaded late, `store:name` of what was removed, a sentence for each failure."""

    uploaded: list[str] = field(default_factory=list)
    pruned: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def aftercare(run: Run, stores: Stores, lacking: Sequence[str]) -> Aftercare:
    """Upload what is missing, prune what the policies no longer keep.

    `lacking` names the stores that refused the new backup itself: they are not asked again in this run, and not
    pruned, since the newest good backup is not there. A suspicious backup freezes the pruning.
    """
    done = Aftercare()
    local = stores.local[0]
    reachable: list[tuple[Store, Policy]] = []
    listed: list[Listed] = []
    for store, policy in (stores.local, *stores.remotes):
        if store.name in lacking:
            continue
        with contextlib.suppress(StoreError):  # the new backup's own leg has told the reason
            listed = list(scan([*(known for known, _ in reachable), store], stores.database))
            reachable.append((store, policy))
    known_stores = [store for store, _ in reachable]
    now = stores.now().astimezone(stores.zone)
    if any(store is local for store in known_stores):
        here = [one for one in listed if local.name in one.copies]
        for store, policy in reachable:
            if store is not local:
                _catch_up(run, stores, here, known_stores, store, policy, now, done)
        if done.uploaded:  # what replaced a damaged copy must not be judged by its mark
            listed = list(scan(known_stores, stores.database))
    with run.stage("prune"):
        plans = make_plans(listed, reachable, now, lambda some: load(some, known_stores, stores.zone))
        frozen_by = next((one.frozen_by for one in plans if one.frozen_by), "")
        if frozen_by:
            run.log.warning(
                "prune.frozen",
                message=f"nothing is pruned: {frozen_by} is suspicious",
                name=frozen_by,
                remedy=f"look into the database; if this is right: hubbackup accept {frozen_by}",
            )
        pruned = apply_plans(plans)
        done.problems += pruned.problems
        done.pruned += [f"{store}:{name}" for store, name in pruned.removed]
    return done


def _catch_up(
    run: Run,
    stores: Stores,
    here: Sequence[Listed],
    known_stores: Sequence[Store],
    store: Store,
    policy: Policy,
    now: datetime,
    done: Aftercare,
) -> None:
    """The good ones of `here` (the local backups) that `store` lacks and would keep."""
    local = stores.local[0]
    candidates = []
    lacking = set()
    for backup in load(here, known_stores, stores.zone):  # there may be many: of each, little is held
        name, good = str(backup.name), backup.good_in(local.name)
        candidates.append(Candidate(name, backup.started_at, good and not backup.suspicious, backup.pinned))
        if good and not backup.good_in(store.name):
            lacking.add(name)
    names = wanted(candidates, policy, now) & lacking
    missing = load([one for one in here if str(one.name) in names], known_stores, stores.zone)
    with run.stage("catch up"):
        caught_up = catch_up(
            run,
            sorted(missing, key=lambda backup: backup.started_at),
            local,
            store,
            keep=lambda backup: str(backup.name) in names,
            budget_seconds=stores.catch_up_seconds,
        )
    done.uploaded += caught_up.uploaded
    done.problems += caught_up.problems
