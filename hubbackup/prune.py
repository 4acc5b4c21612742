"""Apply the retention plan to a store: manifest first, then the file, so that a half-removed backup is no backup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from hubbackup.catalog import Backup, BackupName
from hubbackup.errors import StoreError
from hubbackup.retention import Candidate, Decision, Policy, plan
from hubbackup.stores import Store


@dataclass(frozen=True)
class StorePlan:
    """The decisions for one database's backups in one store, newest first."""

    store: Store
    database: str
    decisions: tuple[Decision, ...]


@dataclass(frozen=True)
class Pruned:
    """What was removed, as (store's name, file name), and a sentence for each removal that failed."""

    removed: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()


def make_plans(
    backups: Sequence[Backup], stores: Sequence[tuple[Store, Policy]], now: datetime, database: str | None = None
) -> list[StorePlan]:
    """Plan each store and each database by itself (all databases where `database` is None). Nothing is done."""
    databases = sorted({backup.name.database for backup in backups if database in (None, backup.name.database)})
    plans = []
    for store, policy in stores:
        for one in databases:
            candidates = [
                Candidate(str(backup.name), backup.started_at, backup.good_in(store.name))
                for backup in backups
                if backup.name.database == one and store.name in backup.copies
            ]
            plans.append(StorePlan(store, one, tuple(plan(candidates, policy, now))))
    return plans


def apply_plans(plans: Sequence[StorePlan]) -> Pruned:
    """Remove what the plans say, oldest first. One failed removal does not hinder the others."""
    removed: list[tuple[str, str]] = []
    problems: list[str] = []
    for store_plan in plans:
        for decision in reversed(store_plan.decisions):
            name = BackupName.parse(decision.candidate.name)
            if decision.keep or name is None:
                continue
            try:
                store_plan.store.delete(name.manifest)
                store_plan.store.delete(str(name))
            except StoreError as error:
                problems.append(f"{name} stays in {store_plan.store.describe()}: {error}")
                continue
            removed.append((store_plan.store.name, str(name)))
    return Pruned(tuple(removed), tuple(problems))
