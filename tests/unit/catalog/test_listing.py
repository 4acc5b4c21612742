"""The listing: stores merged by name as a stream, and as few manifests read as will do."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbackup.catalog.backup import BackupName, Mark
from hubbackup.catalog.listing import (
    READERS,
    Listed,
    list_backups,
    newest,
    newest_first,
    newest_good,
    oldest_first,
    read_backups,
    scan,
    scan_each,
)
from hubbackup.catalog.marks import put_mark
from hubbackup.catalog.target import Policy
from hubbackup.errors import StoreError
from hubbackup.retention.prune import make_plans
from hubbackup.stores import Entry
from hubbackup.stores.memory import MemoryStore
from hubbackup.streams.codecs import CODECS
from hubbackup.streams.format import Format
from tests.support.backups import FaultyStore, archived, manifest_of, put_backup, silence, target_of

UTC_ZONE = ZoneInfo("UTC")
START = datetime(2026, 2, 8, 3, 0, 0)
NOW = START.replace(tzinfo=UTC) + timedelta(days=2)
# Database names that look like stems of other backups, so that names interleave in byte order.
DATABASES = (
    "a",
    "a.b",
    "a-b",
    "a_backup_20260208_030000",
    "a_backup_20260208_030000.b",
    "a_backup_20260208_030000-b",
)
names = st.builds(
    BackupName,
    st.sampled_from(DATABASES),
    st.integers(0, 2).map(lambda days: START + timedelta(days=days)),
    st.sampled_from([Format(codec) for codec in CODECS.values()]),
)
FILE, MANIFEST = "file", "manifest"
KINDS = (FILE, MANIFEST, *Mark)
files = st.sets(st.tuples(names, st.sampled_from(KINDS)), max_size=25)


def named(name: BackupName, kind: str) -> str:
    """The name of a backup's file, manifest or mark."""
    return {FILE: str(name), MANIFEST: name.manifest}.get(kind) or name.mark(Mark(kind))


class Counting(MemoryStore):
    """Counts the manifests that are read."""

    opened = 0

    def open(self, name: str, **part: Any):  # type: ignore[no-untyped-def]
        self.opened += 1
        return super().open(name, **part)


@given(files, files)
def test_a_scan_gathers_what_belongs_together(
    here: set[tuple[BackupName, str]], there: set[tuple[BackupName, str]]
) -> None:
    """Each backup once, with all that belongs to it in either store, also where one name begins as another does, and
    where a `.sql.zst` lies beside a `.sql.gz` of the same second."""
    expected: dict[BackupName, set[tuple[str, str]]] = {}
    stores = []
    for store_name, found in (("local", here), ("s3", there)):
        store = MemoryStore(store_name)
        store.files = {named(name, kind): b"" for name, kind in found} | {"foreign.txt": b"", "x.pinned": b""}
        stores.append(store)
        for name, kind in found:
            expected.setdefault(name, set()).add((store_name, kind))
    listed = list(scan(stores))
    assert len({one.name for one in listed}) == len(listed)
    seen = {}
    for one in listed:
        told = {(store, FILE) for store in one.copies} | {(store, MANIFEST) for store in one.manifests_in}
        seen[one.name] = told | {(store, str(mark)) for mark, held_in in one.marks.items() for store in held_in}
    assert seen == {name: told for name, told in expected.items() if FILE in {kind for _, kind in told}}


def test_a_scan_is_of_one_database_where_asked() -> None:
    """Another database's backups are not there at all, and a name that only begins alike is another's."""
    store = MemoryStore("local")
    mine = put_backup(store, "hub", START)
    put_backup(store, "hub2", START)
    assert [one.name for one in scan([store], "hub")] == [mine]


def test_the_newest_are_chosen_by_name() -> None:
    """`hubbackup list` shows so many, oldest first, and says how many more there are."""
    listed = [Listed(BackupName("hub", START + timedelta(days=days))) for days in (3, 0, 2, 1)]
    chosen, left_out = newest(listed, 2)
    assert [one.name.local_time.day for one in chosen] == [10, 11]
    assert left_out == 2
    chosen, left_out = newest(listed, 4)
    assert [one.name.local_time.day for one in chosen] == [8, 9, 10, 11]
    assert left_out == 0


