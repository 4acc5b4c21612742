"""A directory as a store. What a power cut or a full disk leaves behind is a `.partial`, never half a file."""

from __future__ import annotations

import errno
import io
import os
import stat as stat_modes
from collections.abc import Callable, Container, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from hubbackup.errors import ExistsError, NotFoundError, StoreDeniedError, StoreError, StoreFullError
from hubbackup.stores import PARTIAL_SUFFIX, Entry, check_name, check_range, follow_by_writing, is_flat_name
from hubbackup.stores.final_name import give_name
from hubbackup.streams.growing_file import CHUNK_BYTES, GrowingFile

PRIVATE = 0o600
"""Its owner's alone."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_MISSING = {errno.ENOENT, errno.ENOTDIR}


class LocalStore:
    """Regular files directly in `directory`. Symbolic links and hidden files there are not seen and not touched.

    `is_ours` says of a file's name whether this program may have begun it: `remove_leftovers` takes no
    other's draft. `mode` is that of a published file; a draft is its owner's alone.
    """

    remote = False

    def __init__(
        self,
        directory: Path,
        *,
        name: str = "local",
        is_ours: Callable[[str], bool] = lambda name: True,
        mode: int = PRIVATE,
    ) -> None:
        self.name = name
        self.directory = directory
        self.mode = mode
        self._is_ours = is_ours

    def describe(self) -> str:
        """The directory."""
        return str(self.directory)

    def free_bytes(self) -> int:
        """What an unprivileged process can still write here. Raises StoreError."""
        with _errors_of(self.directory, "could not be looked at"):
            figures = os.statvfs(self.directory)
        return figures.f_bavail * figures.f_frsize

    def disk_bytes(self) -> int:
        """The size of the disk, free or not. Raises StoreError."""
        with _errors_of(self.directory, "could not be looked at"):
            figures = os.statvfs(self.directory)
        return figures.f_blocks * figures.f_frsize

    def create(
        self,
        name: str,
        metadata: dict[str, str] | None = None,
        *,
        dated: datetime | None = None,
        replacing: bool = False,
    ) -> LocalDraft:
        """Begin `<name>.partial`, readable by its owner only; see `Store.create`."""
        final = self.directory / check_name(name)
        if os.path.lexists(final):
            if not replacing:
                raise self._taken(final)
            self.stat(name)  # only a regular file is replaced
        return self._draft(final, dated, replacing=replacing)

    def replace(
        self, name: str, data: bytes, metadata: dict[str, str] | None = None, *, dated: datetime | None = None
    ) -> None:
        """Put a small whole file in the place of `name`; see `Store.replace`."""
        with self.create(name, dated=dated, replacing=True) as draft:
            draft.write(data)
            draft.commit()

    def _draft(self, final: Path, dated: datetime | None, *, replacing: bool) -> LocalDraft:
        partial = final.with_name(final.name + PARTIAL_SUFFIX)
        # O_EXCL never follows or opens what is there already: not a symlink, not another run's draft.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with _errors_of(self.directory, f"does not let {partial.name} be created", but=(FileExistsError,)):
                descriptor = os.open(partial, flags, PRIVATE)
        except FileExistsError as error:
            raise self._taken(partial) from error
        return LocalDraft(self, final, partial, descriptor, dated, replacing=replacing)

    def open(self, name: str, *, start: int = 0, end: int | None = None) -> AbstractContextManager[BinaryIO]:
        """The file's bytes; see `Store.open`. What is not a regular file counts as not there."""
        self.stat(name)
        check_range(name, start, end)
        # Should it turn into something else this moment: a link is not followed, a FIFO's other end not waited for.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        with _errors_of(self.directory, f"does not let {name} be read"):
            descriptor = os.open(self.directory / name, flags)
        file = _ReadFile(descriptor, self.directory / name, None if end is None else end - start)
        if start:
            file.seek(start)
        return io.BufferedReader(file, CHUNK_BYTES)

    def stat(self, name: str) -> Entry:
        """Raises NotFoundError, StoreError."""
        try:
            with _errors_of(self.directory, f"does not let {name} be looked at", but=(FileNotFoundError,)):
                figures = os.lstat(self.directory / check_name(name))
        except FileNotFoundError as error:
            raise self._no_such(name) from error
        if not stat_modes.S_ISREG(figures.st_mode):
            raise self._no_such(name)
        return _entry(name, figures)

    def entries(self) -> Iterator[Entry]:
        """Every whole file in byte order of names; one that vanishes meanwhile is left out."""
        # Code points and UTF-8 bytes sort alike, so plain `sorted` is byte order.
        for name in sorted(self._regular_files(is_flat_name)):
            figures = None
            with suppress(OSError):
                figures = os.lstat(f"{self.directory}/{name}")  # a hundred thousand times: no Path, no mapping
            if figures is not None and stat_modes.S_ISREG(figures.st_mode):
                yield _entry(name, figures)
                continue
            try:
                yield self.stat(name)
            except NotFoundError:
                if not self.directory.is_dir():  # then not this file vanished, and half a list is not a list
                    raise

    def delete(self, name: str) -> None:
        """Remove a file for good (the directory is synced); one that is gone already is not an error."""
        try:
            self.stat(name)
        except NotFoundError as error:
            if os.path.lexists(self.directory / name):
                raise StoreError(f"{self.directory / name} is not a regular file, so it was left alone") from error
            return
        with _errors_of(self.directory, f"does not let {name} be removed"):
            (self.directory / name).unlink(missing_ok=True)
        # A prune removes the manifest first: a power cut must not bring it back without its backup.
        self.sync_directory()

    def remove_leftovers(self, known: Container[str] = frozenset()) -> list[str]:
        """Remove the `.partial` files of ours; returns their names, sorted."""

        def is_our_draft(name: str) -> bool:
            stem = name.removesuffix(PARTIAL_SUFFIX)
            return stem != name and is_flat_name(stem) and self._is_ours(stem)

        names = sorted(self._regular_files(is_our_draft))
        with _errors_of(self.directory, "does not let drafts be removed"):
            for name in names:
                (self.directory / name).unlink(missing_ok=True)
        return names

    def begun(self) -> list[str]:
        """The names of ours that were ever begun here and not removed: whole files, and drafts. Raises StoreError."""
        names = self._regular_files(lambda name: self._is_ours(name.removesuffix(PARTIAL_SUFFIX)))
        return sorted({name.removesuffix(PARTIAL_SUFFIX) for name in names})

    def _regular_files(self, wanted: Callable[[str], bool]) -> Iterator[str]:
        with _errors_of(self.directory, "could not be listed"), os.scandir(self.directory) as entries:
            for entry in entries:
                if wanted(entry.name) and entry.is_file(follow_symlinks=False):
                    yield entry.name

    def sync_directory(self) -> None:
        """Make the names of now survive a power cut. Raises StoreError."""
        with _errors_of(self.directory, "could not be synced"):
            descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _taken(self, path: Path) -> ExistsError:
        if path.name.endswith(PARTIAL_SUFFIX):
            return ExistsError(
                f"{path} exists already: another run writes it, or one that died has left it",
                remedy="a regular file there is removed at the start of the next run; anything else, remove by hand",
            )
        return ExistsError(f"{path} exists already, and a store never overwrites")

    def _no_such(self, name: str) -> NotFoundError:
        return NotFoundError(
            f"there is no file {name} in {self.directory}",
            remedy="`hubbackup list` prints the names there are",
        )


