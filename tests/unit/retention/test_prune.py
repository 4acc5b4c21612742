"""Pruning: what the plan says goes, store by store; a pin or a suspicion in one store counts in the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubbackup.catalog.backup import Backup, BackupName, Mark
from hubbackup.catalog.listing import Listed, list_backups, read_backups, scan
from hubbackup.catalog.marks import drop_mark, put_mark
from hubbackup.catalog.target import Policy
from hubbackup.errors import StoreError
from hubbackup.retention.policy import Candidate, plan
from hubbackup.retention.prune import apply_plans, make_plans, sweep
from hubbackup.stores import Store
from hubbackup.stores.memory import MemoryStore
from hubbackup.streams.codecs import ZSTD
from hubbackup.streams.format import Format
from tests.support.backups import FaultyStore, archived, put_backup, silence, target_of

ZONE = ZoneInfo("Europe/Paris")
NOW = datetime(2026, 2, 8, 12, tzinfo=UTC).astimezone(ZONE)
WEEK = Policy(7)


def night(days: float) -> datetime:
    return (NOW - timedelta(days=days, hours=9)).replace(tzinfo=None)


def nights(store: MemoryStore, *days: float, **changes: object) -> list[BackupName]:
    return [put_backup(store, "hub", night(one), **changes) for one in days]


def prune(*stores: MemoryStore, policy: Policy = WEEK) -> set[str]:
    """What goes, as `store:name`."""
    targets = [target_of(store, policy) for store in stores]
    plans = make_plans(scan(targets), targets, NOW, lambda some: read_backups(some, targets, ZONE))
    done = apply_plans(plans)
    assert not done.problems
    return {f"{store}:{name}" for store, name in done.removed}


def test_a_backup_goes_with_all_that_belongs_to_it() -> None:
    """File, manifest and marks; what is foreign stays, however alike it looks."""
    store = MemoryStore("local")
    _, _, old = nights(store, 0, 1, 30)
    store.files[old.mark(Mark.ACCEPTED)] = b""
    foreign = {f"{old.stem}.txt", f"{old.stem}.sql.gz.bak", "notes.pinned"}
    store.files |= dict.fromkeys(foreign, b"")
    assert prune(store) == {f"local:{old}"}
    assert {name for name in store.files if name.startswith(old.stem) or name == "notes.pinned"} == foreign


@pytest.mark.parametrize("pinned_in", ["local", "s3"])
def test_a_pin_counts_in_both_stores(pinned_in: str) -> None:
    """Whichever store has the mark, the backup stays in each."""
    stores = {name: MemoryStore(name) for name in ("local", "s3")}
    for store in stores.values():
        _, _, pinned, old = nights(store, 0, 1, 30, 31)
    stores[pinned_in].files[pinned.mark(Mark.PINNED)] = b""
    assert prune(*stores.values()) == {f"local:{old}", f"s3:{old}"}
    del stores[pinned_in].files[pinned.mark(Mark.PINNED)]
    assert prune(*stores.values()) == {f"local:{pinned}", f"s3:{pinned}"}


def test_a_suspicious_backup_freezes_both_stores_until_it_is_accepted() -> None:
    """Also a store that lacks it; accepted in one store, it is accepted."""
    local, s3 = MemoryStore("local"), MemoryStore("s3")
    for store in (local, s3):
        _, _, old = nights(store, 1, 2, 30)
    (suspicious,) = nights(local, 0, warnings=("half the size",))
    assert prune(local, s3) == set()
    s3.files[suspicious.mark(Mark.ACCEPTED)] = b""
    assert prune(local, s3) == {f"local:{old}", f"s3:{old}"}


def test_an_unrestorable_backup_freezes_both_stores_until_a_drill_of_it_passes() -> None:
    """Whichever store has the mark; the plan says why, and the mark's removal ends it."""
    local, s3 = MemoryStore("local"), MemoryStore("s3")
    for store in (local, s3):
        newest, _, old = nights(store, 0, 1, 30)
    put_mark(s3, newest, Mark.UNRESTORABLE, why="no function f", now=NOW)
    assert prune(local, s3) == set()
    stores = [local, s3]
    shelves = list(map(target_of, stores))
    (plan_,) = make_plans(scan(stores), [target_of(local, WEEK)], NOW, lambda some: read_backups(some, shelves, ZONE))
    assert plan_.frozen_by == str(newest)
    assert plan_.doubt is not None
    assert plan_.doubt.why == "no function f"
    assert {decision.reason for decision in plan_.decisions} == {f"frozen: {newest} is unrestorable"}
    drop_mark(s3, newest, Mark.UNRESTORABLE)
    assert prune(local, s3) == {f"local:{old}", f"s3:{old}"}