@given(files)
def test_all_are_listed_oldest_first(found: set[tuple[BackupName, str]]) -> None:
    """By their times, whatever databases they are of and however names interleave; the same for one of them."""
    store = MemoryStore("local")
    store.files = {named(name, kind): b"" for name, kind in found}
    names = {name for name, kind in found if kind == FILE}
    told = [(one.name.local_time, one.name.database) for one in oldest_first([store])]
    assert told == sorted((name.local_time, name.database) for name in names)
    for database in DATABASES:
        times = [one.name.local_time for one in oldest_first([store], database)]
        assert times == sorted(name.local_time for name in names if name.database == database)


def test_the_newest_is_found_by_reading_few_manifests() -> None:
    """Of a thousand backups a handful is read; what a batch and the names' doubt of a day cost, no more."""
    store = Counting("local")
    for days in range(1000):
        put_backup(store, "hub", START + timedelta(days=days))
    first = next(newest_first([target_of(store)], UTC_ZONE, "hub"))
    assert first.name.local_time == START + timedelta(days=999)
    assert store.opened <= 16


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(-12, 14)), unique_by=lambda pair: pair[0], max_size=30))
def test_newest_first_is_by_the_manifests_times(found: list[tuple[int, int]]) -> None:
    """Names written under other time zones don't lead astray: the manifest's UTC time orders."""
    store = MemoryStore("local")
    for hours, offset in found:
        at = START + timedelta(hours=hours)
        put_backup(store, "hub", at, started_at=(at - timedelta(hours=offset)).replace(tzinfo=UTC))
    times = [backup.started_at for backup in newest_first([target_of(store)], UTC_ZONE, "hub")]
    assert times == sorted(times, reverse=True)
    assert len(times) == len(found)
    assert [backup.started_at for backup in list_backups([target_of(store)], UTC_ZONE)] == times[::-1]


def test_the_local_manifest_spares_the_remote_one() -> None:
    """A manifest that is in both stores is read where it costs nothing; a broken one is made up for by the other."""
    local, s3 = Counting("local"), Counting("s3", remote=True)
    for store in (local, s3):
        name = put_backup(store, "hub", START)
    (backup,) = read_backups(scan([s3, local]), [target_of(s3), target_of(local)], UTC_ZONE)
    assert (local.opened, s3.opened) == (1, 0)
    assert backup.good_in("local")
    assert backup.good_in("s3")
    local.files[name.manifest] = b"{"
    (backup,) = read_backups(scan([s3, local]), [target_of(s3), target_of(local)], UTC_ZONE)
    assert backup.proven


@pytest.mark.parametrize("harm", ["bad", "cut", "manifest lost", "manifest broken"])
def test_the_newest_good_one_is_whole_somewhere(harm: str) -> None:
    """A damaged copy is passed over, unless another store has the same backup whole."""
    local, s3 = MemoryStore("local"), MemoryStore("s3", remote=True)
    older = put_backup(local, "hub", START)
    latest = put_backup(local, "hub", START + timedelta(days=1))
    if harm == "bad":
        local.files[latest.mark(Mark.BAD)] = b""
    elif harm == "cut":
        local.files[str(latest)] = b"x"
    elif harm == "manifest lost":
        del local.files[latest.manifest]
    else:
        local.files[latest.manifest] = b"{"
    found = newest_good([target_of(local), target_of(s3)], UTC_ZONE, "hub", NOW)
    assert found is not None
    assert found.name == older
    put_backup(s3, "hub", START + timedelta(days=1))
    found = newest_good([target_of(local), target_of(s3)], UTC_ZONE, "hub", NOW)
    assert found is not None
    assert found.name == latest
    assert newest_good([target_of(local), target_of(s3)], UTC_ZONE, "other", NOW) is None


def test_one_from_the_future_is_never_the_newest() -> None:
    """Made while the clock was a year ahead, it vouches for nothing now; an hour is two clocks that differ."""
    store = MemoryStore("local")
    older = put_backup(store, "hub", START)
    ahead = put_backup(store, "hub", START + timedelta(days=365))
    moment = START.replace(tzinfo=UTC)
    for now, expected in (
        (moment + timedelta(days=1), older),
        (moment + timedelta(days=364, hours=22), older),
        (moment + timedelta(days=364, hours=23), ahead),
        (moment + timedelta(days=366), ahead),
    ):
        found = newest_good([target_of(store)], UTC_ZONE, "hub", now)
        assert found is not None
        assert found.name == expected


