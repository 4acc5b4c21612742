"""Where a backup is read from: a copy that is listed, a file as typed, or an object that is downloaded first."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO
from zoneinfo import ZoneInfo

from hubbackup.catalog.backup import Backup, BackupName, Manifest, Mark
from hubbackup.catalog.manifests import Judged, read_manifest
from hubbackup.catalog.marks import why_marked
from hubbackup.catalog.origin import Origin, Trust
from hubbackup.catalog.target import LocalTarget, Target
from hubbackup.catalog.typed_name import in_path, parse_name
from hubbackup.errors import ArchivedError, NotFoundError, StoreFullError, UsageError
from hubbackup.jobs.run import Run
from hubbackup.stores.local import LocalStore
from hubbackup.streams.age import HEADER_BYTES
from hubbackup.streams.age_keys import NO_IDENTITIES, Identities
from hubbackup.streams.codecs import Decoder
from hubbackup.streams.format import DEFAULT_FORMAT, Format
from hubbackup.streams.growing_file import CHUNK_BYTES
from hubbackup.verify.kept import KeptSchema
from hubbackup.verify.sealed import demand_key

ROOM_LEFT_BYTES = 64 << 20


@dataclass(frozen=True)
class Source:
    """A backup that can be opened, and read twice. `manifest` None: unproven."""

    name: str
    where: str
    stored_bytes: int
    started_at: datetime | None
    manifest: Manifest | None
    open: Callable[[], AbstractContextManager[BinaryIO]]
    unrestorable: str = ""
    """Why a server refused its schema; empty where none did."""
    origin: Origin = Origin.UNPROVEN
    doubt: str = ""
    """Why it is foreign."""
    identities: Identities = NO_IDENTITIES
    """What opens it, where it is sealed."""
    fetched: bool = False
    """It was downloaded just now, and nothing of it was compared yet."""
    kept: KeptSchema | None = None
    """Its schema, where that is all of it that can be read."""

    @property
    def ours(self) -> bool:
        """Its manifest is ours: what it says was written by nobody else."""
        return self.origin.trusted

    @property
    def foreign(self) -> bool:
        """Its manifest is not ours: whoever can write to the store may have put it there."""
        return self.origin is Origin.FOREIGN

    @property
    def format(self) -> Format:
        """What its name says that it is. A name without any format's suffix is taken for what `gunzip` reads."""
        return Format.of(self.name) or DEFAULT_FORMAT

    def decoder(self) -> Decoder:
        """Makes its plain dump of its bytes, once. Raises UsageError where it is sealed and its key of no use."""
        return self.format.decoder(self.identities)

    def opened_by(self, identities: Identities) -> Source:
        """The same, to be read with these keys, its manifest's sealed parts in clear.

        Raises IdentityError where it is sealed and none of them opens it, NotProvenError, StoreError.
        """
        if not self.format.sealed:
            return self
        demand_key(self.name, self.open, self.manifest, identities)
        manifest = self.manifest.opened(identities) if self.manifest is not None else None
        return replace(self, manifest=manifest, identities=identities)


def check_ours(name: str, doubt: str, *, allowed: bool = False) -> None:
    """Raises UsageError where the backup is foreign, and that was not asked for."""
    if doubt and not allowed:
        raise UsageError(
            f"{name} is not known to be a backup of this server: {doubt.removeprefix('foreign: ')}",
            remedy="hubbackup config says how to carry the key of another server over."
            f" Where you know whose backup it is: hubbackup restore … --foreign, or hubbackup adopt {name}",
        )


@contextmanager
def taken(
    run: Run,
    backup: Backup,
    target: Target,
    *,
    scratch: Path,
    foreign: bool = False,
    identities: Identities = NO_IDENTITIES,
) -> Iterator[Source]:
    """The copy of a listed backup in `target`, downloaded where that is not this disk.

    Raises UsageError where it is foreign, unless `foreign` allows that; IdentityError, NotFoundError, StoreError.
    """
    name = str(backup.name)
    if target.disk is None:
        with downloaded(run, target, name, scratch=scratch, foreign=foreign, identities=identities) as source:
            yield source
        return
    disk, doubt = target.disk, backup.problem if backup.foreign else ""
    check_ours(name, doubt, allowed=foreign)
    yield Source(
        name,
        disk.describe(),
        backup.copies[disk.name].size_bytes,
        backup.started_at,
        backup.manifest,
        lambda: disk.open(name),
        origin=backup.origin,
        doubt=doubt,
    )


