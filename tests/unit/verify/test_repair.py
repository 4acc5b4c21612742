"""Repair: nothing gets into a store but what our own signature vouches for, and nothing is ever worse than before."""

from __future__ import annotations

import errno
import gzip
import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from zoneinfo import ZoneInfo

import pytest

from hubbackup.catalog.backup import BackupName, Mark
from hubbackup.catalog.listing import list_backups
from hubbackup.catalog.marks import put_mark
from hubbackup.catalog.origin import SigningKey, Trust
from hubbackup.catalog.target import LocalTarget, Policy, Target
from hubbackup.errors import StoreError
from hubbackup.jobs.history import History
from hubbackup.jobs.progress import silent
from hubbackup.jobs.run import Outcome, Run
from hubbackup.logs.setup import get_logger
from hubbackup.stores.local import LocalDraft, LocalStore
from hubbackup.stores.memory import MemoryDraft, MemoryStore
from hubbackup.streams.cancel import Cancel
from hubbackup.verify.copies import CopySelector, last_proven
from hubbackup.verify.job import CopyResult, VerifyFailedError, VerifyJob, VerifyResult
from hubbackup.verify.repair import RepairFailedError, RepairJob, RepairResult, remaining, repairable
from tests.support.backups import DUMP, manifest_of, put_file

KEY, STRANGER = SigningKey(b"k" * 64), SigningKey(b"s" * 64)
NAME = BackupName("hub", datetime(2026, 2, 1, 3))
DATA = gzip.compress(DUMP, mtime=0)
EVIL = gzip.compress(DUMP.replace(b"1\n2", b"3\n4"), mtime=0)
ROT = DATA[:-1] + b"!"
SINCE = datetime(2026, 1, 1, tzinfo=UTC)


class Place:
    """The disk and two buckets, with one backup in each, and what is kept of verifications."""

    def __init__(self, directory: Path) -> None:
        self.local = LocalStore(directory / "backups")
        self.local.directory.mkdir()
        self.s3, self.mirror = MemoryStore("s3", remote=True), MemoryStore("mirror", remote=True)
        self.scratch = directory / "scratch"
        self.history = History(directory / "verified.jsonl")
        trust = lambda: Trust(KEY, SINCE)  # noqa: E731
        self.targets: list[Target] = [
            LocalTarget("the disk", self.local, Policy(0), trust=trust),
            *(Target(one.name, one, Policy(0), trust=trust) for one in (self.s3, self.mirror)),
        ]
        for target in self.targets:
            put_file(target.store, str(NAME), DATA)
            put_file(target.store, NAME.manifest, manifest())

    def run(self) -> Run:
        return Run(
            "repair", "20260208T030000-1a2b3c", Cancel(), get_logger(), lambda what, total: nullcontext(silent)
        )

    def verify(self) -> VerifyResult:
        job = VerifyJob(
            choose=lambda run: CopySelector("", True).copies(self.targets, ZoneInfo("UTC"), "hub"),
            history=self.history,
            decode=True,
        )
        try:
            return job(self.run()).result
        except VerifyFailedError as error:
            return error.result

    def repair(self, found: VerifyResult | None = None) -> Outcome[RepairResult]:
        damaged = repairable(found or self.verify())
        return RepairJob(damaged, self.targets, self.scratch, self.history)(self.run())

    def get(self, store: str, file: str = str(NAME)) -> bytes:
        target = next(one for one in self.targets if one.name == store)
        with target.store.open(file) as stream:
            return stream.read()

    def put(self, store: str, file: str, data: bytes) -> None:
        next(one for one in self.targets if one.name == store).store.replace(file, data)

    def good_in(self) -> list[str]:
        (backup,) = list_backups(self.targets, ZoneInfo("UTC"), "hub")
        return [one.name for one in self.targets if backup.good_in(one.name)]

    def verdicts(self) -> dict[str, str]:
        return {one.copy.target.name: one.verdict for one in self.verify().copies}


def manifest(key: SigningKey | None = KEY, data: bytes = DATA, **changes: Any) -> bytes:
    made = manifest_of(NAME, data, **changes)
    return (made.signed(key) if key is not None else made).to_json()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


ALL = ["local", "s3", "mirror"]


@pytest.mark.parametrize("damage", [b"", b"half", DATA[:-1] + b"!", EVIL], ids=["empty", "cut", "a byte", "evil"])
@pytest.mark.parametrize("store", ALL)
def test_a_damaged_copy_is_made_good_again(place: Place, store: str, damage: bytes) -> None:
    """Whichever store it is in, from the first other one that has a good copy; the mark goes, and it is proven."""
    place.put(store, str(NAME), damage)
    found = place.verify()
    assert place.good_in() == [one for one in ALL if one != store]
    done = place.repair(found)
    source = "s3" if store == "local" else "local"
    assert [(one.name, one.store, one.source) for one in done.result.copies] == [(str(NAME), store, source)]
    assert done.facts()["repaired"] == [f"{store}:{NAME}"]
    assert place.get(store) == DATA
    assert place.good_in() == ALL
    assert set(place.verdicts().values()) == {"ok"}
    assert (store, str(NAME)) in last_proven(place.history)
    assert remaining(found, done.result, fail_unproven=False) is None