def test_an_unrestorable_one_counts_for_nothing() -> None:
    """The minimum of good ones is filled by others, however many newer ones don't restore."""
    store = MemoryStore("local")
    nights(store, 0, 1)
    refused = nights(store, 9, 10)
    kept, gone = nights(store, 11, 12)
    for name in refused:
        put_mark(store, name, Mark.UNRESTORABLE, why="no function f", now=NOW)
    assert prune(store, policy=Policy(7, keep_min=3)) == {f"local:{name}" for name in (*refused, gone)}
    assert str(kept) in store.files


def test_a_normal_one_ends_the_freeze_and_the_suspicious_one_counts_for_nothing() -> None:
    """The minimum of good ones is filled by others."""
    store = MemoryStore("local")
    nights(store, 0, 1)
    (suspicious,) = nights(store, 10, warnings=("half the size",))
    kept, gone = nights(store, 11, 12)
    assert prune(store, policy=Policy(7, keep_min=3)) == {f"local:{suspicious}", f"local:{gone}"}
    assert str(kept) in store.files


@pytest.mark.parametrize("harm", ["bad", "cut", "manifest lost", "manifest broken"])
def test_what_is_not_good_does_not_count(harm: str) -> None:
    """The older good one stays as the newest good one, however many damaged copies are newer."""
    store = MemoryStore("local")
    good, newer = nights(store, 30, 20)
    if harm == "bad":
        store.files[newer.mark(Mark.BAD)] = b""
    elif harm == "cut":
        store.files[str(newer)] = b"x"
    elif harm == "manifest lost":
        del store.files[newer.manifest]
    else:
        store.files[newer.manifest] = b"{"
    assert prune(store) == set()
    assert str(good) in store.files


def test_a_twin_shares_nothing() -> None:
    """A `.sql.zst` beside a `.sql.gz` of the same second, packed anew by hand: each has its own manifest and marks,
    and goes or stays by itself."""
    store = MemoryStore("local")
    old = put_backup(store, "hub", night(9))
    twin = replace(old, format=Format(ZSTD))
    store.files |= {str(twin): store.files[str(old)], twin.mark(Mark.PINNED): b""}
    nights(store, *range(7))
    assert prune(store) == {f"local:{old}"}
    assert str(twin) in store.files
    assert not {str(old), old.manifest} & set(store.files)


def test_an_interrupted_removal_is_taken_up_again() -> None:
    """Where a deletion fails the file stays listed, without its manifest no backup, and goes the next time."""

    class Failing(MemoryStore):
        fail = True

        def delete(self, name: str) -> None:
            if self.fail and name.endswith(".sql.gz"):
                raise StoreError("no")
            super().delete(name)

    store = Failing("local")
    _, _, old = nights(store, 0, 1, 30)
    store.files[old.mark(Mark.BAD)] = b""
    plans = make_plans(
        scan([store]), [target_of(store, WEEK)], NOW, lambda some: read_backups(some, [target_of(store)], ZONE)
    )
    assert len(apply_plans(plans).problems) == 1
    assert {name for name in store.files if name.startswith(old.stem)} == {str(old)}
    store.fail = False
    assert prune(store) == {f"local:{old}"}


def test_few_manifests_are_read() -> None:
    """Of ten years kept, one going: what the plan rests on and what goes is read, and nothing else."""
    store = MemoryStore("s3")
    nights(store, *range(3651))
    read: list[BackupName] = []

    def counted(some: Iterable[Listed]) -> list[Backup]:
        found = list(read_backups(some, [target_of(store)], ZONE))
        read.extend(backup.name for backup in found)
        return found

    (made,) = make_plans(scan([store]), [target_of(store, Policy(3650, keep_min=2))], NOW, counted)
    assert sum(not decision.keep for decision in made.decisions) == 1
    assert len(read) == 4


