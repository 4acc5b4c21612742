"""A store in a dictionary, for tests: it keeps every promise of the seam, and nothing beyond the process."""

from __future__ import annotations

import io
import threading
from collections.abc import Container, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import BinaryIO

from hubbackup.errors import ExistsError, NotFoundError, StoreError
from hubbackup.stores import Entry, check_name, check_range, follow_by_writing
from hubbackup.streams.growing_file import GrowingFile


class MemoryStore:
    """Whole files by name, with their metadata. `files` may be looked at and damaged by a test."""

    def __init__(self, name: str = "memory", *, remote: bool = False) -> None:
        self.name = name
        self.remote = remote
        self.files: dict[str, bytes] = {}
        self.metadata: dict[str, dict[str, str]] = {}
        self._written_at: dict[str, datetime] = {}
        self._lock = threading.Lock()

    def describe(self) -> str:
        """`memory:`."""
        return f"{self.name}:"

    def create(
        self,
        name: str,
        metadata: dict[str, str] | None = None,
        *,
        dated: datetime | None = None,
        replacing: bool = False,
    ) -> MemoryDraft:
        """Begin a file; see `Store.create`."""
        if check_name(name) in self.files and not replacing:
            raise ExistsError(f"{name} exists already in {self.describe()}")
        return MemoryDraft(self, name, metadata or {}, replacing=replacing)

    def replace(
        self, name: str, data: bytes, metadata: dict[str, str] | None = None, *, dated: datetime | None = None
    ) -> None:
        """Put a whole file in the place of another; see `Store.replace`."""
        with self._lock:
            self.files[check_name(name)] = data
            self.metadata[name] = dict(metadata or {})
            self._written_at[name] = datetime.now(UTC)

    def open(self, name: str, *, start: int = 0, end: int | None = None) -> AbstractContextManager[BinaryIO]:
        """The file's bytes from `start` on and before `end`. Raises NotFoundError, StoreError."""
        self.stat(name)
        check_range(name, start, end)
        return io.BytesIO(self.files[name][start:end])

    def stat(self, name: str) -> Entry:
        """Raises NotFoundError."""
        if check_name(name) not in self.files:
            raise NotFoundError(f"no {name} in {self.describe()}")
        written_at = self._written_at.get(name, datetime.fromtimestamp(0, UTC))
        return Entry(name, len(self.files[name]), written_at)

    def entries(self) -> Iterator[Entry]:
        """Every file in byte order of names."""
        for name in sorted(self.files):
            yield self.stat(name)

    def delete(self, name: str) -> None:
        """Remove a file; one that is gone already is not an error."""
        self.files.pop(check_name(name), None)
        self.metadata.pop(name, None)

    def remove_leftovers(self, known: Container[str] = frozenset()) -> list[str]:
        """Nothing: a draft leaves no trace here until it is committed."""
        return []

    def publish(self, name: str, data: bytes, metadata: dict[str, str]) -> Entry:
        """Put a whole file under a free name. Raises ExistsError."""
        with self._lock:
            if name in self.files:
                raise ExistsError(f"{name} exists already in {self.describe()}")
            self.files[name] = data
            self.metadata[name] = dict(metadata)
            self._written_at[name] = datetime.now(UTC)
        return self.stat(name)


class MemoryDraft:
    """A file of a MemoryStore being written."""

    def __init__(self, store: MemoryStore, name: str, metadata: dict[str, str], *, replacing: bool = False) -> None:
        self.metadata = dict(metadata)
        self._replacing = replacing
        self.size_bytes = 0
        self.remark = ""
        self._store = store
        self._name = name
        self._data: bytearray | None = bytearray()
        self._entry: Entry | None = None

    def __enter__(self) -> MemoryDraft:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.abort()

    def write(self, data: bytes | memoryview) -> None:
        """Append `data`."""
        self._open_data().extend(data)
        self.size_bytes += memoryview(data).nbytes

    def follow(self, source: GrowingFile) -> None:
        """Append all of `source`; see `Draft.follow`."""
        follow_by_writing(self, source)

    def commit(self) -> Entry:
        """Publish it. Raises ExistsError."""
        if self._entry is None:
            data = bytes(self._open_data())
            if self._replacing:
                self._store.replace(self._name, data, self.metadata)
                self._entry = self._store.stat(self._name)
            else:
                self._entry = self._store.publish(self._name, data, self.metadata)
            self._data = None
        return self._entry

    def abort(self) -> None:
        """Drop what was written."""
        self._data = None

    def _open_data(self) -> bytearray:
        if self._data is None:
            raise StoreError(f"{self._name} is not being written any more")
        return self._data