def test_a_copy_between_two_buckets(place: Place) -> None:
    """With a rotten disk as well, the mirror is healed from the first bucket, and the disk too; the download is
    thrown away."""
    place.put("local", str(NAME), b"rot")
    place.put("mirror", str(NAME), EVIL)
    done = place.repair()
    assert {(one.store, one.source) for one in done.result.copies} == {("local", "s3"), ("mirror", "local")}
    place.local.delete(str(NAME))
    place.local.delete(NAME.manifest)
    place.put("mirror", str(NAME), EVIL)
    done = place.repair()
    assert [(one.store, one.source) for one in done.result.copies] == [("mirror", "s3")]
    assert list(place.scratch.iterdir()) == []


@pytest.mark.parametrize("text", [b"", b"{", b"null"])
@pytest.mark.parametrize("store", ALL)
def test_a_damaged_manifest_is_made_good_again(place: Place, store: str, text: bytes) -> None:
    """The file is left alone where it is what was written."""
    place.put(store, NAME.manifest, text)
    place.repair()
    assert place.get(store, NAME.manifest) == manifest()
    assert place.good_in() == ALL


def test_a_lost_manifest_is_put_back(place: Place) -> None:
    """A file without one is a damaged copy, where another store has one of ours."""
    place.local.delete(NAME.manifest)
    assert [one.store for one in place.repair().result.copies] == ["local"]
    assert place.good_in() == ALL


@pytest.mark.parametrize("key", [STRANGER, None], ids=["signed by somebody", "not signed"])
def test_who_writes_to_a_bucket_gets_nothing_into_the_others(place: Place, key: SigningKey | None) -> None:
    """A file with a fitting manifest of theirs heals nothing, whatever else is damaged; ours replaces it."""
    place.put("s3", str(NAME), EVIL)
    place.put("s3", NAME.manifest, manifest(key, EVIL))
    place.put("local", str(NAME), b"rot")
    done = place.repair()
    assert {(one.store, one.source) for one in done.result.copies} == {("local", "mirror"), ("s3", "local")}
    assert {place.get(store) for store in ALL} == {DATA}
    assert {place.get(store, NAME.manifest) for store in ALL} == {manifest()}


def test_without_a_word_of_ours_nothing_is_healed(place: Place) -> None:
    """No store has a manifest under our signature: what is there stays byte for byte, and it is said."""
    for store in ALL:
        place.put(store, NAME.manifest, manifest(None))
    place.put("local", str(NAME), b"rot")
    before = [place.get(store) for store in ALL]
    with pytest.raises(RepairFailedError, match="could not be repaired") as caught:
        place.repair(VerifyResult((bad(place, "local"),)))
    assert "no store has a manifest of it that is signed as ours" in str(caught.value)
    assert [place.get(store) for store in ALL] == before


def test_another_backups_manifest_is_not_this_ones(place: Place) -> None:
    """One of ours for another night, put beside this name, says nothing of it."""
    other = BackupName("hub", datetime(2026, 2, 2, 3))
    place.put("s3", NAME.manifest, manifest_of(other, EVIL).signed(KEY).to_json())
    place.put("s3", str(NAME), EVIL)
    place.repair()
    assert place.get("s3") == DATA
    assert place.get("local") == DATA


def test_no_good_copy_anywhere(place: Place) -> None:
    """Each is named with what is wrong with it; nothing is touched, the marks stay."""
    for number, store in enumerate(ALL):
        place.put(store, str(NAME), b"rot%d" % number)
    with pytest.raises(RepairFailedError) as caught:
        place.repair()
    assert len(caught.value.result.left) == 3
    assert "no other store has a good copy (in s3: " in str(caught.value)
    assert [place.get(store) for store in ALL] == [b"rot0", b"rot1", b"rot2"]
    assert place.good_in() == []


def test_what_is_as_it_was_written_is_not_replaced(place: Place) -> None:
    """A dump that never was one, and was only hashed when it was made: every copy is the same."""
    data = gzip.compress(b"no dump", mtime=0)
    for store in ALL:
        place.put(store, str(NAME), data)
        place.put(store, NAME.manifest, manifest(data=data, verified="hash", plain_bytes=7))
    with pytest.raises(RepairFailedError, match="byte for byte, what was written"):
        place.repair()