states = st.sampled_from(
    ["good", "good", "good", "bad", "cut", "no manifest", "broken", "suspicious", "pinned", "unrestorable"]
)
policies = st.builds(
    Policy,
    days=st.integers(0, 20),
    keep_min=st.integers(1, 4),
    weeks=st.integers(0, 3),
    months=st.integers(0, 2),
    years=st.integers(0, 2),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(states, max_size=25), policies)
def test_the_plan_is_that_of_reading_everything(found: list[str], policy: Policy) -> None:
    """What is presumed until it is read changes nothing: the same stay as where every manifest is read first."""
    store = MemoryStore("local")
    for days, state in enumerate(found):
        (name,) = nights(store, days * 1.5, warnings=("odd",) if state == "suspicious" else ())
        if state == "cut":
            store.files[str(name)] = b""
        elif state == "no manifest":
            del store.files[name.manifest]
        elif state == "broken":
            store.files[name.manifest] = b"{"
        elif state in ("bad", "pinned", "unrestorable"):
            store.files[f"{name.stem}.{state}"] = b""
    stores: list[Store] = [store]
    backups = list_backups(list(map(target_of, stores)), ZONE)
    proven = [backup for backup in backups if backup.proven]
    frozen_by = str(proven[-1].name) if proven and proven[-1].doubts else ""
    candidates = [Candidate(str(b.name), b.started_at, b.counts_in("local"), b.pinned) for b in backups]
    expected = {d.candidate.name for d in plan(candidates, policy, NOW, frozen_by=frozen_by) if d.keep}
    plans = make_plans(
        scan(stores),
        [target_of(store, policy)],
        NOW,
        lambda some: read_backups(some, list(map(target_of, stores)), ZONE),
    )
    assert {d.candidate.name for one in plans for d in one.decisions if d.keep} == expected


def test_what_can_not_be_read_neither_goes_before_its_time_nor_takes_a_good_ones_place() -> None:
    """Archived by a rule of the bucket: a month's stays, since it may be good, and so does the next good one of that
    month, since it may not be. What the policy keeps in neither case goes."""
    store = FaultyStore()
    nights(store, 0, 1)
    (frozen,) = nights(store, 20)
    beside, gone = nights(store, 21, 22)
    (frozen_and_old,) = nights(store, 23)
    for name in (frozen, frozen_and_old):
        store.faults[name.manifest] = archived()
    assert prune(store, policy=Policy(7, months=2)) == {f"s3:{gone}", f"s3:{frozen_and_old}"}
    assert {str(frozen), str(beside)} <= set(store.files)


def test_the_minimum_is_of_those_that_can_be_read() -> None:
    """An unreadable one is no reason to remove a good one."""
    store = FaultyStore()
    _good, frozen = nights(store, 30, 20)
    store.faults[frozen.manifest] = archived()
    assert prune(store) == set()


def test_a_store_that_does_not_answer_is_left_alone() -> None:
    """One removal that waits in vain is enough for a run."""

    class Silent(MemoryStore):
        asked = 0

        def delete(self, name: str) -> None:
            self.asked += 1
            raise silence()

    store = Silent("s3")
    nights(store, 0, 1, 30, 31, 32)
    targets = [target_of(store, WEEK)]
    plans = make_plans(scan([store]), targets, NOW, lambda some: read_backups(some, targets, ZONE))
    assert len(apply_plans(plans).problems) == 1
    assert store.asked == 1


def test_what_a_rule_has_expired_is_swept() -> None:
    """Manifests and marks whose backup a rule has removed go, once the rule's days are over; a pinned one's stay, and
    so does a manifest whose file is only not listed yet."""
    store = MemoryStore("s3")
    here, young, old, pinned = nights(store, 0, 39, 41, 42)
    for name in (young, old, pinned):
        del store.files[str(name)]
    store.files[old.mark(Mark.BAD)] = store.files[pinned.mark(Mark.PINNED)] = b""
    target = replace(target_of(store, WEEK), expire_days=40)
    assert sweep([replace(target, policy=Policy(0))], None, ZONE, NOW).removed == ()
    assert sweep([replace(target, expire_days=0)], None, ZONE, NOW).removed == ()
    assert sweep([target], "another", ZONE, NOW).removed == ()
    done = sweep([target], "hub", ZONE, NOW)
    assert done.removed == (("s3", old.manifest),)
    assert set(store.files) == {
        *(str(here), here.manifest, young.manifest, pinned.manifest, pinned.mark(Mark.PINNED)),
    }
