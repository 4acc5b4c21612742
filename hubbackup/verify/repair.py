"""Repair: a copy that was found damaged is made anew from a good one of another store (docs/verify.md).

What is good is told by one thing alone: the sha256 in a manifest under our own signature. Whoever can write to a
bucket can neither sign one nor find other bytes of that sha256, so nothing of theirs gets into another store.
Nothing is taken away before what replaces it is written and proven; a repair that is killed leaves all as it was.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from hubbackup.catalog.backup import SHA256, BackupName, Manifest
from hubbackup.catalog.manifests import judge, read_bytes
from hubbackup.catalog.marks import lift_bad
from hubbackup.catalog.origin import Origin
from hubbackup.catalog.target import Target
from hubbackup.errors import (
    EXIT_SUCCESS,
    HubbackupError,
    NotFoundError,
    NotProvenError,
    StoreError,
    StoreFullError,
)
from hubbackup.jobs.history import History
from hubbackup.jobs.kinds import RunKind
from hubbackup.jobs.leftovers import Leftovers, remove_leftovers
from hubbackup.jobs.results import Result
from hubbackup.jobs.run import Outcome, Run
from hubbackup.stores.local import LocalStore
from hubbackup.streams.growing_file import CHUNK_BYTES, GrowingFile
from hubbackup.verify.copies import KIND
from hubbackup.verify.job import CopyResult, VerifyResult, failure_of, is_rotten
from hubbackup.verify.reader import Expected, check_file
from hubbackup.verify.source import ROOM_LEFT_BYTES, SCRATCH_PREFIX, remove_downloads


@dataclass(frozen=True)
class Repaired:
    """A copy that is good again, in `store`; `source`: the store that had what it lacked."""

    name: str
    store: str
    source: str


@dataclass(frozen=True)
class Unrepaired:
    """A copy that is as it was found, and why."""

    name: str
    store: str
    problem: str


@dataclass(frozen=True)
class RepairResult(Result):
    """What became of each damaged copy."""

    copies: tuple[Repaired, ...]
    left: tuple[Unrepaired, ...] = ()

    def facts(self) -> dict[str, object]:
        """Each as `store:name`."""
        return {
            "repaired": [f"{one.store}:{one.name}" for one in self.copies],
            "not_repaired": [f"{one.store}:{one.name}" for one in self.left],
        }


class RepairFailedError(HubbackupError):
    """A copy could not be repaired: `result` has what became of each."""

    def __init__(self, result: RepairResult) -> None:
        first = "; ".join(f"{one.name} in {one.store}: {one.problem}" for one in result.left[:3])
        more = f"; and {len(result.left) - 3} more" if len(result.left) > 3 else ""
        super().__init__(
            f"{len(result.left)} copies could not be repaired: {first}{more}",
            remedy="hubbackup list shows what is still good; where nothing is, make a new one: hubbackup backup",
        )
        self.result = result


class _GoneError(HubbackupError):
    """The copy was removed meanwhile: there is nothing to repair."""


@dataclass(frozen=True)
class _Signed:
    """A backup's manifest under our signature, as it is stored, and a store that has it."""

    manifest: Manifest
    data: bytes
    store: str


def repairable(found: VerifyResult) -> list[CopyResult]:
    """The copies that are worse than their manifest under our signature says, if there is one."""
    return [one for one in found.copies if _is_damaged(one) or _may_be_replaced(one)]


def remaining(found: VerifyResult, mended: RepairResult, *, fail_unproven: bool) -> HubbackupError | None:
    """What is still wrong of what a verification found; None where all is well now."""
    good = {(one.store, one.name) for one in mended.copies}
    copies = (
        replace(one, verdict="ok") if (one.copy.target.name, str(one.copy.name)) in good else one
        for one in found.copies
    )
    return failure_of(replace(found, copies=tuple(copies)), fail_unproven=fail_unproven)


def _is_damaged(one: CopyResult) -> bool:
    return one.verdict == "bad" or (one.verdict == "unread" and one.rotten)


def _may_be_replaced(one: CopyResult) -> bool:
    """Without a manifest, or with somebody else's: a damaged copy, where another store has a manifest of ours."""
    return one.verdict == "unproven" or (one.verdict == "foreign" and one.copy.target.remote)


