"""Reading copies again: which are due, what each showed, and what follows from it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, cast
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbackup.catalog.backup import BackupName, Mark
from hubbackup.catalog.listing import scan
from hubbackup.catalog.origin import SigningKey, Trust
from hubbackup.catalog.target import Target
from hubbackup.errors import NotFoundError, StoreError, UsageError
from hubbackup.jobs.history import History
from hubbackup.jobs.progress import silent
from hubbackup.jobs.run import Outcome, Run
from hubbackup.logs.setup import get_logger
from hubbackup.stores.memory import MemoryStore
from hubbackup.streams.cancel import Cancel
from hubbackup.verify.copies import (
    Budget,
    Copy,
    CopySelector,
    Selection,
    copies_of,
    due,
    due_copies,
    last_proven,
)
from hubbackup.verify.job import VerifyFailedError, VerifyJob, VerifyResult
from tests.support.backups import FaultyStore, archived, manifest_of, put_backup, silence, target_of

ZONE = ZoneInfo("UTC")
NOW = datetime(2026, 2, 8, 12, tzinfo=UTC)
START = datetime(2026, 2, 1, 3)


def run() -> Run:
    return Run("verify", "20260208T030000-1a2b3c", Cancel(), get_logger(), lambda what, total: nullcontext(silent))


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "verified.jsonl")


@pytest.fixture
def stores() -> list[MemoryStore]:
    """The same three nights in both stores."""
    both = [MemoryStore("local"), MemoryStore("s3")]
    for store in both:
        for days in range(3):
            put_backup(store, "hub", START + timedelta(days=days))
    return both


def targets(stores: Sequence[MemoryStore]) -> list[Target]:
    return [target_of(store) for store in stores]


def names(store: MemoryStore) -> list[BackupName]:
    return [one.name for one in scan([store])]


def flip(store: MemoryStore, name: BackupName) -> None:
    data = bytearray(store.files[str(name)])
    data[len(data) // 2] ^= 1
    store.files[str(name)] = bytes(data)


def verify(
    history: History, stores: list[MemoryStore], wanted: CopySelector, **options: Any
) -> Outcome[VerifyResult]:
    job = VerifyJob(
        choose=lambda run: wanted.copies(targets(stores), ZONE, ["hub"]),
        history=history,
        decode=True,
        read_unproven=bool(wanted.name),
    )
    return job(run())


def copy(age_days: float, size: int = 10, **facts: Any) -> Copy:
    name = BackupName("hub", (NOW - timedelta(days=age_days)).replace(tzinfo=None, microsecond=0))
    values = {"published": True, "marked_bad": False, "read_at": NOW - timedelta(days=age_days)} | facts
    return Copy(name, target_of(MemoryStore("local")), size, **values)


def chosen(copies: Sequence[Copy], budget_bytes: int, now: datetime, last_read_at: datetime | None) -> list[Copy]:
    """Those that are read on that day, where each is whole."""
    budget, found = Budget.of(budget_bytes, now, last_read_at), []
    for one in due(copies, now):
        if not budget.admits(one):
            break
        budget.spend(one.size_bytes)
        found.append(one)
    return found


def verify_due(history: History, read: Sequence[Target], budget_bytes: int, now: datetime) -> Outcome[VerifyResult]:
    """The daily verification."""
    job = VerifyJob(
        lambda run: due_copies(read, ZONE, history, budget_bytes, now), history, decode=False, now=lambda: now
    )
    return job(run())


# -- what is due


def test_the_oldest_are_read_within_the_budget() -> None:
    """Those read longest ago first, and no byte more than the budget."""
    old, older, oldest = copy(2), copy(3), copy(4)
    assert chosen([old, oldest, older], 20, NOW, None) == [oldest, older]
    assert chosen([old, oldest, older], 29, NOW, None) == [oldest, older]
    assert chosen([old, oldest, older], 30, NOW, None) == [oldest, older, old]
    assert chosen([old], 0, NOW, None) == []


def test_what_is_fresh_bad_or_unproven_is_not_read() -> None:
    """A backup of this night was read back when it was made; a damaged one is known."""
    assert chosen([copy(0.3), copy(5, published=False), copy(5, marked_bad=True)], 100, NOW, None) == []


def test_a_copy_larger_than_the_budget_is_read_when_the_days_have_saved_up_for_it() -> None:
    """No copy is too large to be read, and over time the budget holds."""
    large, small = copy(9, size=50), copy(2)
    assert chosen([large, small], 10, NOW, None) == [large]
    assert chosen([large, small], 10, NOW, NOW - timedelta(days=4)) == []
    assert chosen([large, small], 10, NOW, NOW - timedelta(days=5)) == [large]


@given(
    st.lists(st.builds(copy, st.floats(0.6, 400), st.integers(0, 100)), max_size=20),
    st.integers(0, 300),
)
def test_the_budget_holds_and_nothing_newer_goes_before(copies: list[Copy], budget: int) -> None:
    """Either within the budget, or one large copy alone; and those chosen are the oldest."""
    read = chosen(copies, budget, NOW, None)
    assert sum(one.size_bytes for one in read) <= budget or len(read) == 1
    left = [one for one in copies if one not in read]
    assert all(one.read_at <= other.read_at for one in read for other in left)


def test_every_copy_has_its_turn(history: History, stores: list[MemoryStore]) -> None:
    """Day after day, with a budget for one copy, each is read once before any is read twice."""
    size = next(scan(stores)).copies["local"].size_bytes
    read = []
    for day in range(6):
        result = verify_due(history, targets(stores), size, NOW + timedelta(days=day)).result
        read += [(one.copy.target.name, str(one.copy.name)) for one in result.copies]
    assert len(read) == len(set(read)) == 6


@pytest.mark.parametrize("budget_copies", [1, 2])
def test_foreign_copies_take_nobodys_turn(history: History, budget_copies: int) -> None:
    """Backups of a server of before, or planted ones, are the oldest forever, and may be larger than the budget:
    ours are read every day all the same, as many as fit, and it is told what was not read."""
    key = SigningKey(b"ours")
    store = MemoryStore("s3", remote=True)
    foreign = [put_backup(store, "hub", START - timedelta(days=days)) for days in (300, 200, 100)]
    good = [put_backup(store, "hub", START + timedelta(days=days)) for days in range(4)]
    for name in good:
        store.files[name.manifest] = manifest_of(name, store.files[str(name)]).signed(key).to_json()
    store.files[str(foreign[0])] += bytes(10_000)
    size = len(store.files[str(good[0])])
    since = START.replace(tzinfo=UTC) - timedelta(days=365)
    target = replace(target_of(store), trust=lambda: Trust(key, since))
    read: list[str] = []
    for day in range(4 // budget_copies):
        outcome = verify_due(history, [target], size * budget_copies, NOW + timedelta(days=day))
        read += [str(one.copy.name) for one in outcome.result.copies if one.verdict == "ok"]
        assert outcome.facts()["foreign"] == [str(name) for name in foreign]
        assert outcome.message == f"verify finished: {budget_copies} copies are whole, 3 are not known to be ours"
    assert read == [str(name) for name in good]


def test_what_can_not_be_read_takes_nobodys_turn(history: History) -> None:
    """A manifest that a rule has archived, or one that is gone since the listing: the next copy is read."""
    odd = FaultyStore()
    frozen, good = (put_backup(odd, "hub", START + timedelta(days=days)) for days in range(2))
    odd.faults[frozen.manifest] = archived()
    with pytest.raises(VerifyFailedError, match="1 copies could not be read") as failure:
        verify_due(history, [target_of(odd)], len(odd.files[str(good)]), NOW)
    found = [(str(one.copy.name), one.verdict) for one in failure.value.result.copies]
    assert found == [(str(frozen), "unread"), (str(good), "ok")]


class Torn(MemoryStore):
    """Each file breaks off behind its first half."""

    def open(self, name: str, **part: Any) -> AbstractContextManager[BinaryIO]:
        if name.endswith(".gz"):
            return nullcontext(cast(BinaryIO, Half(self.files[name])))
        return super().open(name, **part)


class Half:
    def __init__(self, data: bytes) -> None:
        self.pieces = [data[: len(data) // 2]]

    def read(self, size: int) -> bytes:
        if not self.pieces:
            raise StoreError("the connection ended too early", transient=True)
        return self.pieces.pop()


def test_what_breaks_off_was_read_all_the_same(history: History) -> None:
    """Behind a bad connection the budget bounds what is downloaded, too: of copies that all break off half-way it
    pays for a few, not for the whole bucket."""
    torn = Torn("s3", remote=True)
    made = [put_backup(torn, "hub", START + timedelta(days=days)) for days in range(6)]
    with pytest.raises(VerifyFailedError) as failure:
        verify_due(history, [target_of(torn)], 2 * len(torn.files[str(made[0])]), NOW)
    found = [(str(one.copy.name), one.verdict) for one in failure.value.result.copies]
    assert found == [(str(name), "unread") for name in made[:3]], "a half, two halves, and one that still fits"


class ReadOnly(MemoryStore):
    """A disk that has gone read-only, or a bucket whose key may only read: no mark can be put."""

    def replace(self, name: str, *arguments: Any, **options: Any) -> None:
        raise StoreError(f"could not put {name}: it is read-only")

    def create(self, name: str, *arguments: Any, **options: Any) -> Any:
        raise StoreError(f"could not put {name}: it is read-only")


def test_a_damaged_copy_that_can_not_be_marked_waits_for_its_next_turn(history: History) -> None:
    """It is read first, and named; on the next days the others are read, though it counts as whole no later."""
    store, made = ReadOnly("local"), MemoryStore("local")
    damaged, *good = (put_backup(made, "hub", START + timedelta(days=days)) for days in range(3))
    store.files = made.files
    flip(store, damaged)
    size = len(store.files[str(damaged)])
    with pytest.raises(VerifyFailedError, match=f"{damaged} is damaged"):
        verify_due(history, [target_of(store)], size, NOW)
    read = []
    for day in (1, 2):
        result = verify_due(history, [target_of(store)], size, NOW + timedelta(days=day)).result
        read += [str(one.copy.name) for one in result.copies]
    assert read == [str(name) for name in good]
    with pytest.raises(VerifyFailedError, match=f"{damaged} is damaged"):
        verify_due(history, [target_of(store)], size, NOW + timedelta(days=3))


def test_a_silent_store_is_asked_once_a_day(history: History, stores: list[MemoryStore]) -> None:
    """The copies of the others have their turn."""
    down = FaultyStore()
    down.files = dict(stores[1].files)
    down.faults = dict.fromkeys(down.files, silence())
    with pytest.raises(VerifyFailedError, match="1 copies could not be read") as failure:
        verify_due(history, targets([stores[0], down]), 1 << 20, NOW)
    assert sorted(one.verdict for one in failure.value.result.copies) == ["ok"] * 3 + ["unread"]
    assert len(down.asked) == 1


# -- what reading shows


def test_good_copies_are_proven_and_recorded(history: History, stores: list[MemoryStore]) -> None:
    """`--all` reads every copy in every store, and each has its line in the history."""
    outcome = verify(history, stores, CopySelector(everything=True))
    assert outcome.facts()["verified"] == 6
    assert {one.verdict for one in outcome.result.copies} == {"ok"}
    assert len(last_proven(history)) == 6


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("store", [0, 1])
def test_a_flipped_bit_is_found_and_marked(
    history: History, stores: list[MemoryStore], store: int, decode: bool
) -> None:
    """The run fails and names the copy and its store; that copy counts no more, the other store's still does."""
    damaged = names(stores[store])[1]
    flip(stores[store], damaged)
    job = VerifyJob(lambda run: CopySelector(everything=True).copies(targets(stores), ZONE, ["hub"]), history, decode)
    with pytest.raises(VerifyFailedError, match=f"{damaged} is damaged.*in {stores[store].name}:") as failure:
        job(run())
    assert (failure.value.kind, failure.value.exit_code) == ("NotProvenError", 1)
    found = failure.value.result.copies
    assert [(str(one.copy.name), one.copy.target.name) for one in found if one.verdict == "bad"] == [
        (str(damaged), stores[store].name)
    ]
    assert len(found) == 6
    assert damaged.mark(Mark.BAD) in stores[store].files
    assert damaged.mark(Mark.BAD) not in stores[1 - store].files
    assert (stores[store].name, str(damaged)) not in last_proven(history)


