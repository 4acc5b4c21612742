"""Copies in remote stores: following a backup while it is made, and catching up on those that are missing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from hubbackup.catalog.backup import SHA256, Backup, Manifest, Mark, write_manifest
from hubbackup.catalog.marks import drop_mark, put_mark
from hubbackup.errors import HubbackupError, StoppedError, StoreError
from hubbackup.jobs.progress import Progress, silent
from hubbackup.jobs.run import Run
from hubbackup.stores import Draft, Store
from hubbackup.stores.local import LocalStore
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.growing_file import GrowingFile, SourceFailedError
from hubbackup.verify.reader import Expected, read_through

TICK_SECONDS = 0.2


class Upload(threading.Thread):
    """Uploads a growing file to one store; publishes it only when told that the backup passed the gate.

    A slow or dead store never slows the dump: this thread reads the file, the dump's writer never waits for it.
    """

    def __init__(self, run: Run, store: Store, name: str, source: GrowingFile) -> None:
        super().__init__(name=f"upload-{store.name}", daemon=True)
        self.store = store
        self._run = run
        self._name = name
        self._source = source
        self._decided = threading.Event()
        self._manifest: Manifest | None = None
        self._draft: Draft | None = None
        self.error: HubbackupError | None = None
        self.published = False

    def run(self) -> None:
        try:
            remove_leftovers(self._run, self.store)  # here, so that a dead S3 does not hold up the dump's beginning
            with self.store.create(self._name) as draft:
                self._draft = draft
                draft.follow(self._source)
                self._decided.wait()
                if self._manifest is None:
                    return
                draft.commit()
            write_manifest(self.store, self._manifest)
            self.published = True
        except SourceFailedError:
            return
        except HubbackupError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - a thread's death must be told, not lost
            self.error = StoreError(f"{self.store.describe()}: {type(error).__name__}: {error}")

    def publish(self, manifest: Manifest) -> None:
        """The backup is good: complete the object and put its manifest."""
        self._manifest = manifest
        self._decided.set()

    def discard(self) -> None:
        """The backup failed: leave nothing there."""
        self._source.fail()
        self._decided.set()

    def wait(self, cancel: Cancel, deadline_seconds: float, progress: Progress = silent) -> HubbackupError | None:
        """Wait for the end; returns what went wrong, or None where the copy is there. Raises StoppedError."""
        deadline = time.monotonic() + deadline_seconds
        while self.is_alive():
            if time.monotonic() > deadline:
                return StoreError(
                    f"{self.store.describe()}: the upload was not done {deadline_seconds:.0f} s after the dump",
                    transient=True,
                )
            cancel.check()
            if self._draft is not None:
                progress(self._draft.size_bytes)
            self.join(TICK_SECONDS)
        if self.error is None and not self.published:
            return StoreError(f"{self.store.describe()}: the upload ended without a copy")
        if isinstance(self.error, StoppedError):
            raise self.error
        return self.error


def remove_leftovers(run: Run, store: Store) -> None:
    """Remove what a killed run left unfinished in `store`; where that can't be done, the backup goes on."""
    try:
        leftovers = store.clean()
    except StoreError as error:
        run.log.warning("clean.failed", message=str(error), store=store.name)
        return
    if leftovers:
        run.log.info("leftovers.removed", message="leftovers removed", store=store.name, names=leftovers)


@dataclass(frozen=True)
class CaughtUp:
    """What a catch-up did: the names uploaded, and a sentence for each that failed."""

    uploaded: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def catch_up(
    run: Run,
    backups: Sequence[Backup],
    local: LocalStore,
    remote: Store,
    *,
    keep: Callable[[Backup], bool],
    budget_seconds: float,
) -> CaughtUp:
    """Upload the good local backups that `remote` lacks and `keep` wants there, oldest first, within the budget.

    Each is hashed first, so that a rotten copy is not spread. Both show their progress, as the run's own upload does.
    """
    deadline = time.monotonic() + budget_seconds
    uploaded: list[str] = []
    problems: list[str] = []
    missing = [b for b in backups if b.good_in(local.name) and not b.good_in(remote.name) and keep(b)]
    for number, backup in enumerate(missing):
        manifest = backup.manifest
        if manifest is None:
            continue
        if time.monotonic() > deadline:
            left = len(missing) - number
            problems.append(f"{left} backups wait to be uploaded to {remote.describe()}: no time left in this run")
            break
        try:
            _copy(run, backup, manifest, local, remote)
            uploaded.append(manifest.name)
        except StoreError as error:
            problems.append(f"{manifest.name}: {error}")
            break  # no bucket, no permission, no network: every further one would fail alike
        except HubbackupError as error:
            run.cancel.check()
            problems.append(f"{manifest.name}: {error}")
    return CaughtUp(tuple(uploaded), tuple(problems))


def _copy(run: Run, backup: Backup, manifest: Manifest, local: LocalStore, remote: Store) -> None:
    expected = Expected(manifest.stored_bytes, manifest.sha256, None)
    with local.open(manifest.name) as stream, run.progress("verify local", manifest.stored_bytes) as progress:
        read_through(stream, expected, name=manifest.name, cancel=run.cancel, progress=progress)
    if remote.name in backup.manifests_in:  # of an object that is gone, or of another size
        remote.delete(backup.name.manifest)
    if remote.name in backup.copies:  # an upload that died before its end
        remote.delete(manifest.name)
    if backup.bad_in(remote.name):  # said of the copy that is replaced
        drop_mark(remote, backup.name, Mark.BAD)
    for mark in (Mark.PINNED, Mark.ACCEPTED):  # before the copy is there, so that it is never there without them
        if mark in backup.marks and remote.name not in backup.marks[mark]:
            put_mark(remote, backup.name, mark, why="copied with the backup", now=datetime.now(UTC))
    with (
        remote.create(manifest.name, {SHA256: manifest.sha256}) as draft,
        run.progress("upload", manifest.stored_bytes) as progress,
        _watched(draft, progress),
    ):
        draft.follow(GrowingFile.complete(local.directory / manifest.name))
        draft.commit()  # a small file is sent only here
    write_manifest(remote, manifest)


@contextmanager
def _watched(draft: Draft, progress: Progress) -> Iterator[None]:
    """While the block sends, `progress` is told what the draft has taken: also in the middle of a part that hangs.

    A small file is held and sent as one request at the commit, so that it counts as taken before it is sent.
    """
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(TICK_SECONDS):
            progress(draft.size_bytes)

    watcher = threading.Thread(target=look, name="upload-progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
