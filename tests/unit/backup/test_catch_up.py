"""The catch-up of missing copies: oldest first, and bounded by time."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from hubbackup.backup import catch_up
from hubbackup.backup.catch_up import CatchUp, CaughtUp
from hubbackup.backup.upkeep import Upkeep
from hubbackup.catalog.backup import BackupName, Mark, write_manifest
from hubbackup.catalog.listing import scan
from hubbackup.catalog.marks import put_mark
from hubbackup.catalog.target import LocalTarget, Policy, Target
from hubbackup.errors import StoreDeniedError, StoreError
from hubbackup.jobs.progress import silent
from hubbackup.jobs.run import Run
from hubbackup.logs.setup import get_logger
from hubbackup.stores import Entry
from hubbackup.stores.local import LocalStore
from hubbackup.stores.memory import MemoryDraft, MemoryStore
from hubbackup.streams.cancel import Cancel
from tests.support.backups import DUMP, manifest_of, put_backup, put_file, target_of

ZONE = ZoneInfo("UTC")
START = datetime(2026, 2, 1, 3)


@pytest.fixture
def local(tmp_path: Path) -> LocalTarget:
    return LocalTarget("the local store", LocalStore(tmp_path), Policy(days=0))


def caught_up(
    local: LocalTarget, remote: Target, budget_seconds: float = 90, made: str = "", now: datetime = START
) -> CaughtUp:
    run = Run("backup", "20260208T030000-1a2b3c", Cancel(), get_logger(), lambda what, total: nullcontext(silent))
    targets = [local, remote]
    aware = now.replace(tzinfo=ZONE)
    catch_up = CatchUp(local, targets, list(scan(targets)), ZONE, aware, made, budget_seconds=budget_seconds)
    return catch_up(run, remote)


def made(local: LocalTarget) -> list[BackupName]:
    return [put_backup(local.store, "hub", START + timedelta(days=days)) for days in range(4)]


def test_time_is_bounded_and_the_next_run_goes_on(local: LocalTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the budget is over no upload begins any more; what waits is told, and the next run takes it."""
    names = [str(name) for name in made(local)]
    store = MemoryStore("s3")
    remote = target_of(store)
    clock = [0.0]
    monkeypatch.setattr(catch_up.time, "monotonic", lambda: clock[0])
    create = store.create

    def slow(*arguments: Any, **options: Any):  # type: ignore[no-untyped-def]
        clock[0] += 30
        return create(*arguments, **options)

    monkeypatch.setattr(store, "create", slow)  # a file and its manifest: a minute a backup
    done = caught_up(local, remote, 90)
    assert list(done.uploaded) == names[:2]
    assert done.problems == (f"2 backups wait to be uploaded to {remote.describe()}: no time left in this run",)
    done = caught_up(local, remote, 90)
    assert list(done.uploaded) == names[2:]
    assert done.problems == ()
    assert caught_up(local, remote, 90) == CaughtUp()


class Lagging(MemoryStore):
    """Lists nothing yet of what it holds."""

    def entries(self) -> Iterator[Entry]:
        return iter(())


def test_what_is_not_listed_yet_is_not_uploaded_again(local: LocalTarget) -> None:
    """Objects that appear in listings only some seconds after they were put: nothing is missing, nothing is wrong,
    and nothing there is touched."""
    names = made(local)
    store = Lagging("s3", remote=True)
    for days in range(4):
        put_backup(store, "hub", START + timedelta(days=days))
    before = dict(store.files)
    assert caught_up(local, target_of(store), now=datetime.now(UTC)) == CaughtUp()
    assert store.files == before
    del store.files[names[2].manifest]
    assert caught_up(local, target_of(store)).problems  # a half copy that is not listed: can't be replaced blindly


def test_what_another_daemon_made_in_the_same_second_stays(local: LocalTarget) -> None:
    """Under one name each of two daemons has a good backup of its own: the bucket keeps the one it has."""
    name = put_backup(local.store, "hub", START)
    store = MemoryStore("s3", remote=True)
    theirs = gzip.compress(DUMP + b"-- theirs\n")
    put_file(store, str(name), theirs)
    write_manifest(store, manifest_of(name, theirs, run_id="20260208T030000-000000"))
    before = dict(store.files)
    assert caught_up(local, target_of(store), now=datetime.now(UTC) + timedelta(hours=2)) == CaughtUp()
    assert store.files == before


def test_a_listing_that_never_shows_what_is_there_is_reported(local: LocalTarget) -> None:
    """After an hour that is no delay any more: what is not listed is never pruned."""
    made(local)
    store = Lagging("s3", remote=True)
    for days in range(4):
        put_backup(store, "hub", START + timedelta(days=days))
    (problem,) = caught_up(local, target_of(store), now=datetime.now(UTC) + timedelta(hours=2)).problems
    assert "does not list 4 backups that are there" in problem


def test_the_backup_of_this_run_is_not_missing(local: LocalTarget) -> None:
    """It was uploaded moments ago; no request is made for it."""
    *older, newest = (str(name) for name in made(local))
    assert list(caught_up(local, target_of(MemoryStore("s3")), made=newest).uploaded) == older


