"""After a good backup: copies that are missing in S3 are uploaded, then the old backups go."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from hubbackup.catalog import Backup, Manifest, list_backups, of_database
from hubbackup.errors import StoreError
from hubbackup.jobs import Run
from hubbackup.prune import apply_plans, make_plans
from hubbackup.retention import Policy
from hubbackup.stores import Store
from hubbackup.stores.local import LocalStore
from hubbackup.upload import catch_up

FOR_EVER = timedelta(days=36500)


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


def aftercare(run: Run, stores: Stores, manifest: Manifest, lacking: Sequence[str]) -> Aftercare:
    """Upload what is missing, prune what the policies no longer keep.

    `lacking` names the stores that refused the new backup itself: they are not asked again in this run, and not
    pruned, since the newest good backup is not there. A suspicious backup freezes the pruning.
    """
    done = Aftercare()
    local = stores.local[0]
    reachable: list[tuple[Store, Policy]] = []
    backups: list[Backup] = []
    for store, policy in (stores.local, *stores.remotes):
        if store.name in lacking:
            continue
        with contextlib.suppress(StoreError):  # the new backup's own leg has told the reason
            backups = list_backups([*(known for known, _ in reachable), store], stores.zone)
            reachable.append((store, policy))
    mine = list(of_database(backups, stores.database))
    if any(store is local for store, _ in reachable):
        for store, policy in reachable:
            if store is not local:
                _catch_up(run, stores, mine, store, policy, done)
    if manifest.warnings:
        run.log.warning("prune.frozen", message="Rotation suspendue: le dernier backup est suspect")
        return done
    with run.stage("prune"):
        pruned = apply_plans(make_plans(mine, reachable, stores.now(), stores.database))
        done.problems += pruned.problems
        done.pruned += [f"{store}:{name}" for store, name in pruned.removed]
    return done


def _catch_up(
    run: Run, stores: Stores, mine: Sequence[Backup], store: Store, policy: Policy, done: Aftercare
) -> None:
    """The good local backups that `store` lacks and would still keep."""
    oldest = stores.now() - (timedelta(days=policy.days) if policy.days else FOR_EVER)
    with run.stage("catch up"):
        caught_up = catch_up(
            mine,
            stores.local[0],
            store,
            keep=lambda backup: backup.started_at >= oldest,
            cancel=run.cancel,
            budget_seconds=stores.catch_up_seconds,
        )
    done.uploaded += caught_up.uploaded
    done.problems += caught_up.problems
