"""A file that is read while it grows, and slices of a file."""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

CHUNK_BYTES = 1 << 20


class SourceFailedError(Exception):
    """The writer of a growing file gave up, so its readers have nothing to finish."""


class GrowingFile:
    """A file that one thread writes while others read what is already there.

    The writer calls `advance(total)` after each write that reached the file, then `finish()` or `fail()` once.
    A reader calls `wait_for(n)`, and reads the bytes through a `FileSlice`, or opens the file once and keeps it.
    The file may be given its final name while it is being followed (`renaming`). A file that is complete from
    the start is `GrowingFile.complete(path)`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.expected_bytes = 0
        """About how large it will be, where the writer knows (else 0)."""
        self._size_bytes = 0
        self._finished = False
        self._failed = False
        self._changed = threading.Condition()

    @classmethod
    def complete(cls, path: Path) -> GrowingFile:
        """The view of a file that does not grow any more. Raises OSError where it can't be read."""
        growing = cls(path)
        growing.expected_bytes = path.stat().st_size
        growing.advance(growing.expected_bytes)
        growing.finish()
        return growing

    def advance(self, size_bytes: int) -> None:
        """The first `size_bytes` bytes of the file can be read now."""
        with self._changed:
            self._size_bytes = size_bytes
            self._changed.notify_all()

    def finish(self) -> None:
        """No byte will follow."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def fail(self) -> None:
        """The file will never be whole; waiting readers get SourceFailedError."""
        with self._changed:
            self._failed = True
            self._changed.notify_all()

    def wait_for(self, size_bytes: int) -> tuple[int, bool]:
        """Wait until `size_bytes` bytes are there, or the end; returns (bytes there, is that all).

        Raises SourceFailedError once the writer gave up.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._failed or self._finished or self._size_bytes >= size_bytes)
            if self._failed:
                raise SourceFailedError
            return self._size_bytes, self._finished

    def open(self) -> BinaryIO:
        """The file, under whatever name it has by now; the caller closes it, and what was read stays readable.

        Raises SourceFailedError once the writer gave up, OSError where the file can't be read.
        """
        with self._changed:
            if self._failed:
                raise SourceFailedError
            return self.path.open("rb", buffering=0)

    @contextmanager
    def renaming(self, path: Path) -> Iterator[None]:
        """The caller gives the file the name `path` inside; no reader opens it in between. Undone by a raise."""
        with self._changed:
            yield
            self.path = path


class FileSlice(io.RawIOBase):
    """A read-only, seekable window on a file: what an S3 part is sent from, again if need be, without a copy.

    `file` is a path, or the descriptor of an open file (duplicated here, and read by position: slices of one
    file don't disturb each other). `on_read(data, position)` is called for each block handed out, so that a
    checksum or a clock can ride along. A file that turns out shorter than the window is an OSError, never an
    early end: a request that was promised `size_bytes` would wait for the rest.
    """

    _descriptor = -1  # until __init__ has one: an instance that failed to open is closed too

    def __init__(
        self,
        file: Path | int,
        offset: int,
        size_bytes: int,
        on_read: Callable[[bytes, int], None] | None = None,
    ) -> None:
        self._descriptor = os.dup(file) if isinstance(file, int) else os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        self._offset = offset
        self._size_bytes = size_bytes
        self._position = 0
        self._on_read = on_read

    def __len__(self) -> int:
        return self._size_bytes

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}[whence]
        self._position = max(0, base + offset)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size_bytes - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        data = os.pread(self._descriptor, wanted, self._offset + self._position) if wanted else b""
        if wanted and not data:
            raise OSError(errno.EIO, "the file is shorter than it was")
        if self._on_read is not None and data:
            self._on_read(data, self._position)
        self._position += len(data)
        return data

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed and self._descriptor >= 0:
            os.close(self._descriptor)
        super().close()