def test_one_copy_that_fails_leaves_the_others(local: LocalTarget) -> None:
    """A name that is taken by what nobody lists: the later ones are uploaded all the same."""
    first, *later = (str(name) for name in made(local))

    class Odd(MemoryStore):
        def entries(self) -> Iterator[Entry]:
            return (entry for entry in super().entries() if entry.name != first)

    store = Odd("s3", remote=True)
    store.files[first] = b"not a backup"
    done = caught_up(local, target_of(store))
    assert list(done.uploaded) == later
    assert first in done.problems[0]
    assert store.files[first] == b"not a backup"


class WriteOnly(MemoryStore):
    """A bucket whose key may put and read, and not delete; while `is_dead` nothing can be put."""

    is_dead = False

    def delete(self, name: str) -> None:
        raise StoreDeniedError(f"could not delete {name}: the server answered AccessDenied")

    def create(self, name: str, *arguments: Any, **options: Any) -> MemoryDraft:
        if self.is_dead:
            raise StoreError("no answer")
        return super().create(name, *arguments, **options)


def marked_bad(local: LocalTarget) -> tuple[WriteOnly, BackupName]:
    name = put_backup(local.store, "hub", START)
    store = WriteOnly("s3", remote=True)
    put_backup(store, "hub", START)
    data = store.files[str(name)]
    store.replace(str(name), data[:-1] + bytes([data[-1] ^ 1]))
    put_mark(store, name, Mark.BAD, why="it is rotten", now=datetime.now(UTC))
    return store, name


def test_a_damaged_copy_goes_in_one_step_by_a_key_that_may_not_delete(local: LocalTarget) -> None:
    """It is replaced by the good one, once: the mark that can't be removed is older than the copy."""
    store, name = marked_bad(local)
    assert caught_up(local, target_of(store)) == CaughtUp((str(name),))
    assert store.files[str(name)] == (local.store.directory / str(name)).read_bytes()
    assert caught_up(local, target_of(store)) == CaughtUp()
    store.replace(str(name), b"rotten again")
    put_mark(store, name, Mark.BAD, why="it is rotten", now=datetime.now(UTC))
    assert caught_up(local, target_of(store)).uploaded == (str(name),)


def test_a_damaged_copy_stays_until_the_good_one_is_whole(local: LocalTarget) -> None:
    """Half a dump may be all that there is after the next fire."""
    store, name = marked_bad(local)
    before = dict(store.files)
    store.is_dead = True
    assert caught_up(local, target_of(store)).problems == (f"{name}: no answer",)
    assert store.files == before


class Host:
    """A daemon with a disk of its own, of several for one bucket."""

    def __init__(self, directory: Path, store: MemoryStore) -> None:
        directory.mkdir()
        self.local = LocalTarget("the disk", LocalStore(directory), Policy(days=60))
        self.remote = target_of(store, Policy(days=7, weeks=8))
        self.store = store

    def back_up(self, at: datetime) -> Upkeep:
        """The backup of that moment, and what follows it."""
        name = put_backup(self.local.store, "hub", at)
        put_backup(self.store, "hub", at)
        run = Run("backup", "20260208T030000-1a2b3c", Cancel(), get_logger(), lambda what, total: nullcontext(silent))
        upkeep = Upkeep(
            run, self.local, [self.local, self.remote], "hub", ZONE, lambda: at.replace(tzinfo=ZONE), problems=[]
        )
        upkeep(str(name), None)
        return upkeep


def test_what_the_bucket_would_not_keep_beside_the_others_is_not_uploaded(tmp_path: Path) -> None:
    """Two daemons take turns, and the bucket keeps the newest of each week, whoever made it: a Saturday's backup that
    it has pruned for the other's of Sunday never goes up again."""
    store = MemoryStore("s3", remote=True)
    hosts = [Host(tmp_path / one, store) for one in ("a", "b")]
    for day in range(50):
        done = hosts[day % 2].back_up(START + timedelta(days=day))
        assert (done.uploaded, done.problems) == ([], [])
    weeks = {f"{one.name.local_time:%G-W%V}" for one in scan([store])}
    assert len(weeks) == 8


@pytest.mark.parametrize("theirs", ["damaged", "unproven", "suspicious"])
def test_what_does_not_count_there_stands_for_no_week(local: LocalTarget, theirs: str) -> None:
    """The newest of a week that another host has put into the bucket is not a good one: ours of that week goes up."""
    saturday, newest = datetime(2026, 2, 14, 3), datetime(2026, 3, 10, 3)
    store = MemoryStore("s3", remote=True)
    remote = target_of(store, Policy(days=7, weeks=8))
    ours = put_backup(local.store, "hub", saturday)
    for place in (local.store, store):
        put_backup(place, "hub", newest)
    warnings = ("half the rows are missing",) if theirs == "suspicious" else ()
    sunday = put_backup(store, "hub", saturday + timedelta(days=1), warnings=warnings)
    if theirs == "damaged":
        store.files[str(sunday)] += b"!"
    if theirs == "unproven":
        store.delete(sunday.manifest)
    assert caught_up(local, remote, now=newest).uploaded == (str(ours),)