@dataclass(frozen=True)
class RepairJob:
    """Makes `damaged` copies good again from those in `targets`, the first one that has a whole copy."""

    damaged: Sequence[CopyResult]
    targets: Sequence[Target]
    scratch: Path
    history: History
    """Of copies: what is repaired is proven, too."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    kind: ClassVar[RunKind] = "repair"
    needs_lock: ClassVar[bool] = True

    def __call__(self, run: Run) -> Outcome[RepairResult]:
        """Raises RepairFailedError where a damaged copy is still that."""
        done: list[Repaired] = []
        left: list[Unrepaired] = []
        with run.stage("repair"):
            self._tidy(run)
            for one in self.damaged:
                name, target = one.copy.name, one.copy.target
                try:
                    signed = self._signed(name)
                    if signed is None and not _is_damaged(one):
                        continue  # nobody says that it should be anything else
                    if signed is None:
                        raise NotProvenError("no store has a manifest of it that is signed as ours")
                    source = self._repair(run, one, signed)
                    self._note(run, one, source)
                    done.append(Repaired(str(name), target.name, source))
                except _GoneError:
                    continue
                except HubbackupError as error:
                    run.cancel.check()
                    left.append(Unrepaired(str(name), target.name, str(error)))
                    run.log.warning(
                        "repair.impossible",
                        message=f"not repaired: {name} in {target.name}: {error}",
                        name=str(name),
                        store=target.name,
                        remedy=error.remedy,
                    )
        result = RepairResult(tuple(done), tuple(left))
        if left:
            raise RepairFailedError(result)
        return Outcome(f"repair finished: {len(done)} copies are good again", result)

    def _tidy(self, run: Run) -> None:
        """What a killed run had begun; in a bucket what is a day old, since others write there, too."""
        written = {one.copy.target.name for one in self.damaged}
        kinds = [
            Leftovers(target.store.remove_leftovers, fields={"store": target.name})
            for target in self.targets
            if target.name in written
        ]
        downloads = Leftovers(lambda: remove_downloads(self.scratch), fields={"store": "scratch"})
        remove_leftovers(run.log, [*kinds, downloads])

    def _signed(self, name: BackupName) -> _Signed | None:
        """What the backup is by our own word; None where no store has that. Raises NotProvenError: two differ."""
        found: _Signed | None = None
        for target in self.targets:
            try:
                data = read_bytes(target.store, name)
                judged = judge(data, name, target.trust())
            except (NotProvenError, StoreError):
                continue
            if judged.origin is not Origin.OURS:
                continue
            if found is not None and found.manifest.sha256 != judged.manifest.sha256:
                raise NotProvenError(f"its manifests in {found.store} and {target.name} are both ours, and differ")
            found = found or _Signed(judged.manifest, data, target.name)
        return found

    def _repair(self, run: Run, one: CopyResult, signed: _Signed) -> str:
        """Make its file and manifest those that are signed; returns the store that had what was lacking."""
        target, name, source = one.copy.target, one.copy.name, signed.store
        whole = self._is_whole(run, target, name, signed.manifest)
        if whole and one.verdict == "bad" and self._has_manifest(target, name, signed):
            raise NotProvenError("it is, byte for byte, what was written, so no other copy of it is better")
        if not whole:
            source = self._replace_file(run, target, signed.manifest)
        if not self._has_manifest(target, name, signed):
            labels = {SHA256: signed.manifest.sha256}
            target.store.replace(name.manifest, signed.data, labels, dated=signed.manifest.started_at)
        lift_bad(run, target.store, name)
        return source

    def _is_whole(self, run: Run, target: Target, name: BackupName, manifest: Manifest) -> bool:
        """Whether its file is what was written. Raises _GoneError where it was removed, StoreError of a bucket."""
        try:
            if target.store.stat(str(name)).size_bytes != manifest.stored_bytes:
                return False
            self._check(run, target, manifest)
        except NotFoundError as error:
            raise _GoneError(str(error)) from error
        except NotProvenError:
            return False
        except StoreError as error:
            if not is_rotten(error):
                raise
            return False
        return True

    def _has_manifest(self, target: Target, name: BackupName, signed: _Signed) -> bool:
        try:
            judged = judge(read_bytes(target.store, name), name, target.trust())
        except (NotFoundError, NotProvenError):
            return False
        except StoreError as error:
            if not is_rotten(error):
                raise
            return False
        return judged.origin is Origin.OURS and judged.manifest.sha256 == signed.manifest.sha256

    def _replace_file(self, run: Run, target: Target, manifest: Manifest) -> str:
        """From the first other target whose copy is what was written. Raises NotProvenError where none is."""
        tried: list[str] = []
        for source in self.targets:
            if source.name == target.name:
                continue
            with ExitStack() as stack:
                try:
                    path = stack.enter_context(self._proven(run, source, manifest, target.disk))
                except NotFoundError:
                    tried.append(f"{source.name} has none")
                    continue
                except StoreFullError:
                    raise
                except (NotProvenError, StoreError) as error:
                    run.cancel.check()
                    tried.append(f"in {source.name}: {error}")
                    continue
                if path is not None:
                    _upload(run, path, target, manifest)
                return source.name
        raise NotProvenError(f"no other store has a good copy ({'; '.join(tried) or 'there is no other store'})")

    @contextmanager
    def _proven(self, run: Run, source: Target, manifest: Manifest, disk: LocalStore | None) -> Iterator[Path | None]:
        """A proven copy of `source` on this machine, to be uploaded; for `disk` it is put there, and None given."""
        if source.disk is not None:
            self._check(run, source, manifest)
            yield source.disk.directory / manifest.name
        elif disk is not None:
            self._fetch(run, source, manifest, disk)
            yield None
        else:
            self.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX, dir=self.scratch))
            try:
                self._fetch(run, source, manifest, LocalStore(directory))
                yield directory / manifest.name
            finally:
                shutil.rmtree(directory, ignore_errors=True)

    def _check(self, run: Run, target: Target, manifest: Manifest) -> None:
        with target.open(manifest.name) as stream, run.progress(f"verify {target.name}", manifest.stored_bytes) as at:
            check_file(stream, Expected.of(manifest), name=manifest.name, cancel=run.cancel, progress=at)

    def _fetch(self, run: Run, source: Target, manifest: Manifest, disk: LocalStore) -> None:
        """Download to `disk`, aside; what is on the disk is compared before it gets its name."""
        size = manifest.stored_bytes
        free = disk.free_bytes()
        if free < size + ROOM_LEFT_BYTES:
            raise StoreFullError(
                f"{manifest.name} has {size:,} bytes, {disk.describe()} has {free:,} free",
                remedy="make room there: hubbackup prune; the damaged copy stays until a good one is whole",
            )
        entry = source.store.stat(manifest.name)
        if entry.size_bytes != size:
            raise NotProvenError(f"{manifest.name} has {entry.size_bytes} bytes, {size} were expected")
        with (
            source.open(manifest.name, end=size) as stream,
            disk.create(manifest.name, dated=manifest.finished_at, replacing=True) as draft,
            run.progress(f"download from {source.name}", size) as progress,
        ):
            while data := stream.read(CHUNK_BYTES):
                run.cancel.check()
                draft.write(data)
                progress(draft.size_bytes)
            draft.sync()
            try:
                with draft.path.open("rb") as written:
                    check_file(written, Expected.of(manifest), name=manifest.name, cancel=run.cancel)
            except OSError as error:
                raise StoreError(f"{draft.path} could not be read back: {error.strerror}") from error
            draft.commit()

    def _note(self, run: Run, one: CopyResult, source: str) -> None:
        target, name = one.copy.target, one.copy.name
        if one.verdict == "foreign":
            run.log.warning(
                "copy.foreign",
                message=f"{name} in {target.describe()} was not ours any more ({one.problem}): ours replaces it",
                name=str(name),
                store=target.name,
                remedy="find out who can write there",
            )
        run.log.info(
            "repair.copy",
            message=f"repaired: {name} in {target.name}, from {source}",
            name=str(name),
            store=target.name,
            source=source,
        )
        facts = {"store": target.name, "name": str(name), "problem": ""}
        self.history.add(KIND, run.run_id, self.now(), 0.0, EXIT_SUCCESS, facts)


def _upload(run: Run, path: Path, target: Target, manifest: Manifest) -> None:
    """In the place of what is there, at its commit."""
    with (
        run.progress(f"upload to {target.name}", manifest.stored_bytes) as progress,
        target.store.create(manifest.name, {SHA256: manifest.sha256}, replacing=True) as draft,
    ):
        draft.follow(GrowingFile.complete(path))
        draft.commit()
        progress(draft.size_bytes)