class LocalDraft:
    """A `.partial` being written: `name` is its final name, `path` where it is now, `growing` for its followers."""

    def __init__(
        self,
        store: LocalStore,
        final: Path,
        partial: Path,
        descriptor: int,
        dated: datetime | None = None,
        *,
        replacing: bool = False,
    ) -> None:
        self.name = final.name
        self.path = partial
        self.size_bytes = 0
        self.remark = ""
        self.growing = GrowingFile(partial)
        self._store = store
        self._final = final
        self._descriptor = descriptor
        self._dated = dated
        self._replacing = replacing
        self._identity = _identity(os.fstat(descriptor))
        self._synced = False
        self._entry: Entry | None = None

    def __enter__(self) -> LocalDraft:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.abort()

    def write(self, data: bytes | memoryview) -> None:
        """Append `data` and let followers see it. Raises StoreFullError, StoreError."""
        if self._synced or self._descriptor < 0:
            raise StoreError(f"{self._final.name} is not being written any more")
        rest = memoryview(data).cast("B")
        while rest:
            with self._errors(f"took {self.size_bytes:,} bytes of {self._final.name} and not the next {len(rest):,}"):
                written = os.write(self._descriptor, rest)
            self.size_bytes += written
            rest = rest[written:]
        self.growing.advance(self.size_bytes)

    def follow(self, source: GrowingFile) -> None:
        """Append all of `source`; see `Draft.follow`."""
        follow_by_writing(self, source)

    def sync(self) -> None:
        """End the writing: the bytes are on the disk (a full one may only say so now), and followers may finish.

        After it `path` can be read back as it will be published; a `write` is an error.
        """
        if self._synced:
            return
        if self._descriptor < 0:
            raise StoreError(f"{self._final.name} is not being written any more")
        if self._dated is not None:
            with suppress(OSError):  # only for who looks at the directory
                os.utime(self._descriptor, (self._dated.timestamp(),) * 2)
        with self._errors(f"could not make the {self.size_bytes:,} bytes of {self._final.name} durable"):
            os.fsync(self._descriptor)
        self._synced = True
        self.growing.finish()

    def commit(self) -> Entry:
        """Make it durable and publish it under its final name; a draft that is `replacing` another's, which goes.

        Raises ExistsError, StoreError.
        """
        if self._entry is not None:
            return self._entry
        self.sync()
        figures = os.fstat(self._descriptor)
        if figures.st_size != self.size_bytes or self._identity != _identity_at(self.path):
            raise StoreError(f"{self.path} was changed or replaced by someone else while it was written")
        if self._store.mode != PRIVATE:
            with self._errors(f"does not let {self._final.name} have the mode {self._store.mode:04o}"):
                os.fchmod(self._descriptor, self._store.mode)
        try:
            with (
                self._errors(f"does not let {self._final.name} be published", but=(FileExistsError,)),
                self.growing.renaming(self._final),
            ):
                (os.replace if self._replacing else give_name)(self.path, self._final)
        except FileExistsError as error:
            raise ExistsError(f"{self._final} exists already, and a store never overwrites") from error
        with suppress(OSError):  # a second name of the same file; `remove_leftovers` would remove it, too
            self.path.unlink()
        try:
            self._store.sync_directory()
        except StoreError:
            # Nobody knows whether the name survives a power cut: then better none, and the caller gets the error.
            if not self._replacing:  # else the old one is there after it, or the new one
                with suppress(OSError):
                    self._final.unlink()
            raise
        self.path = self._final
        self._close()
        self._entry = Entry(self._final.name, figures.st_size, datetime.fromtimestamp(figures.st_mtime, UTC))
        return self._entry

    def abort(self) -> None:
        """Remove the `.partial` (where it is still ours); followers get SourceFailedError. Never raises."""
        if self._descriptor < 0:
            return
        self.growing.fail()
        with suppress(OSError):  # what can't be removed now, `remove_leftovers` removes at the next start
            if self._identity == _identity_at(self.path):
                self.path.unlink()
        self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        with suppress(OSError):  # all was synced, or is given up: close has nothing to add
            os.close(descriptor)

    def _errors(self, what: str, *, but: tuple[type[OSError], ...] = ()) -> AbstractContextManager[None]:
        return _errors_of(self._final.parent, what, but=but)


