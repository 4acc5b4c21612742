"""What a foreign backup counts for in everything that lists, keeps and judges backups: nothing."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from hubbackup.backup.anomalies import last_normal
from hubbackup.catalog.backup import BackupName, Mark
from hubbackup.catalog.listing import READERS, list_backups, newest_first, newest_good, read_backups, scan
from hubbackup.catalog.manifests import MANIFEST_MAX_BYTES
from hubbackup.catalog.marks import put_mark
from hubbackup.catalog.origin import Origin, SigningKey, Trust
from hubbackup.catalog.target import Policy, Target
from hubbackup.retention.prune import make_plans
from hubbackup.status.nagios import StoreView, assess
from hubbackup.stores.local import LocalStore
from hubbackup.stores.memory import MemoryStore
from tests.support.backups import put_backup, target_of

ZONE = ZoneInfo("UTC")
KEY, OTHER = SigningKey(b"k" * 64), SigningKey(b"o" * 64)
NOW = datetime(2026, 2, 9, 9, tzinfo=UTC)
TRUST = Trust(KEY, datetime(2025, 1, 1, tzinfo=UTC))


def target(store: MemoryStore | LocalStore, policy: Policy | None = None) -> Target:
    return replace(target_of(store, policy), trust=lambda: TRUST)


def put(store: MemoryStore, when: datetime, key: SigningKey = KEY, **changes: object) -> BackupName:
    """A backup that `key` has signed."""
    name = put_backup(store, "hub", when, **changes)
    manifest = target_of(store).manifest(name).manifest
    store.files[name.manifest] = manifest.signed(key).to_json()
    return name


def night(days: float) -> datetime:
    return datetime(2026, 2, 9, 3) - timedelta(days=days)


@pytest.mark.parametrize("remote", [False, True])
def test_it_is_listed_and_never_the_newest(remote: bool) -> None:
    """Whatever store it is in: it is shown with what it is, and the newest good one is ours."""
    store = MemoryStore("s3" if remote else "local", remote=remote)
    ours, planted = put(store, night(1)), put(store, night(0), OTHER)
    found = {one.name: one for one in list_backups([target(store)], ZONE)}
    assert (found[ours].origin, found[ours].proven) == (Origin.OURS, True)
    theirs = found[planted]
    assert (theirs.origin, theirs.proven, theirs.good_in(store.name), theirs.counts_in(store.name)) == (
        Origin.FOREIGN,
        False,
        False,
        False,
    )
    assert theirs.manifest is not None
    newest = newest_good([target(store)], ZONE, "hub", NOW)
    assert newest is not None
    assert newest.name == ours


def test_it_is_never_what_the_next_backup_is_measured_by() -> None:
    """Else whoever can write to the bucket could call any dump plausible."""
    store = MemoryStore("local")
    ours = put(store, night(1))
    put(store, night(0), OTHER, plain_bytes=1)
    normal = last_normal(newest_first([target(store)], ZONE, "hub"), NOW)
    assert normal is not None
    assert normal.name == str(ours)


def test_a_forged_manifest_in_a_bucket_does_not_pass_for_ours() -> None:
    """Under a name of ours, where ours is on the disk: the copy there is not good, the one here is."""
    local, s3 = MemoryStore("local"), MemoryStore("s3", remote=True)
    for store in (local, s3):
        name = put(store, night(0))
    document = json.loads(s3.files[name.manifest])
    s3.files[name.manifest] = json.dumps(document | {"sha256": "0" * 64}).encode()
    (alone,) = list_backups([target(s3)], ZONE)
    assert alone.foreign
    del local.files[name.manifest]
    (both,) = list_backups([target(local), target(s3)], ZONE)
    assert both.foreign
    assert not both.good_in("s3")


def test_ours_elsewhere_outweighs_a_foreign_manifest_here() -> None:
    """The manifest that is ours is taken, from whichever store, and the foreign copy is not good."""
    local, s3 = MemoryStore("local"), MemoryStore("s3", remote=True)
    name = put(local, night(0), OTHER)
    put(s3, night(0))
    (found,) = list_backups([target(local), target(s3)], ZONE)
    assert (found.name, found.origin) == (name, Origin.OURS)
    assert (found.good_in("local"), found.good_in("s3")) == (False, True)


def test_the_retention_neither_counts_nor_removes_it() -> None:
    """Ours are kept as if it were not there, also where it claims to be from the future, manifest or not."""
    store = MemoryStore("s3", remote=True)
    ours = [put(store, night(days)) for days in (0, 1, 2, 20, 21)]
    planted = [put(store, night(days), OTHER) for days in (-400, 0.01, 0.02, 15, 30)]
    planted.append(BackupName("hub", datetime(2099, 1, 1)))  # without a manifest
    store.files[str(planted[-1])] = b"x"
    targets = [target(store, Policy(7, keep_min=3, weeks=3))]
    (plan,) = make_plans(scan(targets), targets, NOW, lambda some: read_backups(some, targets, ZONE))
    kept = {one.candidate.name for one in plan.decisions if one.keep}
    reasons = {one.candidate.name: one.reason for one in plan.decisions}
    assert {reasons[str(name)] for name in planted[:-1]} == {"foreign: not ours to remove"}
    alone = MemoryStore("s3", remote=True)
    for days in (0, 1, 2, 20, 21):
        put(alone, night(days))
    without = [target(alone, Policy(7, keep_min=3, weeks=3))]
    (expected,) = make_plans(scan(without), without, NOW, lambda some: read_backups(some, without, ZONE))
    assert kept - {str(name) for name in planted} == {one.candidate.name for one in expected.decisions if one.keep}
    assert str(ours[-1]) not in kept


def test_a_suspicious_foreign_one_freezes_nothing() -> None:
    """Nobody has to look into a database for what somebody else has put there."""
    store = MemoryStore("s3", remote=True)
    put(store, night(1))
    put(store, night(0), OTHER, warnings=("half the size",))
    targets = [target(store, Policy(7))]
    (plan,) = make_plans(scan(targets), targets, NOW, lambda some: read_backups(some, targets, ZONE))
    assert plan.frozen_by == ""


def test_check_names_it_and_counts_it_not() -> None:
    """A warning where ours is young enough; where there is none of ours, as bad as nothing."""
    store = MemoryStore("s3", remote=True)
    planted = [put(store, night(days), OTHER) for days in (-0.1, 0)]
    view = StoreView.of(target(store), "hub", ZONE, NOW)
    assert (view.newest, view.good) == (None, 0)
    answer = assess("hub", [view], None, deadline=None, max_age=timedelta(hours=26), now=NOW)
    assert answer.code == 2
    assert str(planted[0]) in str(answer)
    put(store, night(0.1))
    view = StoreView.of(target(store), "hub", ZONE, NOW)
    assert view.good == 1
    answer = assess("hub", [view], None, deadline=None, max_age=timedelta(hours=26), now=NOW)
    assert answer.code == 1
    assert "which is foreign" in str(answer)


def test_one_from_the_future_is_a_warning() -> None:
    """Ours, made while the clock was ahead: never the newest, and said."""
    store = MemoryStore("local")
    ahead = put(store, night(-365))
    ours = put(store, night(0))
    view = StoreView.of(target(store), "hub", ZONE, NOW)
    assert view.newest is not None
    assert view.newest.name == ours
    answer = assess("hub", [view], None, deadline=None, max_age=timedelta(hours=26), now=NOW)
    assert answer.code == 1
    assert f"{ahead}, which is from the future" in str(answer)


@pytest.mark.parametrize(("held_in", "signed", "counts"), [
    ("local", False, True), ("s3", True, True), ("s3", False, False),
])  # fmt: skip
def test_an_acceptance_counts_where_it_is_the_operator_s(held_in: str, signed: bool, counts: bool) -> None:
    """A mark that anybody could have put into a bucket does not call off the suspicion of an emptied database."""
    local, s3 = MemoryStore("local"), MemoryStore("s3", remote=True)
    for store in (local, s3):
        name = put(store, night(0), warnings=("half the size",))
    chosen = {"local": local, "s3": s3}[held_in]
    put_mark(chosen, name, Mark.ACCEPTED, why="x", now=NOW, key=KEY if signed else OTHER)
    for shelves in ([target(local), target(s3)], [target(chosen)]):
        (found,) = list_backups(shelves, ZONE)
        assert found.suspicious is not counts


def test_a_signed_mark_is_of_one_backup() -> None:
    """Copied beside another one it counts for nothing there."""
    s3 = MemoryStore("s3", remote=True)
    one, other = (put(s3, night(days), warnings=("half",)) for days in (1, 0))
    put_mark(s3, one, Mark.ACCEPTED, why="x", now=NOW, key=KEY)
    s3.files[other.mark(Mark.ACCEPTED)] = s3.files[one.mark(Mark.ACCEPTED)]
    assert [found.suspicious for found in list_backups([target(s3)], ZONE)] == [False, True]


def test_manifests_that_are_too_large_cost_no_memory(tmp_path: Path) -> None:
    """Ten of 54 MB: each a fact about its backup, with ours listed beside them."""

    class Bucket(LocalStore):
        remote = True

    store = Bucket(tmp_path)
    ours = put_backup(store, "hub", night(0))
    for days in range(1, 11):
        name = BackupName("hub", night(days))
        (tmp_path / str(name)).write_bytes(b"x")
        with (tmp_path / name.manifest).open("wb") as file:
            file.truncate(54 << 20)
    tracemalloc.start()
    try:
        found = list_backups([target_of(store)], ZONE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [one.name for one in found if one.proven] == [ours]
    assert sum("too large" in one.problem for one in found) == 10
    assert peak < 3 * READERS * MANIFEST_MAX_BYTES  # of 540 MB, what the threads hold at once, while it grows