def test_a_block_that_the_disk_can_not_give_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO, as a rotten sector or a file system with checksums says it, is damage too: written anew, it is read."""
    rotten = (place.local.directory / str(NAME)).stat().st_ino

    def open_(self: LocalStore, name: str, **part: Any) -> AbstractContextManager[BinaryIO]:
        if (self.directory / name).stat().st_ino == rotten:
            raise StoreError("could not give back the bytes") from OSError(errno.EIO, "Input/output error")
        return whole(self, name, **part)

    whole = LocalStore.open
    monkeypatch.setattr(LocalStore, "open", open_)
    assert place.verdicts()["local"] == "unread"
    assert [(one.store, one.source) for one in place.repair().result.copies] == [("local", "s3")]
    assert place.verdicts()["local"] == "ok"


def test_a_bucket_that_does_not_answer_is_no_damage(place: Place) -> None:
    """What could not be read is not replaced; what the others lack is healed without it."""
    place.put("local", str(NAME), b"rot")

    def fail(name: str, **part: Any) -> AbstractContextManager[BinaryIO]:
        raise StoreError("no answer")

    place.s3.open = fail  # type: ignore[method-assign]
    found = place.verify()
    assert [one.copy.target.name for one in repairable(found)] == ["local"]
    assert [(one.store, one.source) for one in place.repair(found).result.copies] == [("local", "mirror")]


class Killed(BaseException):
    """The process is gone: nothing after this is done by it."""


def test_killed_at_any_point_nothing_is_worse_than_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after each step that changes a store, of a repair of the disk and of both buckets: what was good is
    good, what was damaged is as it was or good, nothing counts that is not whole; the next repair makes it good."""
    steps = [(store, step) for store in (LocalStore, MemoryStore) for step in ("create", "replace", "delete")]
    steps += [(kind, step) for kind in (LocalDraft, MemoryDraft) for step in ("write", "commit", "abort")]
    for damaged, after in itertools.product((["s3"], ["local", "mirror"]), (False, True)):
        for at in itertools.count(1):
            place = make(tmp_path, damaged, after, at)
            found = place.verify()
            with monkeypatch.context() as patched:
                reached = kill_at(patched, steps, at, after)
                with suppress(Killed):
                    place.repair(found)
                ended = not reached()
            states = {store: place.get(store) for store in ALL}
            for store in ALL:
                assert states[store] == DATA or (store in damaged and states[store] == ROT)
            good = place.good_in()
            assert set(ALL) - set(damaged) <= set(good)
            assert all(states[store] == DATA for store in good)
            if ended:
                assert good == ALL
                assert at > 5
                break
            with_leftovers = place.verify()
            if repairable(with_leftovers):
                place.repair(with_leftovers)
            assert place.good_in() == ALL
            assert {path.name for path in place.local.directory.iterdir()} == {str(NAME), NAME.manifest}


def make(tmp_path: Path, damaged: list[str], after: bool, at: int) -> Place:
    directory = tmp_path / f"{'-'.join(damaged)}-{after}-{at}"
    directory.mkdir()
    place = Place(directory)
    for store in damaged:
        place.put(store, str(NAME), ROT)
    return place


def kill_at(patched: pytest.MonkeyPatch, steps: list[tuple[type, str]], at: int, after: bool) -> Callable[[], bool]:
    """The `at`th of these steps, counted together, kills before or after it; each later one does nothing any more."""
    done = itertools.count(1)
    dead: list[int] = []

    def wrapped(step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if dead:
                return None  # a killed process tidies nothing up
            number = next(done)
            if number == at and not after:
                dead.append(at)
                raise Killed
            answer = step(*arguments, **options)
            if number == at and not dead:
                dead.append(at)
                raise Killed
            return answer

        return call

    for kind, name in steps:
        patched.setattr(kind, name, wrapped(getattr(kind, name)))
    return lambda: bool(dead)


def bad(place: Place, store: str) -> CopyResult:
    one = next(one for one in place.verify().copies if one.copy.target.name == store)
    return replace(one, verdict="bad", problem="its bytes changed")


def test_the_room_is_looked_at_first(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk the damaged copy stays, and the room that is lacking is told."""
    place.put("local", str(NAME), b"rot")
    found = place.verify()
    monkeypatch.setattr(LocalStore, "free_bytes", lambda self: 1000)
    with pytest.raises(RepairFailedError, match="1,000 free"):
        place.repair(found)
    assert place.get("local") == b"rot"


def test_a_mark_that_anybody_may_put_changes_nothing(place: Place) -> None:
    """`.bad` beside a whole copy in a bucket: verification takes it away, and nothing is repaired."""
    put_mark(place.s3, NAME, Mark.BAD, why="said who?", now=datetime.now(UTC))
    assert repairable(place.verify()) == []
    assert place.good_in() == ALL


def test_a_signed_manifest_of_other_bytes_stops_it(place: Place) -> None:
    """Two of ours that differ for one name (two servers with one key): neither is believed."""
    place.put("s3", NAME.manifest, manifest(data=EVIL))
    place.put("local", str(NAME), b"rot")
    with pytest.raises(RepairFailedError, match="are both ours, and differ"):
        place.repair()
    assert place.get("local") == b"rot"
