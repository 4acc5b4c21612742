"""The snapshot: what it gathers, what it survives, what it does not ask twice."""

from __future__ import annotations

import tracemalloc
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import pytest
import structlog

from hubbackup.catalog.target import Policy
from hubbackup.errors import EngineError, StoppedError
from hubbackup.retention.forecast import removals
from hubbackup.retention.policy import Candidate
from hubbackup.status.collect import REMEMBERED_BYTES, Collector
from hubbackup.status.snapshot import Aside, KeptDatabase
from hubbackup.web.cache import SnapshotCache
from tests.support.backups import archived, silence
from tests.support.hub_chantier import CANARY, NOW, STOPPED_CONTAINER, Site, a_month

DAY = timedelta(days=1)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_month_is_told_whole(tmp_path: Path) -> None:
    """Backups of both stores are merged, runs and drills come from the history, the newest first."""
    snapshot = a_month(tmp_path).snapshot()
    assert len(snapshot.in_store("local")) == 7
    assert len(snapshot.in_store("s3")) == 30
    assert len(snapshot.backups) == 30
    assert snapshot.backups[0].name == "hub_chantier_backup_20260208_030000.sql.gz"
    assert snapshot.backups[0].good_in == ("local", "s3")
    assert [run.result for run in snapshot.runs_of("backup")].count("failed") == 1
    assert [run.rto_seconds for run in snapshot.runs_of("drill")] == [43.2, 41.8]
    assert snapshot.last_run("backup") == snapshot.runs[0]
    assert all(run.cause == STOPPED_CONTAINER for run in snapshot.runs if run.result == "failed")


def test_no_secret_is_in_it(tmp_path: Path) -> None:
    """Role passwords and whatever else a manifest carries stay in the manifest."""
    assert CANARY not in str(asdict(a_month(tmp_path, days=3).snapshot()))


def test_a_store_that_fails_is_a_fact(site: Site) -> None:
    """S3 down: the local backups are told, and the store with its error and remedy; no exception."""
    site.add_backup(NOW - DAY)
    site.s3.down = "could not list: access denied"
    snapshot = site.collector().take(NOW)
    local, s3 = snapshot.stores
    assert (s3.problem, local.problem) == ("could not list: access denied", "")
    assert s3.remedy.startswith("check AWS")
    assert snapshot.backups[0].good_in == ("local",)
    site.s3.down = ""
    assert site.collector().take(NOW).backups[0].good_in == ("local", "s3")


def test_a_store_that_fails_in_the_middle_is_left_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing that works, and then no answer: the other store's backups are told all the same."""
    site.add_backup(NOW - 2 * DAY, stores=("s3",))
    site.add_backup(NOW - DAY)

    def fail(name: str, **part: int | None) -> None:
        raise silence()

    monkeypatch.setattr(site.s3, "open", fail)
    snapshot = site.collector().take(NOW)
    assert [store.problem for store in snapshot.stores] == ["", str(silence())]
    assert [backup.good_in for backup in snapshot.backups] == [("local",)]