def test_every_bad_one_is_named(history: History, stores: list[MemoryStore]) -> None:
    """One damaged copy does not hide the next."""
    for one in names(stores[0])[:2]:
        flip(stores[0], one)
    with pytest.raises(VerifyFailedError) as failure:
        verify(history, stores, CopySelector(everything=True))
    assert all(str(one) in str(failure.value) for one in names(stores[0])[:2])


def test_a_copy_that_is_whole_again_loses_its_mark(history: History, stores: list[MemoryStore]) -> None:
    """A bad cable, not a bad disk: what proves whole counts again."""
    name = names(stores[0])[0]
    stores[0].files[name.mark(Mark.BAD)] = b""
    verify(history, stores, CopySelector(str(name)))
    assert name.mark(Mark.BAD) not in stores[0].files


def test_an_unproven_file_is_told_but_no_failure_of_the_others(history: History, stores: list[MemoryStore]) -> None:
    """With --all it is named; asked for by its name, it is a failure, whole or not."""
    name = names(stores[0])[0]
    for store in stores:
        store.delete(name.manifest)
    outcome = verify(history, stores, CopySelector(everything=True))
    assert outcome.facts()["unproven"] == [str(name)] * 2
    assert outcome.exit_code == 0
    with pytest.raises(VerifyFailedError, match="is unproven"):
        verify(history, stores, CopySelector(str(name)))
    stores[0].files[str(name)] = stores[0].files[str(name)][:-9]
    with pytest.raises(VerifyFailedError, match="is damaged"):
        verify(history, stores, CopySelector(str(name)))


