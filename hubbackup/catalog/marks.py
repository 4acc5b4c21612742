"""Making and removing the marks beside a backup: the operator's pin and acceptance, the verification's finding.

A mark is a file of its own, so it outlives the container, is seen by whoever lists the store, and is there or not.
What stands in it is for people.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from hubbackup.catalog.backup import BackupName, Mark
from hubbackup.catalog.manifests import MARK_BYTES, MARK_PURPOSE
from hubbackup.catalog.origin import FIELD, SigningKey
from hubbackup.catalog.target import Target
from hubbackup.catalog.typed_name import REMEDY, parse_name
from hubbackup.errors import (
    ExistsError,
    HubbackupError,
    NotFoundError,
    NotProvenError,
    StoreDeniedError,
    StoreError,
    UsageError,
)
from hubbackup.jobs.kinds import RunKind
from hubbackup.jobs.results import MarkResult
from hubbackup.jobs.run import Outcome, Run
from hubbackup.stores import Readable, Store

WHY_CHARACTERS = 1000


def put_mark(
    store: Store, name: BackupName, mark: Mark, *, why: str, now: datetime, key: SigningKey | None = None
) -> None:
    """Mark the backup in one store; where it is marked already, nothing is done, but that a bucket dates a finding
    (BAD) anew. Raises StoreError.

    Signed with `key`, which tells an operator's acceptance from one that somebody has put into the bucket.
    """
    note = {"mark": mark, "backup": str(name), "at": now.astimezone(UTC).isoformat(), "why": why[:WHY_CHARACTERS]}
    if key is not None:
        note = json.loads(json.dumps(note))
        note[FIELD] = key.sign(note, MARK_PURPOSE)
    text = json.dumps(note, ensure_ascii=False).encode(errors="replace") + b"\n"
    try:
        _put(store, name, mark, text)
    except ExistsError:
        return
    except StoreError:
        if store.remote:
            raise
        # A verification holds no lock: a run that begins at this moment takes its draft for a killed run's leftover.
        with contextlib.suppress(ExistsError):
            _put(store, name, mark, text)


def why_marked(store: Readable, name: BackupName, mark: Mark) -> str:
    """What stands in the mark; empty where it can't be read."""
    try:
        with store.open(name.mark(mark)) as stream:
            return str(json.loads(stream.read(MARK_BYTES))["why"])
    except (StoreError, ValueError, KeyError, TypeError):
        return ""


def _put(store: Store, name: BackupName, mark: Mark, text: bytes) -> None:
    dated = None
    if not store.remote:
        with contextlib.suppress(NotFoundError):  # like a manifest, it is never newer than its backup
            dated = store.stat(str(name)).modified_at - timedelta(seconds=1)
    # A mark older than its copy is of one that was replaced.
    with store.create(name.mark(mark), dated=dated, replacing=mark is Mark.BAD and store.remote) as draft:
        draft.write(text)
        draft.commit()


def drop_mark(store: Store, name: BackupName, mark: Mark) -> None:
    """Remove the mark from one store; where there is none, nothing is done. Raises StoreError."""
    store.delete(name.mark(mark))


def lift_bad(run: Run, store: Store, name: BackupName) -> None:
    """Remove the mark of a copy that is good again. Raises StoreError.

    Where the key may not delete, that is said: the copy is good, and counts as damaged until the mark is gone.
    """
    try:
        drop_mark(store, name, Mark.BAD)
    except StoreDeniedError as error:
        run.log.warning(
            "mark.failed",
            message=f"{name} in {store.describe()} is good again, but its mark stays: {error}",
            name=str(name),
            store=store.name,
            remedy=f"remove {name.mark(Mark.BAD)} there with a key that may delete",
        )


@dataclass(frozen=True)
class MarkJob:
    """Mark the backup `typed` in every target that holds it, or (`on` False) remove the mark from every target.

    The run holds the lock, so that no prune is between its plan and its removals. A target that can't be reached
    makes the run degraded: the mark counts as soon as any target holds it, and the command can be given again.
    """

    typed: str
    mark: Mark
    on: bool
    targets: Sequence[Target]
    kind: RunKind
    """`pin`, `unpin`, `accept`."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    needs_lock: ClassVar[bool] = True

    def __call__(self, run: Run) -> Outcome[MarkResult]:
        """Raises UsageError, NotFoundError where no target has the backup, StoreError where none could be marked."""
        name = parse_name(self.typed, self.targets)
        done: list[str] = []
        failures: list[HubbackupError] = []
        with run.stage("mark"):
            for target in self.targets:
                try:
                    if self._apply(target, name):
                        done.append(target.name)
                except (StoreError, NotProvenError) as error:
                    failures.append(error)
        if not done and failures:
            raise failures[0]
        if not done:
            where = ", ".join(target.describe() for target in self.targets)
            raise NotFoundError(f"there is no {name} in {where}", remedy=REMEDY)
        result = MarkResult(str(name), tuple(done))
        return Outcome(f"{self.kind}: {name}", result, tuple(str(error) for error in failures))

    def _apply(self, target: Target, name: BackupName) -> bool:
        """Whether the store holds the backup, which then is marked, or isn't any more. Raises StoreError."""
        store = target.store
        if not self.on:
            drop_mark(store, name, self.mark)
        try:
            store.stat(str(name))
            if self.mark is Mark.ACCEPTED and not target.manifest(name).manifest.warnings:
                raise UsageError(f"{name} is not suspicious: there is nothing to accept")
        except NotFoundError:
            return False
        if self.on:
            put_mark(store, name, self.mark, why=f"hubbackup {self.kind}", now=self.now(), key=target.trust().key)
        if self.mark is Mark.PINNED:
            target.keep_from_rules(str(name), self.on)
        return True
