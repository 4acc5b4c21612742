"""The store seam: places where files rest under flat names. A store knows nothing of dumps.

`local` is a directory, `s3` a bucket and a prefix, `memory` a dictionary for tests. One contract suite
(tests/contract/test_store_contract.py) runs over all of them.

A name becomes visible only when it is whole: `create` gives a draft, `commit` publishes it under its final
name, anything else leaves nothing behind. A store never overwrites, but by `replace` and `replacing`, in one step.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

from hubbackup.errors import StoreError, UsageError
from hubbackup.streams.growing_file import CHUNK_BYTES, GrowingFile

PARTIAL_SUFFIX = ".partial"
MAX_NAME_BYTES = 255 - len(PARTIAL_SUFFIX)
"""A file name has 255 bytes on Linux, and a draft needs room for its suffix."""


def is_flat_name(name: str) -> bool:
    """True for a name that every store takes: one component of printable characters, not hidden, not a draft's."""
    return (
        name.isprintable()  # no control character, and no lone surrogate: it has bytes in UTF-8
        and not name.startswith(".")
        and "/" not in name
        and not name.endswith(PARTIAL_SUFFIX)
        and 0 < len(name.encode()) <= MAX_NAME_BYTES
    )


def check_name(name: str) -> str:
    """`name` itself. Raises UsageError where it is not a flat file name."""
    if not is_flat_name(name):
        raise UsageError(
            f"{name!a:.120} is not a file name that a store can hold",
            remedy="give the plain name of a file, as `hubbackup list` prints it: no directory, no leading dot",
        )
    return name


def check_range(name: str, start: int, end: int | None) -> None:
    """Raises StoreError where these are not the bytes from one place of a file to another."""
    if start < 0 or (end is not None and end < start):
        raise StoreError(f"{name} has no bytes from {start:,} to {'its end' if end is None else f'{end:,}'}")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a store: its flat name, its size, and when the store says it was written (aware UTC).

    `archived`: it can't be read before the store has thawed it. A listing says so of one that is thawed as well.
    """

    name: str
    size_bytes: int
    modified_at: datetime
    archived: bool = False


class Draft(Protocol):
    """A file being written, not yet visible. A context manager: leaving it without `commit` aborts."""

    size_bytes: int
    """How much of it the store has taken so far; another thread may look."""

    remark: str
    """What of it is not as it was asked for, though it is whole; mostly empty."""

    def __enter__(self) -> Draft: ...

    def __exit__(self, *exc_info: object) -> None: ...

    def write(self, data: bytes | memoryview) -> None:
        """Append `data`. Raises StoreError."""
        ...

    def follow(self, source: GrowingFile) -> None:
        """Append all of `source`, waiting for it to grow, until it is finished.

        Never slows the source's writer. Raises SourceFailedError where the writer gave up, StoreError
        where this store can't take the bytes.
        """
        ...

    def commit(self) -> Entry:
        """Make it durable, check what can be checked, publish it under its final name.

        Raises ExistsError where the name is taken, StoreError where the store does not hold what was written.
        """
        ...

    def abort(self) -> None:
        """Leave nothing behind; safe to call twice, and after `commit` it does nothing."""
        ...


class Readable(Protocol):
    """What the catalog needs of a store."""

    @property
    def name(self) -> str:
        """The word for it in logs, manifests and `--store`, such as `local` or `s3`: given when it is made."""
        ...

    @property
    def remote(self) -> bool:
        """Whether each request crosses a network, so that several are better made at once."""
        ...

    def open(self, name: str, *, start: int = 0, end: int | None = None) -> AbstractContextManager[BinaryIO]:
        """The file's bytes from `start` on and before `end` (None: all that follow), read from their start.

        What lies beyond the file's end is left out. Raises NotFoundError, StoreError.
        """
        ...

    def entries(self) -> Iterator[Entry]:
        """Every whole file in byte order of names, streamed. Raises StoreError."""
        ...


class Store(Readable, Protocol):
    """A flat name space of whole files."""

    def describe(self) -> str:
        """Where this is, for people: a directory, or `s3://bucket/prefix`; no secret."""
        ...

    def create(
        self,
        name: str,
        metadata: dict[str, str] | None = None,
        *,
        dated: datetime | None = None,
        replacing: bool = False,
    ) -> Draft:
        """Begin a file. `metadata` (ASCII) is kept where the store can (S3 user metadata), else ignored; so is
        `dated`, the time that a directory shows for the file instead of that of its writing.

        `replacing`: where the name is taken, what has it stays until the commit, which puts this one in its place
        in one step.
        Raises UsageError for a name that is not a flat file name, ExistsError where it is taken.
        """
        ...

    def replace(
        self, name: str, data: bytes, metadata: dict[str, str] | None = None, *, dated: datetime | None = None
    ) -> None:
        """Put a small whole file in the place of `name`: at each moment there is the old one or the new one, whole.

        Where there is none, it is made. `metadata` and `dated` as in `create`. Raises StoreError.
        """
        ...

    def stat(self, name: str) -> Entry:
        """Raises NotFoundError, StoreError."""
        ...

    def delete(self, name: str) -> None:
        """Remove a file; one that is gone already is not an error. Raises StoreError."""
        ...

    def remove_leftovers(self, known: Container[str] = frozenset()) -> list[str]:
        """Remove what an earlier process of ours left unfinished; returns what was removed, for the log.

        Caller's duty: hold the run lock, so that nothing removed is still being written. A store that others write
        to as well has theirs too: there only what was begun under a name that is `known` to be ours is removed, and
        of other names what is a day old.
        """
        ...


def follow_by_writing(draft: Draft, source: GrowingFile) -> None:
    """`Draft.follow` for stores that take bytes in any portion."""
    offset = 0
    try:
        with source.open() as file:
            while True:
                available, finished = source.wait_for(offset + CHUNK_BYTES)
                while offset < available:
                    data = file.read(min(CHUNK_BYTES, available - offset))
                    if not data:
                        raise StoreError(f"{source.path} is shorter than what was written to it")
                    draft.write(data)
                    offset += len(data)
                if finished:
                    return
    except OSError as error:
        raise StoreError(f"{source.path} could not be read to copy it: {error.strerror}") from error