class _ReadFile(io.FileIO):
    """A file opened for reading whose OSErrors leave as StoreError; `limit_bytes` of it, where that is not None."""

    def __init__(self, descriptor: int, path: Path, limit_bytes: int | None = None) -> None:
        super().__init__(descriptor, "rb")
        self._path = path
        self._left_bytes = limit_bytes

    def readinto(self, buffer: bytearray | memoryview, /) -> int | None:  # type: ignore[override]
        with _errors_of(self._path.parent, f"could not give back the bytes of {self._path.name}"):
            if self._left_bytes is None:
                return super().readinto(buffer)
            count = super().readinto(memoryview(buffer)[: self._left_bytes])
            self._left_bytes -= count or 0
            return count

    def readall(self) -> bytes:
        if self._left_bytes is not None:
            buffer, data = bytearray(min(self._left_bytes, CHUNK_BYTES)), bytearray()
            while count := self.readinto(buffer):
                data += memoryview(buffer)[:count]
            return bytes(data)
        with _errors_of(self._path.parent, f"could not give back the bytes of {self._path.name}"):
            return super().readall()


def _entry(name: str, figures: os.stat_result) -> Entry:
    return Entry(name, figures.st_size, datetime.fromtimestamp(figures.st_mtime, UTC))


@contextmanager
def _errors_of(directory: Path, what: str, *, but: tuple[type[OSError], ...] = ()) -> Iterator[None]:
    """Map OSError; the kinds in `but` are left for the caller to word, unless the directory itself is gone."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFullError(
                f"no space left in {directory}: it {what}; {_space(directory)}",
                remedy="lower BACKUP_RETENTION_DAYS, then: hubbackup prune; or free some space there",
            ) from error
        if error.errno in _DENIED:
            raise StoreDeniedError(
                f"{directory} {what}: {error.strerror}",
                remedy=f"let user id {os.geteuid()} write to {directory} (chown, chmod), and see that "
                "docker-compose.backup.yml mounts it read-write",
            ) from error
        if error.errno in _MISSING and directory.exists() and not directory.is_dir():
            raise StoreError(
                f"{directory} is a file, and no directory for backups",
                remedy="set BACKUP_DIR to a directory, or mount one there in docker-compose.backup.yml",
            ) from error
        if error.errno in _MISSING and not directory.is_dir():
            raise NotFoundError(
                f"the directory {directory} does not exist",
                remedy=f"create it (mkdir -p {directory}) and mount it in docker-compose.backup.yml, "
                "or set BACKUP_DIR to the right one",
            ) from error
        if isinstance(error, but):
            raise
        raise StoreError(f"{directory} {what}: {error.strerror}") from error


def _space(directory: Path) -> str:
    try:
        figures = os.statvfs(directory)
    except OSError:
        return "how much is free could not be found out"
    return f"{figures.f_bavail * figures.f_frsize:,} of {figures.f_blocks * figures.f_frsize:,} bytes are free"


def _identity(figures: os.stat_result) -> tuple[int, int]:
    return figures.st_dev, figures.st_ino


def _identity_at(path: Path) -> tuple[int, int] | None:
    try:
        return _identity(path.lstat())
    except OSError:
        return None
