"""A backup where it rests: found by its name or path, and read there in parts. Nothing is downloaded or removed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from zoneinfo import ZoneInfo

from hubbackup.catalog.backup import Backup, BackupName, Manifest, Mark
from hubbackup.catalog.listing import Listed, read_backups
from hubbackup.catalog.target import LocalTarget, Target
from hubbackup.catalog.typed_name import REMEDY, named, parse_name, places_of
from hubbackup.errors import NotFoundError, NotProvenError, StoreError, UsageError
from hubbackup.jobs.progress import ProgressMaker, silent
from hubbackup.stores import Entry, Store, is_flat_name
from hubbackup.stores.local import LocalStore
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.codecs import Decoder
from hubbackup.streams.format import DEFAULT_FORMAT, Format
from hubbackup.verify.index import WHOLE_FILE, index_of
from hubbackup.verify.ranges import OpenAt, Parts
from hubbackup.verify.reader import check_dump

S3_SCHEME = "s3://"


@dataclass(frozen=True)
class StoredBackup:
    """A backup's file in one place. `manifest` None: unproven. `remarks`: why not to rely on it, in sentences."""

    name: str
    where: str
    size_bytes: int
    manifest: Manifest | None
    open_at: OpenAt
    remarks: tuple[str, ...] = ()

    @property
    def format(self) -> Format:
        """What its name says that it is. A name without any format's suffix is taken for what `gunzip` reads."""
        return Format.of(self.name) or DEFAULT_FORMAT

    def demand(self, table: str) -> None:
        """Raise UsageError where it was made without the table that this means."""
        if self.manifest is not None:
            self.manifest.demand(table)

    def parts(
        self,
        *,
        cancel: Cancel,
        progress: ProgressMaker | None = None,
        new_decoder: Callable[[], Decoder] | None = None,
        digest_key: bytes | None = None,
    ) -> Parts:
        """The file, to be read in parts: by its manifest's index; without one it is read through for it, and proven.

        Raises NotProvenError, StoreError.
        """
        index = self.manifest.dump_index() if self.manifest is not None else None
        if index is not None:
            parts = Parts(self.name, self.open_at, self.format, index, cancel, digest_key, new_decoder)
            if parts.provable:
                return parts
        with progress("read", self.size_bytes) if progress is not None else nullcontext(silent) as shown:
            facts = check_dump(
                lambda: self.open_at(0, None),
                self.manifest,
                (new_decoder or self.format.decoder)(),
                name=self.name,
                cancel=cancel,
                progress=shown,
            )
        found = index_of(facts, index.members if index is not None else WHOLE_FILE)
        return Parts(self.name, self.open_at, self.format, found, cancel, None, new_decoder)


def find_stored(typed: str, targets: Sequence[Target], zone: ZoneInfo, *, foreign: bool = False) -> StoredBackup:
    """The backup that `typed` means: a name, in the first of `targets` that has a good copy, else in the first that
    has one; an address in one of them; or the path of any file.

    Raises UsageError, for a foreign one too unless `foreign` allows it; NotFoundError, NotProvenError, StoreError.
    """
    target, entry, backup = _look(typed, _places(typed, targets), zone)
    doubt = backup.problem if backup is not None and backup.foreign else ""
    if doubt and not foreign:
        raise UsageError(
            f"{entry.name} is not known to be a backup of this server: {doubt.removeprefix('foreign: ')}",
            remedy="hubbackup config says how to carry the key of another server over. Where you know whose backup it"
            f" is, add --foreign, or: hubbackup adopt {entry.name}",
        )
    return StoredBackup(
        entry.name,
        target.describe(),
        entry.size_bytes,
        backup.manifest if backup is not None else None,
        lambda start, end: target.open(entry.name, start=start, end=end),
        tuple(_remarks(entry, target, backup)),
    )


_Look = tuple[Target, Entry, Backup | None]
"""A file, where it is, and what is known of it as a backup; None for a name that is not one of ours."""


def _places(typed: str, targets: Sequence[Target]) -> list[Target]:
    """Where to look: the targets that are meant, or the directory of a path."""
    found = places_of(typed, targets)
    local = next((target for target in targets if isinstance(target, LocalTarget)), None)
    if found or local is None or typed.startswith(S3_SCHEME):
        return found or list(targets)
    directory = Path(typed).absolute().parent
    with contextlib.suppress(PermissionError):  # the store says that better
        if not directory.is_dir():
            raise NotFoundError(f"there is no {typed}: the directory {directory} does not exist", remedy=REMEDY)
    return [replace(local, store=LocalStore(directory, name=local.name))]


def _look(typed: str, places: Sequence[Target], zone: ZoneInfo) -> _Look:
    file_name = typed.rpartition("/")[2]
    name = named(file_name)
    if name is None:
        local = next((place for place in places if place.disk is not None), None)
        if local is None or not is_flat_name(file_name):
            parse_name(typed, places)  # raises
            raise NotFoundError(f"there is no {typed}", remedy=REMEDY)
        return local, local.store.stat(file_name), None
    first: _Look | None = None
    problem: StoreError | None = None
    for place in places:
        try:
            entry, backup = _known(place, name, zone)
        except NotFoundError:
            continue
        except StoreError as error:
            problem = problem or error
            continue
        if backup.good_in(place.name) and not entry.archived:
            return place, entry, backup
        first = first or (place, entry, backup)
    if first is None:
        where = ", ".join(place.describe() for place in places)
        raise problem or NotFoundError(f"there is no {name} in {where}", remedy=REMEDY)
    return first


def _known(place: Target, name: BackupName, zone: ZoneInfo) -> tuple[Entry, Backup]:
    """The file in one place, and what its manifest and marks say. Raises StoreError, NotProvenError."""
    entry = place.store.stat(str(name))
    alone = frozenset((place.name,))
    marks = {mark: alone for mark in Mark if _has(place.store, name.mark(mark))}
    manifests_in = alone if _has(place.store, name.manifest) else frozenset()
    listed = Listed(name, {place.name: entry}, manifests_in, marks)
    (backup,) = read_backups([listed], [place], zone)
    if backup.unreadable:
        raise StoreError(f"{name} can't be read: {backup.problem}")
    if backup.manifest is None and manifests_in:
        raise NotProvenError(backup.problem, remedy="without its manifest beside it, it is read as unproven")
    return entry, backup


def _has(store: Store, file_name: str) -> bool:
    try:
        store.stat(file_name)
    except NotFoundError:
        return False
    return True


def _remarks(entry: Entry, target: Target, backup: Backup | None) -> Iterator[str]:
    name = entry.name
    if entry.archived:
        yield f"{name} is archived in {target.name}: what is in it can be read only once it was thawed"
    if backup is None or backup.manifest is None:
        yield f"{name} has no manifest: nothing says that it is what it was when it was made"
        return
    if backup.foreign:
        yield f"{name} is {backup.problem}"
    if backup.bad_in(target.name):
        yield f"{name} was found damaged when it was last verified in {target.name}"
    elif backup.proven and not backup.good_in(target.name):
        yield f"{name} does not have the size in {target.name} that its manifest says"
    for doubt in backup.doubts:
        yield f"{name} is {doubt.state}: {doubt.why}"
