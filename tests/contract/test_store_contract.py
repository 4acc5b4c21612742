"""What every store promises. A store that is added to STORES below is held to all of it."""

from __future__ import annotations

import errno
import os
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hubbackup.errors import ExistsError, NotFoundError, StoreError, UsageError
from hubbackup.stores import MAX_NAME_BYTES, Store, is_flat_name
from hubbackup.stores.local import LocalStore
from hubbackup.stores.memory import MemoryStore
from hubbackup.stores.s3 import S3Store
from hubbackup.streams.growing_file import GrowingFile, SourceFailedError
from tests.support.s3 import S3Server

STORES = ["local", "local without hard links", "memory", "s3"]


@pytest.fixture(scope="module")
def s3_store(s3: S3Server) -> Store:
    return s3.store(s3.bucket())  # one for all: boto3 takes a quarter of a second for each client


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    kind = request.param
    if kind == "s3":
        s3_store: Store = request.getfixturevalue("s3_store")
        for entry in s3_store.entries():
            s3_store.delete(entry.name)
        s3_store.remove_leftovers()
        return s3_store
    if kind == "memory":
        return MemoryStore()
    if kind == "local without hard links":

        def no_links(*arguments: object, **options: object) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", no_links)  # as FAT and some network file systems answer
    directory = tmp_path / "store"
    directory.mkdir()
    return LocalStore(directory)


def put(store: Store, name: str, data: bytes) -> None:
    with store.create(name) as draft:
        draft.write(data)
        draft.commit()


def get(store: Store, name: str) -> bytes:
    with store.open(name) as file:
        return file.read()


def names(store: Store) -> list[str]:
    return [entry.name for entry in store.entries()]


@pytest.mark.parametrize("make", [LocalStore, S3Store, MemoryStore], ids=["local", "s3", "memory"])
def test_the_name_stands_on_the_instance(make: Callable[..., Store], tmp_path: Path) -> None:
    """So two stores of one kind are two targets: a second bucket is called what its owner calls it."""
    where = () if make is MemoryStore else (tmp_path,) if make is LocalStore else ("bucket",)
    store, other = make(*where, name="mirror"), make(*where)
    assert store.name == "mirror" != other.name
    assert store.remote == (make is S3Store)


def test_a_file_is_replaced_in_one_step(store: Store) -> None:
    """Whoever reads meanwhile finds the old one or the new one, whole, never none; nothing else is left behind."""
    old, new = b"old" * 50_000, b"new!" * 50_000
    put(store, "a.json", old)
    seen: set[bytes | None] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            try:
                seen.add(get(store, "a.json"))
            except NotFoundError:
                seen.add(None)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for data in (new, old) * 5:
            store.replace("a.json", data, {"sha256": "0"})
            assert get(store, "a.json") == data
    finally:
        ended.set()
        watcher.join()
    assert seen <= {old, new}
    assert names(store) == ["a.json"]
    store.replace("b.json", b"made")
    assert get(store, "b.json") == b"made"
    with pytest.raises(UsageError):
        store.replace("../c", b"")


def test_a_name_becomes_visible_only_when_it_is_whole(store: Store) -> None:
    """Until `commit` returns, no way of asking shows the name; after it, every way shows all of it."""
    data = os.urandom(300_000)
    with store.create("a.sql.gz") as draft:
        for start in range(0, len(data), 100_000):
            draft.write(data[start : start + 100_000])
            assert draft.size_bytes == start + 100_000
            assert names(store) == []
            with pytest.raises(NotFoundError):
                store.stat("a.sql.gz")
            with pytest.raises(NotFoundError), store.open("a.sql.gz"):
                pass
        entry = draft.commit()
    assert (entry.name, entry.size_bytes) == ("a.sql.gz", len(data))
    assert list(store.entries()) == [store.stat("a.sql.gz")] == [entry]
    assert get(store, "a.sql.gz") == data