def test_a_manifest_that_can_not_be_read_is_a_fact_about_one_backup(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Archived by a rule of the bucket: that backup has a problem, its store has none, and the others are good."""
    frozen = site.add_backup(NOW - 2 * DAY, stores=("s3",))
    site.add_backup(NOW - DAY, stores=("s3",))
    opened = site.s3.open

    def give(name: str, **part: int | None) -> AbstractContextManager[BinaryIO]:
        if name.startswith(frozen.removesuffix(".sql.gz")):
            raise archived()
        return opened(name, **part)

    monkeypatch.setattr(site.s3, "open", give)
    snapshot = site.collector().take(NOW)
    assert [store.problem for store in snapshot.stores] == ["", ""]
    assert [backup.good_in for backup in snapshot.backups] == [("s3",), ()]
    assert "InvalidObjectState" in snapshot.backups[1].problem


def test_a_missing_directory_is_a_fact(tmp_path: Path) -> None:
    """Without the local directory S3 is told; where both fail, there is still a snapshot."""
    site = Site(tmp_path / "absent")
    site.add_backup(NOW - DAY, stores=("s3",), record=False)
    snapshot = site.collector().take(NOW)
    assert "does not exist" in snapshot.stores[0].problem
    assert snapshot.backups[0].good_in == ("s3",)
    site.s3.down = "gone"
    assert all(store.problem for store in site.collector().take(NOW).stores)


def test_manifests_are_read_once(site: Site) -> None:
    """Looking again costs S3 one listing; a manifest that was replaced is read anew."""
    name = site.add_backup(NOW - DAY, stores=("s3",))
    collector = site.collector()
    for _ in range(3):
        assert collector.take(NOW).backups[0].good
    assert (len(site.s3.opened), site.s3.listed) == (1, 3)
    manifest = name.replace(".sql.gz", ".manifest.json")
    site.s3.files[manifest] = (3, b"{}\n")
    assert not collector.take(NOW).backups[0].good


def test_large_manifests_are_read_once_too(site: Site) -> None:
    """Manifests of 10,000 tables cost S3 one request each, once, and next to no memory after that; so do
    those that make no sense. Their facts are told whole."""
    rows = {f"public.a_table_with_quite_a_long_name_{number}": number for number in range(10_000)}
    names = [site.add_backup(NOW - day * DAY, stores=("s3",), rows=rows, record=False) for day in range(1, 26)]
    _, large = site.s3.files[names[0].replace(".sql.gz", ".manifest.json")]
    assert 25 * len(large) > REMEMBERED_BYTES
    broken = names[-1].replace(".sql.gz", ".manifest.json")
    site.s3.files[broken] = (len(large) - 2, large[:-2])
    collector = site.collector()
    tracemalloc.start()
    try:
        first = collector.take(NOW)
        read = list(site.s3.opened)
        second = collector.take(NOW)
        held_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert sorted(read) == sorted(name.replace(".sql.gz", ".manifest.json") for name in names)
    assert site.s3.opened == read
    assert first.backups == second.backups
    assert [backup.rows for backup in second.backups] == [*[sum(rows.values())] * 24, None]
    assert "is not valid" in second.backups[-1].problem
    assert held_bytes < 2 << 20


def test_unproven_and_suspicious_ones_are_told_apart(site: Site) -> None:
    """No manifest is a problem, a warning in it is a warning, and a file of the wrong size is not good there."""
    site.add_backup(NOW - 3 * DAY, proven=False)
    site.add_backup(NOW - 2 * DAY, warnings=("half as large",))
    name = site.add_backup(NOW - DAY)
    site.s3.files[name] = (1, b"")
    newest, suspicious, unproven = site.collector().take(NOW).backups
    assert (newest.good_in, newest.not_good_in) == (("local",), ("s3",))
    assert suspicious.warnings == ("half as large",)
    assert unproven.problem == "it has no manifest"
    assert not unproven.good


def test_runs_are_counted_from_the_start_and_never_fall(site: Site) -> None:
    """Older runs are not counted, new ones once, and a trimmed history takes none away."""
    site.add_failure(NOW - 3 * DAY)
    collector = site.collector()
    assert collector.take(NOW).tally == {}
    site.add_failure(NOW - 2 * DAY)
    site.add_backup(NOW - DAY)
    for _ in range(2):
        assert collector.take(NOW).tally == {("backup", "failed"): 1, ("backup", "success"): 1}
    (site.local.directory / ".hubbackup" / "history.jsonl").unlink()
    assert collector.take(NOW).tally == {("backup", "failed"): 1, ("backup", "success"): 1}


def test_a_damaged_history_is_passed_over(site: Site) -> None:
    """Lines of a wrong shape are left out, the others told."""
    path = site.local.directory / ".hubbackup" / "history.jsonl"
    site.add_backup(NOW - DAY)
    lines = [
        '{"kind": 1, "run_id": [], "started_at": "never", "seconds": 1, "exit_code": 0}',
        '{"kind": "backup", "run_id": "x", "started_at": "2026-02-07T03:00:00", "seconds": 1, "exit_code": 0}',
        '{"kind": "drill", "run_id": "y", "started_at": "2026-02-07T03:00:00Z", "seconds": 1, "exit_code": 0,'
        ' "rto_seconds": "fast", "problems": 7, "name": null}',
    ]
    path.write_text(path.read_text() + "\n".join(lines) + "\ntorn")
    runs = site.collector().take(NOW).runs
    assert sorted(run.kind for run in runs) == ["backup", "drill"]
    assert [run.rto_seconds for run in runs if run.kind == "drill"] == [None]


def test_the_outlook_plays_the_runs_through() -> None:
    """Each backup goes with the first run whose plan lets it go, the newest good one only when another follows."""
    start = datetime(2026, 2, 8, 3, tzinfo=UTC)
    nights = [Candidate(f"night {age}", start - age * DAY, good=True) for age in (2, 1, 0)]
    runs = [start + n * DAY for n in range(1, 6)]
    gone = removals(nights, Policy(days=2), runs)
    assert [(one.name, one.at) for one in gone] == [
        ("night 2", runs[0]),
        ("night 1", runs[1]),
        ("night 0", runs[2]),
    ]
    assert gone[0].reason == "3.0 days old, the policy keeps 2"
    assert removals(nights, Policy(days=0), runs) == []
    locked = [replace(one, locked_until=runs[3]) for one in nights]
    assert [one.at for one in removals(locked, Policy(days=2), runs)] == [runs[3]] * 3
    kept = removals([*nights, Candidate("pinned", start - 9 * DAY, good=True, pinned=True)], Policy(days=2), runs)
    assert "pinned" not in {one.name for one in kept}


def test_the_outlook_of_a_month(tmp_path: Path) -> None:
    """With 7 and 30 days, each coming night takes the one of 8 and of 31 nights before."""
    first = [one for one in a_month(tmp_path).snapshot().leaving if one.at == datetime(2026, 2, 9, 2, tzinfo=UTC)]
    assert [(one.store, one.name) for one in first] == [
        ("s3", "hub_chantier_backup_20260109_030000.sql.gz"),
        ("local", "hub_chantier_backup_20260201_030000.sql.gz"),
    ]


def test_the_board_refreshes_when_a_run_ends(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of any process shows within a glance, and a collector that crashes leaves the snapshot before it."""
    monkeypatch.setattr("hubbackup.web.cache.GLANCE_SECONDS", 0.01)
    collector, failing = site.collector(), []

    def take(now: datetime) -> object:
        if failing:
            raise failing[0]
        return collector.take(now)

    cache = SnapshotCache(take, site.history.stamp, structlog.stdlib.get_logger())  # type: ignore[arg-type]
    cache.start()
    wait_until(lambda: cache.current is not None)
    site.add_backup(NOW - DAY)
    wait_until(lambda: bool(cache.current and cache.current.backups))
    failing.append(RuntimeError("a bug"))
    site.add_backup(NOW)
    wait_until(lambda: cache._thread.is_alive())
    assert cache.current
    failing[0] = StoppedError()
    site.add_backup(NOW + DAY)
    cache._thread.join(5)
    assert not cache._thread.is_alive()


def wait_until(condition: object, seconds: float = 10) -> None:
    import time

    until = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.01)


def test_the_server_is_asked_after_each_run_and_each_hour(tmp_path: Path) -> None:
    """Not at each look: it starts a command in the database's container. What it can't answer is a fact."""
    site = Site(tmp_path)
    asked: list[int] = []

    def ask() -> tuple[KeptDatabase, ...]:
        asked.append(1)
        if len(asked) > 2:
            raise EngineError("the Docker engine does not answer")
        return (KeptDatabase("hub_before", 5, "before"),)

    collector = Collector(replace(site.collector()._scope, aside=ask))
    for minutes in (0, 5, 59):
        assert collector.take(NOW + timedelta(minutes=minutes)).aside == Aside(
            (KeptDatabase("hub_before", 5, "before"),)
        )
    assert len(asked) == 1
    site.add_backup(NOW)
    collector.take(NOW + timedelta(minutes=59))
    assert len(asked) == 2
    assert collector.take(NOW + timedelta(hours=2)).aside == Aside(problem="the Docker engine does not answer")
    assert len(asked) == 3
