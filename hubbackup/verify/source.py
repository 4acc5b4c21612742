"""Where a backup is read from: the newest one, a file as typed, or an object that is downloaded first."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
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
from hubbackup.catalog.typed_name import in_path, parse_name
from hubbackup.errors import NotFoundError, NotProvenError, StoreError, StoreFullError, UsageError
from hubbackup.jobs.leftovers import Leftovers, remove_leftovers
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
S3_SCHEME = "s3://"


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
    """What the operator asks for: the newest good one of `database`, a `file`, or an object's name in S3.

    A backup of another database than `database` is refused, unless `any_database`; a foreign one, unless `foreign`.
    """

    database: str
    file: str = ""
    from_s3: str = ""
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
    remove_leftovers(run.log, [Leftovers(lambda: _remove_downloads(scratch), fields={"store": "scratch"})])
    with ExitStack() as stack:
        if selector.file and not selector.file.startswith(S3_SCHEME):
            disk, trust = next((one.disk, one.trust) for one in targets if one.disk is not None)
            source = of_file(disk, selector.file, zone, trust=trust())
        elif typed := selector.file or selector.from_s3:
            remote = next((target for target in targets if target.remote), None)
            if remote is None:
                raise UsageError("--from-s3: S3_BACKUP_BUCKET is not set", remedy="set it in .env.production")
            getting = downloaded(run, remote, typed, scratch=scratch, foreign=selector.foreign, identities=identities)
            source = stack.enter_context(getting)
        else:
            getting = latest(run, targets, selector.database, zone=zone, scratch=scratch, identities=identities)
            source = stack.enter_context(getting)
        _check_ours(source.name, source.doubt, allowed=selector.foreign)
        _check_database(source, selector)
        yield source.opened_by(identities)


def located(selector: BackupSelector, targets: Sequence[Target]) -> BackupSelector:
    """The same; where this disk has not the file of that name, the one in S3, if there is a bucket."""
    local = next(target.disk for target in targets if target.disk is not None)
    if not selector.file or selector.file.startswith(S3_SCHEME) or not any(target.remote for target in targets):
        return selector
    path = in_path(selector.file)
    if path.parent not in (Path(), Path("backups"), local.directory) or (local.directory / path.name).exists():
        return selector
    return replace(selector, file="", from_s3=path.name)


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
    targets = _readable(run, targets, zone, database)
    found = _newest_sound(run, targets, database, zone)
    if found is None:
        raise NotFoundError(
            f"there is no good backup of {database} in {', '.join(target.describe() for target in targets)}",
            remedy="hubbackup list shows what is there, and why it is not good",
        )
    backup, target = found
    run.log.info("source.chosen", message=f"backup chosen: {backup.name}", name=str(backup.name), store=target.name)
    if target.disk is not None:
        yield _of_store(target.disk, backup)
        return
    with downloaded(run, target, str(backup.name), scratch=scratch, identities=identities) as source:
        yield source


def _newest_sound(run: Run, targets: Sequence[Target], database: str, zone: ZoneInfo) -> tuple[Backup, Target] | None:
    """The newest good backup that is neither in doubt nor from the future, and the first target to take it from.

    Logs those that are passed over.
    """
    now = datetime.now(UTC)
    for backup in newest_first(targets, zone, database):
        good = [target for target in targets if backup.good_in(target.name)]
        # The manifest that was read may be another store's: what is taken must be ours where it is taken from.
        ours = next((target for target in good if target.disk is not None or _ours_in(target, backup.name)), None)
        if backup.unreadable:
            why = backup.problem
        elif backup.foreign or (good and ours is None):
            why = f"it is {backup.stranger(now) or 'foreign in the bucket'}"
        elif ours is None:
            continue
        elif strange := backup.stranger(now):
            why = f"it is {strange}"
        elif backup.doubts:
            why = "; ".join(f"it is {doubt.word}: {doubt.why}" for doubt in backup.doubts)
        else:
            return backup, ours
        run.log.warning(
            "source.skipped",
            message=f"{backup.name} is passed over: {why}",
            name=str(backup.name),
            remedy=f"to restore this one all the same: hubbackup restore {backup.name}",
        )
    return None


def _ours_in(target: Target, name: BackupName) -> bool:
    try:
        return target.manifest(name).trusted
    except (NotFoundError, NotProvenError, StoreError):
        return False


def _readable(run: Run, targets: Sequence[Target], zone: ZoneInfo, database: str) -> list[Target]:
    """The targets that can be listed: on the worst day S3 may be down, and the local copy is enough.

    Raises StoreError where none can.
    """
    readable: list[Target] = []
    problems: list[tuple[Target, StoreError]] = []
    for target in targets:
        try:
            next(newest_first([target], zone, database), None)
            readable.append(target)
        except StoreError as error:
            problems.append((target, error))
    if problems and not readable:
        raise problems[-1][1]
    for target, problem in problems:
        run.log.warning("source.unreadable", message=f"store passed over: {problem}", store=target.name)
    return readable


def of_file(local: LocalStore, typed: str, zone: ZoneInfo, *, trust: Trust) -> Source:
    """A file of the local store, by its name or path or its manifest's, or any other file that can be read here.

    Raises NotFoundError, NotProvenError where its manifest is not its own, StoreError.
    """
    path = in_path(typed)
    store = local
    if path.parent not in (Path(), local.directory):
        store = LocalStore(path.absolute().parent)
        if not store.directory.is_dir():
            raise NotFoundError(
                f"there is no {typed} here: the directory {store.directory} does not exist",
                remedy=f"a backup of {local.directory} is named by its name alone, one in S3 by --from-s3 NAME",
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


def _remove_downloads(scratch: Path) -> list[str]:
    """Remove what a killed restore had downloaded; returns the names. Caller's duty: hold the run lock."""
    found = sorted(scratch.glob(f"{SCRATCH_PREFIX}*"))
    for directory in found:
        shutil.rmtree(directory, ignore_errors=True)
    return [directory.name for directory in found]


def _of_store(local: LocalStore, backup: Backup) -> Source:
    name = str(backup.name)
    return Source(
        name,
        local.describe(),
        backup.copies[local.name].size_bytes,
        backup.started_at,
        backup.manifest,
        lambda: local.open(name),
        origin=backup.origin,
    )


def _judged_if_any(read: Callable[[BackupName], Judged], name: BackupName) -> Judged | None:
    try:
        return read(name)
    except NotFoundError:
        return None


def _origin(judged: Judged | None) -> tuple[Origin, str]:
    return (judged.origin, judged.doubt) if judged is not None else (Origin.UNPROVEN, "")