def test_the_latest_is_the_newest_with_a_manifest(history: History, stores: list[MemoryStore]) -> None:
    """Each of its copies is read."""
    outcome = verify(history, stores, CopySelector())
    assert [(one.copy.target.name, one.copy.name) for one in outcome.result.copies] == [
        ("local", names(stores[0])[-1]),
        ("s3", names(stores[0])[-1]),
    ]


def test_a_store_that_does_not_answer_damages_nothing(history: History, stores: list[MemoryStore]) -> None:
    """No mark, no verdict on the copies; the store is not asked for each one, and the run fails."""
    down = FaultyStore()
    down.files = dict(stores[1].files)
    down.faults = dict.fromkeys(down.files, silence())
    job = VerifyJob(
        lambda run: CopySelector(everything=True).copies(targets([stores[0], down]), ZONE, ["hub"]), history, True
    )
    with pytest.raises(VerifyFailedError, match="3 copies could not be read") as failure:
        job(run())
    assert failure.value.kind == "StoreError"
    assert sorted(one.verdict for one in failure.value.result.copies) == ["ok"] * 3 + ["unread"] * 3
    assert len(down.asked) == 1
    assert not any(name.endswith(".bad") for name in down.files)


def test_one_copy_that_can_not_be_read_is_a_fact_about_it(history: History, stores: list[MemoryStore]) -> None:
    """Its manifest archived by a rule of the bucket: every other copy is read, in that store too; the run says so."""
    odd = FaultyStore()
    odd.files = dict(stores[1].files)
    frozen = names(odd)[0]
    odd.faults[frozen.manifest] = archived()
    with pytest.raises(VerifyFailedError, match=r"1 copies could not be read.*InvalidObjectState") as failure:
        verify(history, [stores[0], odd], CopySelector(everything=True))
    unread = [str(one.copy.name) for one in failure.value.result.copies if one.verdict != "ok"]
    assert unread == [str(frozen)]