@pytest.mark.parametrize("mark", list(Mark))
def test_a_mark_is_a_file_beside_the_backup(mark: Mark) -> None:
    """Pinned, accepted, unrestorable count wherever they are; bad counts in the store that says so."""
    local, s3 = MemoryStore("local"), MemoryStore("s3", remote=True)
    for store in (local, s3):
        name = put_backup(store, "hub", START, warnings=("half the size",))
    s3.files[name.mark(mark)] = b""
    (backup,) = list_backups([target_of(local), target_of(s3)], UTC_ZONE)
    assert backup.pinned == (mark is Mark.PINNED)
    assert backup.suspicious == (mark is not Mark.ACCEPTED)
    assert backup.unrestorable == (mark is Mark.UNRESTORABLE)
    assert backup.good_in("local")
    assert backup.good_in("s3") == (mark is not Mark.BAD)
    assert BackupName.owner_of(name.mark(mark)) == name


def test_an_unrestorable_backup_says_why() -> None:
    """The reason is read from whichever store gives it, one that makes no sense is left out; it counts nowhere."""
    local, s3 = MemoryStore("local"), MemoryStore("s3", remote=True)
    for store in (local, s3):
        name = put_backup(store, "hub", START, warnings=("half the size",))
    local.files[name.mark(Mark.UNRESTORABLE)] = b"{"
    put_mark(s3, name, Mark.UNRESTORABLE, why="no function f", now=START)
    (backup,) = list_backups([target_of(local), target_of(s3)], UTC_ZONE)
    assert [(doubt.word, doubt.why) for doubt in backup.doubts] == [
        ("unrestorable", "no function f"),
        ("suspicious", "half the size"),
    ]
    assert backup.good_in("local")
    assert not backup.counts_in("local")
    del s3.files[name.mark(Mark.UNRESTORABLE)]
    (backup,) = list_backups([target_of(local), target_of(s3)], UTC_ZONE)
    assert backup.doubts[0].why == "a drill of its schema failed"


def test_a_manifest_that_is_only_remote_is_found_after_a_broken_local_one() -> None:
    """Each backup keeps its place and its own manifest, whichever store gave it; else it says what is wrong."""
    local, s3 = MemoryStore("local"), MemoryStore("s3", remote=True)
    made = [put_backup(store, "hub", START + timedelta(days=days)) for days in range(3) for store in (local, s3)][::2]
    local.files[made[0].manifest] = b"{"
    del local.files[made[1].manifest]
    local.files[made[2].manifest] = b"{"
    del s3.files[made[2].manifest]
    loaded = list(read_backups(scan([local, s3]), [target_of(local), target_of(s3)], UTC_ZONE))
    assert [backup.name for backup in loaded] == made
    assert [backup.manifest and backup.manifest.name for backup in loaded] == [str(made[0]), str(made[1]), None]
    assert [bool(backup.problem) for backup in loaded] == [False, False, True]
    assert "is not valid" in loaded[2].problem


class Endless:
    """A store of very many backups that are never all there; their manifests are long, 40 KB each."""

    name = "local"
    remote = False

    def __init__(self, backups: int) -> None:
        self._backups = backups
        rows = {f"public.a_table_with_a_long_name_{number}": number for number in range(1000)}
        self._manifest = manifest_of(BackupName("hub", START), b"", rows=rows, stored_bytes=1_000_000)

    def entries(self) -> Iterator[Entry]:
        at = datetime(2026, 2, 8, tzinfo=UTC)
        for number in range(self._backups):
            name = BackupName("hub", START + timedelta(hours=number))
            yield Entry(name.manifest, 2000, at)
            yield Entry(str(name), 1_000_000, at)

    def open(self, name: str, **part: Any) -> io.BytesIO:
        parsed = BackupName.owner_of(name)
        assert parsed is not None
        own = {"name": str(parsed), "started_at": parsed.started_at(UTC_ZONE)}
        return io.BytesIO(self._manifest.model_copy(update=own).to_json())