def test_a_store_never_overwrites(store: Store) -> None:
    """A taken name is ExistsError, and what holds it stays byte for byte."""
    put(store, "taken", b"first")
    with pytest.raises(ExistsError, match="taken"):
        put(store, "taken", b"second")
    assert get(store, "taken") == b"first"


@pytest.mark.parametrize("size", [5, 50_000], ids=["small", "in parts"])
def test_a_draft_may_replace_at_its_commit(store: Store, size: int) -> None:
    """What has the name stays whole until then, and for good where the draft is given up; a free name is taken."""
    put(store, "taken", b"first")
    data = os.urandom(size)
    with store.create("taken", replacing=True) as draft:
        draft.write(data)
        assert get(store, "taken") == b"first"
    assert get(store, "taken") == b"first"
    with store.create("taken", {"sha256": "0"}, replacing=True) as draft:
        draft.write(data)
        assert draft.commit().size_bytes == size
    assert get(store, "taken") == data
    with store.create("free", replacing=True) as draft:
        draft.write(data)
        draft.commit()
    assert get(store, "free") == data
    assert names(store) == ["free", "taken"]
    assert store.remove_leftovers() == []


@pytest.mark.parametrize("size", [5, 50_000], ids=["small", "in parts"])
def test_of_two_drafts_for_one_name_one_is_published(store: Store, size: int) -> None:
    """Two writers that both found the name free: one gets it, the other an ExistsError, and never a mixture."""
    with store.create("contested") as draft:
        draft.write(b"1" * size)
        try:
            with store.create("contested") as rival:
                rival.write(b"2" * size)
                rival.commit()
        except ExistsError:
            assert draft.commit().size_bytes == size
            assert get(store, "contested") == b"1" * size
        else:
            with pytest.raises(ExistsError):
                draft.commit()
            assert get(store, "contested") == b"2" * size


@pytest.mark.parametrize("size", [0, 5, 50_000], ids=["empty", "small", "in parts"])
def test_aborting_leaves_nothing(store: Store, size: int) -> None:
    """A draft that was not committed leaves no name, nothing to clean, and the name free."""
    with store.create("given-up") as draft:
        draft.write(b"x" * size)
    draft.abort()
    assert names(store) == []
    assert store.remove_leftovers() == []
    put(store, "given-up", b"y")
    assert get(store, "given-up") == b"y"


def test_a_failure_inside_the_block_leaves_nothing(store: Store) -> None:
    """An exception passes through the draft's block unchanged, and the draft is gone."""

    def fail() -> None:
        with store.create("unlucky") as draft:
            draft.write(b"x" * 50_000)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert names(store) == store.remove_leftovers() == []


def test_a_committed_draft_is_closed(store: Store) -> None:
    """After `commit`, aborting does nothing, committing again gives the same entry, writing is an error."""
    with store.create("done") as draft:
        draft.write(b"data")
        entry = draft.commit()
        draft.abort()
        assert draft.commit() == entry
        with pytest.raises(StoreError):
            draft.write(b"more")
    assert get(store, "done") == b"data"


def test_an_aborted_draft_can_not_be_committed(store: Store) -> None:
    """What was given up can't be published by mistake."""
    draft = store.create("given-up")
    draft.write(b"data")
    draft.abort()
    with pytest.raises(StoreError):
        draft.commit()
    assert names(store) == []


def test_an_empty_file_is_a_file(store: Store) -> None:
    """No bytes at all are stored and given back as such."""
    with store.create("empty") as draft:
        assert draft.commit().size_bytes == 0
    assert get(store, "empty") == b""


def test_follow_keeps_pace_with_a_growing_file(store: Store, tmp_path: Path) -> None:
    """A file is taken up while it grows, in spite of pauses, and renaming it half-way does no harm."""
    source = LocalStore(tmp_path)
    data = os.urandom(400_000)
    with source.create("source") as written, store.create("copy") as draft:
        follower = Follower(draft.follow, written.growing)
        for start in range(0, len(data), 50_000):
            written.write(data[start : start + 50_000])
            time.sleep(0.01)
        written.commit()
        follower.join()
        assert draft.commit().size_bytes == len(data)
    assert get(store, "copy") == data