@pytest.mark.parametrize("everything", [True, False])
def test_a_store_without_a_list_leaves_the_others(
    history: History, stores: list[MemoryStore], everything: bool
) -> None:
    """S3 can't be listed: what is on the disk is read, and the run fails with the reason."""
    odd = FaultyStore()
    odd.unlisted = StoreError("could not list the objects: AccessDenied")
    with pytest.raises(VerifyFailedError, match=r"the copies in s3 are not read: .*AccessDenied") as failure:
        verify(history, [stores[0], odd], CopySelector(everything=everything))
    assert [one.verdict for one in failure.value.result.copies] == ["ok"] * (3 if everything else 1)


def test_what_is_pruned_meanwhile_is_passed_over(history: History, stores: list[MemoryStore]) -> None:
    """A long reading holds up no prune."""
    copies = copies_of(scan(stores), targets(stores), ZONE, {})
    for part in [one for one in stores[0].files if one.startswith(copies[0].name.stem)]:
        stores[0].delete(part)
    job = VerifyJob(lambda run: Selection(copies), history, decode=True)
    outcome = job(run())
    assert outcome.facts()["verified"] == 5
    assert outcome.result.copies[0].verdict == "gone"


@pytest.mark.parametrize("name", ["../etc/passwd", "hub_backup_20260201_030000.sql.gz\n", "notes.txt"])
def test_a_name_that_is_none_is_bad_usage(history: History, stores: list[MemoryStore], name: str) -> None:
    """Nothing is asked of a store."""
    with pytest.raises(UsageError):
        verify(history, stores, CopySelector(name))
    with pytest.raises(NotFoundError):
        verify(history, stores, CopySelector("hub_backup_19990101_030000.sql.gz"))


def test_a_stop_is_heard(history: History, stores: list[MemoryStore]) -> None:
    """A signal ends the reading within a chunk."""
    working = run()
    working.cancel.set()
    clock = time.monotonic()
    job = VerifyJob(lambda run: CopySelector(everything=True).copies(targets(stores), ZONE, ["hub"]), history, True)
    with pytest.raises(Exception, match="stopped by a signal"):
        job(working)
    assert time.monotonic() - clock < 2
