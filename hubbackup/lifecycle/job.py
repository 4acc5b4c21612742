"""Bringing a bucket's lifecycle rules, and the tags of what it holds, to what the settings ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from hubbackup.catalog.listing import scan
from hubbackup.catalog.target import Target
from hubbackup.errors import NotFoundError, StoreError
from hubbackup.jobs.kinds import RunKind
from hubbackup.jobs.results import Result
from hubbackup.jobs.run import Outcome, Run
from hubbackup.lifecycle.configuration import Configuration, Found
from hubbackup.lifecycle.rules import Difference, Terms, difference, wanted
from hubbackup.lifecycle.tags import BACKUP, Untagged, put_tag, untagged
from hubbackup.lifecycle.versions import is_versioned

if TYPE_CHECKING:
    from hubbackup.stores.s3 import S3Store


@dataclass(frozen=True)
class Plan:
    """What a bucket has, and what is to be done so that it is as the settings ask."""

    where: str
    found: Found
    change: Difference
    untagged: tuple[Untagged, ...] = ()

    @property
    def empty(self) -> bool:
        """Nothing is to be done."""
        return self.change.empty and not self.untagged


@dataclass(frozen=True)
class LifecycleResult(Result):
    """What was done in the bucket of `store`; the rules by their ids."""

    store: str
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    tagged: int = 0


def make_plan(target: Target, store: S3Store, terms: Terms, databases: Sequence[str]) -> Plan:
    """Looks, and changes nothing. Raises UsageError where the service has no such rules, StoreError."""
    configuration = Configuration(store)
    found = configuration.read()
    if terms.hidden_after_days and not is_versioned(store):
        terms = replace(terms, hidden_after_days=0)
    change = difference(found.rules, terms, wanted(terms, BACKUP))
    tagless: tuple[Untagged, ...] = ()
    if terms.archive_after_days or terms.expire_after_days:
        tagless = tuple(one for name in databases for one in untagged(store, scan([target], name)))
    return Plan(store.describe(), found, change, tagless)


@dataclass(frozen=True)
class LifecycleJob:
    """Sets the rules, and tags the backups of `databases` that are there. `confirm` is shown the plan first."""

    target: Target
    store: S3Store
    terms: Terms
    databases: Sequence[str]
    confirm: Callable[[Plan], None]
    kind: ClassVar[RunKind] = "lifecycle"
    needs_lock: ClassVar[bool] = True

    def __call__(self, run: Run) -> Outcome[LifecycleResult]:
        """Raises UsageError, StoreError; a backup that could not be tagged is a problem of the outcome."""
        with run.stage("look"):
            plan = make_plan(self.target, self.store, self.terms, self.databases)
        if plan.empty:
            return Outcome("the rules are as the settings ask: nothing was done", LifecycleResult(self.store.name))
        self.confirm(plan)
        change, problems, tagged = plan.change, [], 0
        with run.stage("rules"):
            if not change.empty:
                Configuration(self.store).put(plan.found, change)
        with run.stage("tags"):
            for one in plan.untagged:
                try:
                    put_tag(self.store, one.name, one.value)
                    tagged += 1
                except NotFoundError:
                    continue  # pruned meanwhile
                except StoreError as error:
                    run.cancel.check()
                    problems.append(f"{one.name} has not its tag, so no rule holds for it: {error}")
                    break  # the others would fail the same way
        result = LifecycleResult(
            self.store.name,
            tuple(rule.id for rule in change.added),
            tuple(rule.id for _, rule in change.changed),
            tuple(str(rule.get("ID")) for rule in change.removed),
            tagged,
        )
        return Outcome(f"the lifecycle rules of {plan.where} are as the settings ask", result, tuple(problems))
