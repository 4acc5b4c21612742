"""An upload that takes longer than the dump: what gets on goes on, and what is given up publishes nothing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from hubbackup.backup.upload import Upload
from hubbackup.catalog.backup import BackupName, Manifest
from hubbackup.errors import StoppedError, StoreError
from hubbackup.jobs.progress import silent
from hubbackup.jobs.run import Run
from hubbackup.logs.setup import get_logger
from hubbackup.stores import Entry, Store
from hubbackup.stores.memory import MemoryDraft, MemoryStore
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.growing_file import GrowingFile
from tests.support import proxy as faults
from tests.support.backups import manifest_of, target_of
from tests.support.proxy import Exchange, FaultProxy
from tests.support.s3 import QUICK, S3Server

NAME = BackupName("hub", datetime(2026, 2, 8, 3))
DATA = os.urandom(60_000)
"""Seven parts, and a rest."""
HALF_AN_HOUR = 1800.0


@pytest.fixture(scope="module")
def proxy(s3: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(s3.endpoint_url) as running:
        yield running


@pytest.fixture
def run() -> Run:
    return Run("backup", "20260208T030000-1a2b3c", Cancel(), get_logger(), lambda what, total: nullcontext(silent))


def manifest() -> Manifest:
    return manifest_of(NAME, DATA)


def upload_to(store: Store, run: Run, directory: Path) -> Upload:
    """Begun, of a dump that is finished and not published yet."""
    path = directory / "dump"
    path.write_bytes(DATA)
    upload = Upload(run, target_of(store), str(NAME), GrowingFile.complete(path))
    upload.start()
    return upload


def test_an_upload_that_gets_on_may_take_all_night(
    s3: S3Server, proxy: FaultProxy, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part takes half an hour, and the whole four hours: longer than any one step may be without progress."""
    proxy.forget()
    hours = [0.0]
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + hours[0])

    def slowly(exchange: Exchange) -> None:
        hours[0] += HALF_AN_HOUR
        time.sleep(0.3)  # whoever waits for it looks at the clock meanwhile
        faults.pass_on(exchange)

    proxy.fault(slowly, when=faults.is_part())
    bucket = s3.bucket()
    limits = replace(QUICK, read_seconds=60, call_seconds=60, no_progress_seconds=HALF_AN_HOUR + 60)
    upload = upload_to(s3.store(bucket, endpoint_url=proxy.url, limits=limits), run, tmp_path)
    upload.publish(manifest())
    assert upload.wait(run.cancel) is None
    assert hours[0] == 8 * HALF_AN_HOUR
    assert set(s3.keys(bucket)) == {f"backups/{NAME}", f"backups/{NAME.manifest}"}
    assert s3.unfinished(bucket) == []


def test_an_upload_that_gets_no_further_ends_by_itself(
    s3: S3Server, proxy: FaultProxy, run: Run, tmp_path: Path
) -> None:
    """The store's own patience ends it, without a deadline of the run's; nothing stays there."""
    proxy.forget()
    proxy.fault(faults.black_hole, when=faults.is_part(3))
    bucket = s3.bucket()
    upload = upload_to(s3.store(bucket, endpoint_url=proxy.url), run, tmp_path)
    upload.publish(manifest())
    assert isinstance(upload.wait(run.cancel), StoreError)
    assert (s3.keys(bucket), s3.unfinished(bucket)) == ([], [])


def test_a_stop_ends_a_slow_upload_at_once(s3: S3Server, proxy: FaultProxy, run: Run, tmp_path: Path) -> None:
    """However patient the store is: nobody waits for the part that is on its way."""
    proxy.forget()
    proxy.fault(faults.black_hole, when=faults.is_part(3))
    bucket = s3.bucket()
    limits = replace(QUICK, read_seconds=60, call_seconds=60, no_progress_seconds=60)
    upload = upload_to(s3.store(bucket, endpoint_url=proxy.url, limits=limits, cancel=run.cancel), run, tmp_path)
    upload.publish(manifest())
    threading.Timer(0.5, run.cancel.set).start()
    with pytest.raises(StoppedError):
        upload.wait(run.cancel)
    upload.discard()
    upload.join(timeout=5)
    assert not upload.is_alive()
    assert (s3.keys(bucket), s3.unfinished(bucket)) == ([], [])


class Held(MemoryStore):
    """Its drafts hold on in `follow`, or once their file is committed, until `go_on` is set."""

    def __init__(self, where: str) -> None:
        super().__init__("s3", remote=True)
        self.where = where
        self.reached, self.go_on = threading.Event(), threading.Event()

    def create(self, name: str, *arguments: object, **options: object) -> MemoryDraft:
        return HeldDraft(self, name, {})

    def hold(self, where: str) -> None:
        if where == self.where:
            self.reached.set()
            self.go_on.wait(10)


class HeldDraft(MemoryDraft):
    """Of `Held`."""

    def follow(self, source: GrowingFile) -> None:
        super().follow(source)
        self._held.hold("follow")

    def commit(self) -> Entry:
        entry = super().commit()
        self._held.hold("commit")
        return entry

    @property
    def _held(self) -> Held:
        assert isinstance(self._store, Held)
        return self._store


@pytest.mark.parametrize(("where", "there"), [("follow", []), ("commit", [str(NAME)])])
def test_what_was_discarded_is_never_published(run: Run, tmp_path: Path, where: str, there: list[str]) -> None:
    """The run has recorded that it has no copy there, and let its locks go: none may come of it after that. A file
    that was on its way then has no manifest, and counts for nothing."""
    store = Held(where)
    upload = upload_to(store, run, tmp_path)
    upload.publish(manifest())
    assert store.reached.wait(10)
    upload.discard()
    store.go_on.set()
    upload.join(timeout=10)
    assert not upload.is_alive()
    assert not upload.published
    assert list(store.files) == there
