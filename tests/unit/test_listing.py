"""The listing: stores merged by name as a stream, and as few manifests read as will do."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbackup.catalog import SUFFIXES, BackupName, Mark
from hubbackup.listing import Listed, list_backups, load, newest, newest_first, scan
from hubbackup.stores import Entry
from hubbackup.stores.memory import MemoryStore
from tests.support.backups import put_backup

UTC_ZONE = ZoneInfo("UTC")
START = datetime(2026, 2, 8, 3, 0, 0)
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
    BackupName, st.sampled_from(DATABASES), st.integers(0, 2).map(lambda days: START + timedelta(days=days))
)
files = st.sets(st.tuples(names, st.sampled_from(SUFFIXES)), max_size=25)


class Counting(MemoryStore):
    """Counts the manifests that are read."""

    opened = 0

    def open(self, name: str):  # type: ignore[no-untyped-def]
        self.opened += 1
        return super().open(name)


def plain(found: set[tuple[BackupName, str]], by_store: str) -> dict[BackupName, set[str]]:
    """The oracle: which suffixes each name has, in the plainest way."""
    made: dict[BackupName, set[str]] = {}
    for name, suffix in found:
        made.setdefault(name, set()).add(f"{by_store}{suffix}")
    return made


@given(files, files)
def test_stores_are_merged_whatever_the_names(
    here: set[tuple[BackupName, str]], there: set[tuple[BackupName, str]]
) -> None:
    """Each backup once, with all that belongs to it in either store, also where one name begins as another does."""
    stores = []
    for store_name, found in (("local", here), ("s3", there)):
        store = MemoryStore(store_name)
        store.files = {name.stem + suffix: b"" for name, suffix in found} | {"foreign.txt": b"", "x.pinned": b""}
        stores.append(store)
    listed = list(scan(stores))
    assert len({one.name for one in listed}) == len(listed)
    seen = {}
    for one in listed:
        told = {f"{store}.sql.gz" for store in one.copies} | {f"{store}.manifest.json" for store in one.manifests_in}
        seen[one.name] = told | {f"{store}.{mark}" for mark, stores in one.marks.items() for store in stores}
    expected = plain(here, "local")
    for name, suffixes in plain(there, "s3").items():
        expected.setdefault(name, set()).update(suffixes)
    assert seen == {
        name: suffixes for name, suffixes in expected.items() if any(one.endswith(".sql.gz") for one in suffixes)
    }


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
    chosen, left_out = newest(listed, 0)
    assert [one.name.local_time.day for one in chosen] == [8, 9, 10, 11]
    assert left_out == 0


def test_the_newest_is_found_by_reading_few_manifests() -> None:
    """Of a thousand backups a handful is read; what a batch and the names' doubt of a day cost, no more."""
    store = Counting("local")
    for days in range(1000):
        put_backup(store, "hub", START + timedelta(days=days))
    first = next(newest_first([store], UTC_ZONE, "hub"))
    assert first.name.local_time == START + timedelta(days=999)
    assert store.opened <= 16


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(-12, 14)), unique_by=lambda pair: pair[0], max_size=30))
def test_newest_first_is_by_the_manifests_times(found: list[tuple[int, int]]) -> None:
    """Names written under other time zones don't lead astray: the manifest's UTC time orders."""
    store = MemoryStore("local")
    for hours, offset in found:
        at = START + timedelta(hours=hours)
        put_backup(store, "hub", at, started_at=(at - timedelta(hours=offset)).replace(tzinfo=UTC))
    times = [backup.started_at for backup in newest_first([store], UTC_ZONE, "hub")]
    assert times == sorted(times, reverse=True)
    assert len(times) == len(found)
    assert [backup.started_at for backup in list_backups([store], UTC_ZONE)] == times[::-1]


def test_the_local_manifest_spares_the_remote_one() -> None:
    """A manifest that is in both stores is read where it costs nothing; a broken one is made up for by the other."""
    local, s3 = Counting("local"), Counting("s3")
    for store in (local, s3):
        name = put_backup(store, "hub", START)
    (backup,) = load(scan([s3, local]), [s3, local], UTC_ZONE)
    assert (local.opened, s3.opened) == (1, 0)
    assert backup.good_in("local")
    assert backup.good_in("s3")
    local.files[name.manifest] = b"{"
    (backup,) = load(scan([s3, local]), [s3, local], UTC_ZONE)
    assert backup.proven


@pytest.mark.parametrize("mark", list(Mark))
def test_a_mark_is_a_file_beside_the_backup(mark: Mark) -> None:
    """Pinned and accepted count wherever they are; bad counts in the store that says so."""
    local, s3 = MemoryStore("local"), MemoryStore("s3")
    for store in (local, s3):
        name = put_backup(store, "hub", START, warnings=("half the size",))
    s3.files[name.mark(mark)] = b""
    (backup,) = list_backups([local, s3], UTC_ZONE)
    assert backup.pinned == (mark is Mark.PINNED)
    assert backup.suspicious == (mark is not Mark.ACCEPTED)
    assert backup.good_in("local")
    assert backup.good_in("s3") == (mark is not Mark.BAD)
    assert BackupName.owner_of(name.mark(mark)) == name


class Endless:
    """A store's listing of a hundred thousand objects that are never all there."""

    name = "local"

    def __init__(self, backups: int) -> None:
        self._backups = backups

    def entries(self) -> Iterator[Entry]:
        at = datetime(2026, 2, 8, tzinfo=UTC)
        for number in range(self._backups):
            name = BackupName("hub", START + timedelta(hours=number))
            yield Entry(name.manifest, 2000, at)
            yield Entry(str(name), 1_000_000, at)


def test_a_hundred_thousand_objects_are_listed_in_little_memory() -> None:
    """The listing streams: its memory does not grow with the number of objects."""
    tracemalloc.start()
    try:
        count = sum(1 for _ in scan([Endless(5_000)]))  # type: ignore[list-item]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 5_000
    assert peak < 200_000
    assert sum(1 for _ in scan([Endless(50_000)])) == 50_000  # type: ignore[list-item]