@pytest.mark.parametrize("size", [0, 1, 8 << 10, (8 << 10) + 1, 3_000_000])
def test_follow_takes_a_file_of_any_size_that_is_complete_already(store: Store, tmp_path: Path, size: int) -> None:
    """The edges: nothing, a byte, a part, a part and a byte, many parts."""
    data = os.urandom(size)
    path = tmp_path / "source"
    path.write_bytes(data)
    with store.create("copy") as draft:
        draft.follow(GrowingFile.complete(path))
        assert draft.commit().size_bytes == size
    assert get(store, "copy") == data


def test_write_and_follow_may_be_mixed(store: Store, tmp_path: Path) -> None:
    """Bytes land in the order of the calls."""
    path = tmp_path / "source"
    path.write_bytes(b"b" * 70_000)
    with store.create("mixed") as draft:
        draft.write(b"a" * 10)
        draft.follow(GrowingFile.complete(path))
        draft.write(memoryview(b"c" * 10))
        draft.commit()
    assert get(store, "mixed") == b"a" * 10 + b"b" * 70_000 + b"c" * 10


def test_follow_of_a_writer_that_gave_up_publishes_nothing(store: Store, tmp_path: Path) -> None:
    """The follower of a failed dump learns of it at once and leaves nothing."""
    source = LocalStore(tmp_path)
    with store.create("copy") as draft:
        with source.create("source") as written:
            follower = Follower(draft.follow, written.growing)
            written.write(b"x" * 50_000)
        with pytest.raises(SourceFailedError):
            follower.join()
    assert names(store) == store.remove_leftovers() == []


def test_follow_of_a_file_that_shrinks_is_an_error(store: Store, tmp_path: Path) -> None:
    """A source with fewer bytes than its writer told of is a StoreError: no hang, no short copy."""
    path = tmp_path / "source"
    path.write_bytes(b"x" * 50_000)
    growing = GrowingFile.complete(path)
    os.truncate(path, 20_000)
    with store.create("copy") as draft, pytest.raises(StoreError):
        draft.follow(growing)
    assert names(store) == []


BAD_NAMES = [
    "",
    ".",
    "..",
    "../etc/passwd",
    "/etc/passwd",
    "a/b",
    "a\0b",
    "a\nb",
    "a\x1b[31mb",
    "a\x7fb",
    ".hidden",
    "a.partial",
    "a\udcffb",
    "é" * MAX_NAME_BYTES,
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=[ascii(name)[:20] for name in BAD_NAMES])
def test_names_are_flat(store: Store, name: str) -> None:
    """A name that could lead elsewhere, hide, or disturb a terminal is UsageError, whatever is asked."""
    asks: list[Callable[[str], object]] = [store.create, store.open, store.stat, store.delete]
    for ask in asks:
        with pytest.raises(UsageError):
            ask(name)
    assert names(store) == []


def test_a_name_of_the_greatest_length_is_taken(store: Store) -> None:
    """The bound on names leaves room for what a store adds to them."""
    put(store, "n" * MAX_NAME_BYTES, b"data")
    assert names(store) == ["n" * MAX_NAME_BYTES]


def test_delete_is_idempotent(store: Store) -> None:
    """Deleting removes the one name; deleting again, or what never was, is not an error."""
    put(store, "a", b"1")
    put(store, "ab", b"2")
    store.delete("a")
    store.delete("a")
    store.delete("never-was")
    assert names(store) == ["ab"]
    with pytest.raises(NotFoundError):
        store.stat("a")


