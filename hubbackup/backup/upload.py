"""The upload of a backup while it is made: it follows the growing file, and waits for the gate."""

from __future__ import annotations

import threading
from collections.abc import Container

from hubbackup.catalog.backup import Manifest, write_manifest
from hubbackup.catalog.target import LocalTarget, Target
from hubbackup.errors import HubbackupError, StoppedError, StoreError
from hubbackup.jobs.leftovers import Leftovers, remove_leftovers
from hubbackup.jobs.progress import Progress, silent
from hubbackup.jobs.run import Run
from hubbackup.stores import Draft
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.growing_file import GrowingFile, SourceFailedError

TICK_SECONDS = 0.2


class Upload(threading.Thread):
    """Uploads a growing file to one target; publishes it only once the backup has passed the gate.

    A slow or dead target never slows the dump: this thread reads the file, the dump's writer never waits for it.
    How long it may take is the target's to say: it bounds each step by its own patience, and what gets on goes on.
    """

    def __init__(
        self, run: Run, target: Target, name: str, source: GrowingFile, known: Container[str] = frozenset()
    ) -> None:
        """`known`: names whose uploads can only be dead ones of this host's."""
        super().__init__(name=f"upload-{target.name}", daemon=True)
        self.target = target
        self._run = run
        self._name = name
        self._source = source
        self._known = known
        self._decided = threading.Event()
        self._discarded = threading.Event()
        self._manifest: Manifest | None = None
        self._draft: Draft | None = None
        self.error: HubbackupError | None = None
        self.published = False

    def run(self) -> None:
        try:
            # Here, so that a dead S3 does not hold up the dump's beginning.
            remove_leftovers(self._run.log, [unfinished(self.target, self._known)])
            with self.target.store.create(self._name) as draft:
                self._draft = draft
                draft.follow(self._source)
                self._decided.wait()
                if self._manifest is None or self._discarded.is_set():
                    return
                draft.commit()
                report_remark(self._run, self.target, draft)
            if self._discarded.is_set():  # meanwhile: the run has said that it has no copy here
                return
            write_manifest(self.target.store, self._manifest)
            self.published = True
        except SourceFailedError:
            return
        except HubbackupError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - a thread's death must be reported, not lost
            self.error = StoreError(f"{self.target.describe()}: {type(error).__name__}: {error}")

    def publish(self, manifest: Manifest) -> None:
        """The backup is good: complete the object and put its manifest."""
        self._manifest = manifest
        self._decided.set()

    def discard(self) -> None:
        """The backup failed, or the run ends: publish nothing from here on, however far the file has got."""
        self._discarded.set()
        self._source.fail()
        self._decided.set()

    def wait(self, cancel: Cancel, progress: Progress = silent) -> HubbackupError | None:
        """Wait for the end: a target that gets no further ends it by itself, one that does is not hurried.

        Returns what went wrong, or None where the copy is there. Raises StoppedError.
        """
        while self.is_alive():
            cancel.check()
            if self._draft is not None:
                progress(self._draft.size_bytes)
            self.join(TICK_SECONDS)
        if self.error is None and not self.published:
            return StoreError(f"{self.target.describe()}: the upload ended without a copy")
        if isinstance(self.error, StoppedError):
            raise self.error
        return self.error


def report_remark(run: Run, target: Target, draft: Draft) -> None:
    """Log what of an uploaded copy is not as it was asked for."""
    if draft.remark:
        remedy = "hubbackup lifecycle show says what the bucket's rules need"
        run.log.warning("copy.untagged", message=draft.remark, store=target.name, remedy=remedy)


def unfinished(target: Target, known: Container[str] = frozenset()) -> Leftovers:
    """What a killed run had begun to write there: `.partial` files, or uploads without an end, of `known` names.

    An upload of another name may be another daemon's, and at work.
    """
    return Leftovers(lambda: target.store.remove_leftovers(known), fields={"store": target.name})


def begun_here(local: LocalTarget) -> frozenset[str]:
    """The names that runs of this host have begun: their drafts and their backups; none where that can't be read."""
    try:
        return frozenset(local.store.begun())
    except StoreError:
        return frozenset()
