"""Where a backup is read from: the newest one, a file as typed, or an object that is downloaded first."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO
from zoneinfo import ZoneInfo

from hubbackup.catalog.backup import Backup, BackupName, Manifest, Mark
from hubbackup.catalog.listing import newest_first
from hubbackup.catalog.manifests import Judged, read_manifest
from hubbackup.catalog.marks import why_marked
from hubbackup.catalog.origin import Origin, Trust
from hubbackup.catalog.target import LocalTarget, Target
from hubbackup.catalog.typed_name import in_path, parse_name, places_of
from hubbackup.errors import ArchivedError, NotFoundError, StoreError, StoreFullError, UsageError
from hubbackup.jobs.leftovers import Leftovers, remove_leftovers
from hubbackup.jobs.run import Run
from hubbackup.stores.local import LocalStore
from hubbackup.streams.age import HEADER_BYTES
from hubbackup.streams.age_keys import NO_IDENTITIES, Identities
from hubbackup.streams.codecs import Decoder
from hubbackup.streams.format import DEFAULT_FORMAT, Format
from hubbackup.streams.growing_file import CHUNK_BYTES
from hubbackup.verify.choice import newest_sound, readable
from hubbackup.verify.kept import KeptSchema
from hubbackup.verify.sealed import demand_key

ROOM_LEFT_BYTES = 64 << 20
S3_SCHEME = "s3://"
TURNED_ON_BY = {"s3": "S3_BACKUP_BUCKET", "mirror": "S3_MIRROR_BACKUP_BUCKET"}
"""The setting behind each target that may not be there."""


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


@dataclass(frozen=True)
class BackupSelector:
    """What the operator asks for: the newest good one of `database`, or a `file`; in the target `store`, where one is
    named, else wherever it is.

    A backup of another database than `database` is refused, unless `any_database`; a foreign one, unless `foreign`.
    """

    database: str
    file: str = ""
    store: str = ""
    any_database: bool = False
    foreign: bool = False


@contextmanager
def find(
    run: Run,
    selector: BackupSelector,
    targets: Sequence[Target],
    zone: ZoneInfo,
    scratch: Path,
    identities: Identities = NO_IDENTITIES,
) -> Iterator[Source]:
    """The backup that is selected, at hand to be read. Raises UsageError, NotFoundError, StoreError.

    A sealed one is opened by `identities`: where they don't, IdentityError, before any download.
    """
    remove_leftovers(run.log, [Leftovers(lambda: remove_downloads(scratch), fields={"store": "scratch"})])
    chosen = _where(selector, targets)
    with ExitStack() as stack:
        if not selector.file:
            getting = latest(run, chosen, selector.database, zone=zone, scratch=scratch, identities=identities)
            source = stack.enter_context(getting)
        elif chosen[0].disk is not None:
            source = of_file(chosen[0].disk, selector.file, zone, trust=chosen[0].trust())
        else:
            getting = downloaded(
                run, chosen[0], selector.file, scratch=scratch, foreign=selector.foreign, identities=identities
            )
            source = stack.enter_context(getting)
        _check_ours(source.name, source.doubt, allowed=selector.foreign)
        _check_database(source, selector)
        yield source.opened_by(identities)


def _where(selector: BackupSelector, targets: Sequence[Target]) -> list[Target]:
    """The targets to look in: that of the selector, else the one of an address; a file's name alone is the disk's."""
    if selector.store:
        found = [target for target in targets if target.name == selector.store]
        if not found:
            cause = f": {TURNED_ON_BY[selector.store]} is not set" if selector.store in TURNED_ON_BY else ""
            names = ", ".join(target.name for target in targets)
            raise UsageError(f"the store {selector.store} is not configured{cause}", remedy=f"there is: {names}")
        return found
    if not selector.file:
        return list(targets)
    if not selector.file.startswith(S3_SCHEME):
        return [target for target in targets if target.disk is not None]
    remotes = [target for target in targets if target.remote]
    if not remotes:
        raise UsageError(f"{selector.file} is in S3: S3_BACKUP_BUCKET is not set", remedy="set it in .env.production")
    return places_of(selector.file, remotes) or remotes


def located(selector: BackupSelector, targets: Sequence[Target]) -> BackupSelector:
    """The same; where this disk has not the file of that name, in the first other target that has it."""
    local = next(target.disk for target in targets if target.disk is not None)
    remotes = [target for target in targets if target.remote]
    if not selector.file or selector.store or selector.file.startswith(S3_SCHEME) or not remotes:
        return selector
    path = in_path(selector.file)
    if path.parent not in (Path(), Path("backups"), local.directory) or os.path.exists(local.directory / path.name):
        return selector
    found = next((target for target in remotes if _holds(target, path.name)), remotes[0])
    return replace(selector, file=path.name, store=found.name)


def _holds(target: Target, name: str) -> bool:
    try:
        target.store.stat(name)
    except StoreError:
        return False
    return True


@contextmanager
def find_in(
    run: Run,
    target: Target,
    name: str,
    database: str,
    zone: ZoneInfo,
    scratch: Path,
    identities: Identities = NO_IDENTITIES,
) -> Iterator[Source]:
    """The backup `name` of one target, or without a name its newest good one of `database`. Never a foreign one."""
    if not name:
        with latest(run, [target], database, zone=zone, scratch=scratch, identities=identities) as source:
            yield source.opened_by(identities)
    elif target.disk is not None:
        source = of_file(target.disk, name, zone, trust=target.trust())
        _check_ours(source.name, source.doubt)
        yield source.opened_by(identities)
    else:
        with downloaded(run, target, name, scratch=scratch, identities=identities) as source:
            yield source.opened_by(identities)


def _check_ours(name: str, doubt: str, *, allowed: bool = False) -> None:
    """Raises UsageError where the backup is foreign, and that was not asked for."""
    if doubt and not allowed:
        raise UsageError(
            f"{name} is not known to be a backup of this server: {doubt.removeprefix('foreign: ')}",
            remedy="hubbackup config says how to carry the key of another server over."
            f" Where you know whose backup it is: hubbackup restore … --foreign, or hubbackup adopt {name}",
        )


def _check_database(source: Source, selector: BackupSelector) -> None:
    """Raises UsageError where the backup is of another database than the one it would replace."""
    name = BackupName.parse(source.name)
    of = source.manifest.database if source.manifest is not None else name.database if name is not None else ""
    if of and of != selector.database and not selector.any_database:
        raise UsageError(
            f"{source.name} is a backup of the database {of}, not of {selector.database}",
            remedy=f"restore it beside the others with --into NEW, or over its own with --database {of}",
        )


@contextmanager
def latest(
    run: Run,
    targets: Sequence[Target],
    database: str,
    *,
    zone: ZoneInfo,
    scratch: Path,
    identities: Identities = NO_IDENTITIES,
) -> Iterator[Source]:
    """The newest good backup of `database` in any of `targets`, the first one's copy where several have it.

    A foreign one is passed over, one in doubt (suspicious, unrestorable), and one from the future: each is named, and
    can be restored by its name.
    Raises NotFoundError.
    """
    targets = readable(run, targets, zone, database)
    chosen = newest_sound(newest_first(targets, zone, database), targets, database)
    for name, why in chosen.passed_over:
        run.log.warning(
            "source.skipped",
            message=f"{name} is passed over: {why}",
            name=name,
            remedy=f"to restore this one all the same: hubbackup restore {name}",
        )
    if chosen.backup is None:
        raise NotFoundError(
            f"there is no good backup of {database} in {', '.join(target.describe() for target in targets)}",
            remedy="hubbackup list shows what is there, and why it is not good",
        )
    backup, target = chosen.backup, chosen.targets[0]
    run.log.info("source.chosen", message=f"backup chosen: {backup.name}", name=str(backup.name), store=target.name)
    with taken(run, backup, target, scratch=scratch, identities=identities) as source:
        yield source


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
    _check_ours(name, doubt, allowed=foreign)
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
    _check_ours(str(name), judged.doubt if judged is not None else "", allowed=foreign)
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