def test_entries_come_in_byte_order(store: Store) -> None:
    """UTF-8 byte order, one by one, also for names that only differ in case or lie outside of ASCII."""
    wanted = ["B", "a", "a.b", "a-b", "a_b", "ä", "z", "\uf900", "𐀀", "a b", "%2e%2e", "+"]
    for name in wanted:
        put(store, name, b"x")
    listed = store.entries()
    assert iter(listed) is listed
    assert [entry.name for entry in listed] == sorted(wanted, key=str.encode)


def test_times_are_aware_and_of_now(store: Store) -> None:
    """An entry's time is in UTC and says so."""
    put(store, "a", b"x")
    modified_at = store.stat("a").modified_at
    assert modified_at.tzinfo is UTC
    assert abs(datetime.now(UTC) - modified_at) < timedelta(minutes=1)


def test_what_is_missing_is_not_found(store: Store) -> None:
    """A missing name is NotFoundError, which names it."""
    with pytest.raises(NotFoundError, match="never-was"):
        store.stat("never-was")
    with pytest.raises(NotFoundError, match="never-was"), store.open("never-was"):
        pass


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=60).filter(is_flat_name),
    portions=st.lists(st.binary(max_size=20_000), max_size=4),
    read_size=st.integers(1, 9_000),
)
def test_bytes_and_names_come_back_as_they_went(
    store: Store, name: str, portions: list[bytes], read_size: int
) -> None:
    """Any bytes under any flat name, written and read in any portions."""
    store.delete(name)
    with store.create(name) as draft:
        for portion in portions:
            draft.write(portion)
        draft.commit()
    with store.open(name) as file:
        read = b"".join(iter(lambda: file.read(read_size), b""))
    assert read == b"".join(portions)
    assert name in names(store)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(0, 700) | st.just(600_000),
    start=st.integers(0, 800) | st.integers(590_000, 601_000),
    length=st.none() | st.integers(0, 800) | st.integers(300_000, 700_000),
    read_size=st.integers(1, 900) | st.just(-1),
)
def test_a_part_of_a_file_is_read_alone(
    store: Store, size: int, start: int, length: int | None, read_size: int
) -> None:
    """The bytes from `start` on and before `end`, whatever lies around them; beyond the file's end there are none."""
    data = random.Random(1).randbytes(size)
    store.replace("a", data)
    end = None if length is None else start + length
    with store.open("a", start=start, end=end) as file:
        read = file.read() if read_size < 0 else b"".join(iter(lambda: file.read(max(read_size, 500)), b""))
        assert file.read() == file.read(5) == b""
    assert read == data[start:end]


def test_a_part_of_what_is_missing_is_not_found(store: Store) -> None:
    """An empty part, too: nobody takes a missing file for one that has nothing there."""
    for start, end in ((0, 5), (5, None), (5, 5), (0, 0)):
        with pytest.raises(NotFoundError, match="never-was"), store.open("never-was", start=start, end=end):
            pass


@pytest.mark.parametrize(("start", "end"), [(-1, None), (-5, 3), (5, 4), (0, -1)])
def test_bytes_that_no_file_has_are_an_error(store: Store, start: int, end: int | None) -> None:
    """A part that ends before it starts, or begins before the file, is a StoreError: never other bytes than asked."""
    put(store, "a", b"0123456789")
    with pytest.raises(StoreError, match="no bytes from"):
        store.open("a", start=start, end=end)


class Follower(threading.Thread):
    """`follow` in a thread; `join` ends within seconds and raises what `follow` raised."""

    def __init__(self, follow: Callable[[GrowingFile], None], source: GrowingFile) -> None:
        super().__init__(daemon=True)
        self._follow = follow
        self._source = source
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._follow(self._source)
        except BaseException as error:  # noqa: BLE001 - raised again in `join`
            self._error = error

    def join(self, timeout: float | None = 30) -> None:
        super().join(timeout)
        assert not self.is_alive()
        if self._error is not None:
            raise self._error