def peak_of(work: Callable[[], int]) -> tuple[int, int]:
    """What `work` gives, and the most bytes that were allocated meanwhile."""
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_hundred_thousand_objects_are_listed_in_little_memory() -> None:
    """The listing streams: its memory does not grow with the number of objects."""
    count, peak = peak_of(lambda: sum(1 for _ in scan([Endless(5_000)])))  # type: ignore[list-item]
    assert count == 5_000
    assert peak < 400_000
    assert sum(1 for _ in scan([Endless(50_000)])) == 50_000  # type: ignore[list-item]


def test_all_manifests_are_read_in_little_memory() -> None:
    """One database's backups are loaded as a stream: a batch of manifests is in memory, not two thousand."""
    store = Endless(2_000)

    def work() -> int:
        listed = oldest_first([store], "hub")  # type: ignore[list-item]
        return sum(backup.proven for backup in read_backups(listed, [target_of(store)], UTC_ZONE))  # type: ignore[arg-type]

    count, peak = peak_of(work)
    assert count == 2_000
    assert peak < 20 << 20


def test_a_long_backlog_is_planned_in_little_memory() -> None:
    """A plan that removes thousands holds a kilobyte or so of each, and no manifest."""
    store = Endless(2_000)
    now = datetime(2027, 1, 1, tzinfo=UTC)

    def work() -> int:
        listed = scan([store])  # type: ignore[list-item]
        plans = make_plans(
            listed,
            [target_of(store, Policy(7))],  # type: ignore[arg-type]
            now,
            lambda some: read_backups(some, [target_of(store)], UTC_ZONE),  # type: ignore[arg-type]
        )
        return sum(not decision.keep for plan in plans for decision in plan.decisions)

    count, peak = peak_of(work)
    assert count == 1_999
    assert peak < 20 << 20


def test_a_manifest_that_can_not_be_read_is_a_fact_about_its_backup() -> None:
    """The others are read; this one is not good, and not taken for a file without a manifest either."""
    store = FaultyStore()
    first, second = (put_backup(store, "hub", START + timedelta(days=days)) for days in (0, 1))
    store.faults[second.manifest] = archived()
    found = list_backups([target_of(store)], UTC_ZONE)
    assert [(one.name, one.good_in("s3"), one.unreadable) for one in found] == [
        (first, True, False),
        (second, False, True),
    ]
    assert "InvalidObjectState" in found[1].problem
    good = newest_good([target_of(store)], UTC_ZONE, "hub", NOW)
    assert good is not None
    assert good.name == first


def test_the_other_store_has_the_manifest_then() -> None:
    """One that rots on the disk is read from S3."""
    local, s3 = FaultyStore("local", remote=False), MemoryStore("s3", remote=True)
    for store in (local, s3):
        name = put_backup(store, "hub", START)
    local.faults[name.manifest] = StoreError("could not be read: Input/output error")
    (found,) = list_backups([target_of(local), target_of(s3)], UTC_ZONE)
    assert found.good_in("s3")
    assert not found.unreadable


def test_a_store_that_does_not_answer_is_not_asked_again() -> None:
    """A hundred manifests behind a black hole cost no more time than those that are asked for at once."""
    store = FaultyStore()
    for days in range(100):
        name = put_backup(store, "hub", START + timedelta(days=days))
        store.faults[name.manifest] = silence()
    assert all(backup.unreadable for backup in newest_first([target_of(store)], UTC_ZONE, "hub"))
    assert len(store.asked) <= READERS


def test_a_store_that_can_not_be_listed_leaves_the_others() -> None:
    """What can be listed is, with the reason for what can't; where nothing can, that is an error."""
    local, s3 = MemoryStore("local"), FaultyStore()
    name = put_backup(local, "hub", START)
    s3.unlisted = StoreError("could not list the objects: AccessDenied")
    found = scan_each([s3, local]).or_raise()
    assert [one.name for one in found.listed] == [name]
    assert found.stores == (local,)
    assert found.failed == ((s3, s3.unlisted),)
    with pytest.raises(StoreError, match="AccessDenied"):
        scan_each([s3]).or_raise()