def of_file(local: LocalStore, typed: str, zone: ZoneInfo, *, trust: Trust) -> Source:
    """A file of the local store, by its name or path or its manifest's, or any other file that can be read here.

    Raises NotFoundError, NotProvenError where its manifest is not its own, StoreError.
    """
    path = in_path(typed)
    store = local
    if path.parent not in (Path(), local.directory):
        store = LocalStore(path.absolute().parent)
        with contextlib.suppress(PermissionError):  # the store says that better
            if not store.directory.is_dir():
                raise NotFoundError(
                    f"there is no {typed} here: the directory {store.directory} does not exist",
                    remedy=f"a backup of {local.directory} is named by its name alone, one in S3 by NAME --from s3",
                )
    entry = store.stat(path.name)
    name = BackupName.parse(path.name)
    judged = _judged_if_any(lambda found: read_manifest(store, found, trust), name) if name is not None else None
    started_at = name.local_time.replace(tzinfo=zone) if name is not None else None
    return Source(
        path.name,
        store.describe(),
        entry.size_bytes,
        judged.manifest.started_at if judged is not None else started_at,
        judged.manifest if judged is not None else None,
        lambda: store.open(path.name),
        why_marked(store, name, Mark.UNRESTORABLE) if name is not None else "",
        *_origin(judged),
    )


def of_kept(local: LocalTarget, kept: KeptSchema) -> Source:
    """A backup of this run that is sealed by now, for its schema alone."""
    manifest = kept.manifest
    return Source(
        manifest.name,
        local.describe(),
        manifest.stored_bytes,
        manifest.started_at,
        manifest,
        lambda: local.open(manifest.name),
        origin=Origin.OURS,
        kept=kept,
    )


@contextmanager
def downloaded(
    run: Run,
    target: Target,
    typed: str,
    *,
    scratch: Path,
    foreign: bool = False,
    identities: Identities = NO_IDENTITIES,
) -> Iterator[Source]:
    """An object, downloaded whole to a directory of its own, which is removed afterwards.

    Raises UsageError for a name that is not exactly one of ours, and before the download for a backup that is
    foreign, unless `foreign` allows that, or that no key at hand opens; NotFoundError, StoreError.
    """
    store = target.store
    name = parse_name(typed, [store])
    entry = store.stat(str(name))
    if entry.archived:
        raise ArchivedError(
            f"{name} in {target.describe()} rests in an archive class, and can't be read before it was thawed",
            remedy=f"hubbackup restore {name} --from {target.name} --thaw asks for that, then restores it",
        )
    judged = _judged_if_any(target.manifest, name)
    check_ours(str(name), judged.doubt if judged is not None else "", allowed=foreign)
    manifest = judged.manifest if judged is not None else None
    demand_key(str(name), partial(store.open, str(name), end=HEADER_BYTES), manifest, identities)
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX, dir=scratch))
    try:
        local = LocalStore(directory)
        free = local.free_bytes()
        if free < entry.size_bytes + ROOM_LEFT_BYTES:
            raise StoreFullError(
                f"{name} has {entry.size_bytes:,} bytes, {scratch} has {free:,} free",
                remedy="make room there (hubbackup prune removes what the policy no longer keeps); the backup is"
                " downloaded whole and proven before it is used",
            )
        with (
            run.stage("download"),
            store.open(str(name)) as stream,
            local.create(str(name)) as draft,
            run.progress("download", entry.size_bytes) as progress,
        ):
            done_bytes = 0
            while data := stream.read(CHUNK_BYTES):
                run.cancel.check()
                draft.write(data)
                done_bytes += len(data)
                progress(done_bytes)
            draft.commit()
        yield Source(
            str(name),
            store.describe(),
            entry.size_bytes,
            judged.manifest.started_at if judged is not None else None,
            judged.manifest if judged is not None else None,
            lambda: local.open(str(name)),
            why_marked(store, name, Mark.UNRESTORABLE),
            *_origin(judged),
            fetched=True,
        )
    finally:
        shutil.rmtree(directory, ignore_errors=True)


SCRATCH_PREFIX = "download-"


def remove_downloads(scratch: Path) -> list[str]:
    """Remove what a killed restore had downloaded; returns the names. Caller's duty: hold the run lock."""
    found = sorted(scratch.glob(f"{SCRATCH_PREFIX}*"))
    for directory in found:
        shutil.rmtree(directory, ignore_errors=True)
    return [directory.name for directory in found]


def _judged_if_any(read: Callable[[BackupName], Judged], name: BackupName) -> Judged | None:
    try:
        return read(name)
    except NotFoundError:
        return None


def _origin(judged: Judged | None) -> tuple[Origin, str]:
    return (judged.origin, judged.doubt) if judged is not None else (Origin.UNPROVEN, "")
