"""Where log lines go: a pipe that nobody may read any more, and a file that is rotated.

A log that can't be written must never hold up a backup. A pipe whose reader has stopped blocks whoever writes to
it, forever; so before each write the kernel is asked whether there is room, and after a short patience the line
is dropped and counted. poll(2) says POLLOUT of a pipe only where PIPE_BUF bytes fit, hence the portions.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import shutil
import stat
import time
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler, WatchedFileHandler
from pathlib import Path
from typing import TextIO

PATIENCE_SECONDS = 2.0
"""How long the first line waits for a reader; while it stays blocked, the following ones don't wait at all."""
PORTION_BYTES = select.PIPE_BUF
FILE_BYTES = 10 << 20
FILE_BACKUPS = 5
FIRST_MODE = 0o640


class PipeHandler(logging.Handler):
    """Writes lines to a stream's file descriptor without ever blocking for long; without one, to the stream."""

    def __init__(self, stream: TextIO, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        super().__init__()
        self._stream = stream
        self._patience_seconds = patience_seconds
        self._blocked = False
        self._torn = False
        self.dropped = 0
        try:
            self._descriptor = stream.fileno()
        except (OSError, ValueError):  # a test's StringIO
            self._descriptor = -1

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or count it as dropped."""
        try:
            line = self.format(record) + "\n"
            if self._descriptor < 0:
                self._stream.write(line)
                return
            data = line.encode("utf-8", "backslashreplace")
            if not self._write((b"\n" if self._torn else b"") + data):
                self.dropped += 1
        except Exception:  # noqa: BLE001 - a closed pipe, a line that can't be rendered: no reason to fail a run
            self.dropped += 1

    def _write(self, data: bytes) -> bool:
        """Whether all of `data` was written. A part of a line that stayed behind is ended by the next one."""
        deadline = time.monotonic() + (0.0 if self._blocked else self._patience_seconds)
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        rest = memoryview(data)
        while rest:
            ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not ready:
                self._blocked = True
                return False
            written = os.write(self._descriptor, rest[:PORTION_BYTES])
            rest = rest[written:]
            self._torn = bool(rest)
        self._blocked = False
        return True


def file_handler(path: Path, *, rotate: bool) -> logging.Handler:
    """Appends to LOG_FILE: 10 MB, and 5 older ones beside it (1 where the directory is not ours).

    Only the daemon rotates; a command line that runs at the same time follows the file to its new name, since
    two processes that rename the same files would lose some. Raises OSError where it can't be opened.
    """
    if rotate:
        return _RotatedFile(
            path, maxBytes=FILE_BYTES, backupCount=FILE_BACKUPS, encoding="utf-8", errors="backslashreplace"
        )
    return _FollowedFile(path, encoding="utf-8", errors="backslashreplace")


class _LogFile(logging.FileHandler):
    """A file that it makes has the mode of the one before it, which may be somebody's choice."""

    file_mode = FIRST_MODE

    def _open(self) -> TextIOWrapper:
        was_there = self.learn_mode()
        stream = super()._open()
        if not was_there:
            with contextlib.suppress(OSError):
                os.fchmod(stream.fileno(), self.file_mode)
        return stream

    def learn_mode(self) -> bool:
        """Remember the mode of the file, if it is there."""
        try:
            self.file_mode = stat.S_IMODE(Path(self.baseFilename).stat().st_mode)
        except OSError:
            return False
        return True


class _FollowedFile(_LogFile, WatchedFileHandler):
    """Follows the file when another process has rotated it."""


class _RotatedFile(_LogFile, RotatingFileHandler):
    """Rotated by renaming, or in a directory of another's, such as /var/log, by copying into the one file beside it.

    There the container's entry has made both for us. A line that a command writes during the copy may be lost.
    """

    def doRollover(self) -> None:
        path = Path(self.baseFilename)
        if os.access(path.parent, os.W_OK):
            self.learn_mode()
            super().doRollover()
            return
        with contextlib.suppress(OSError):  # it is another's, who has chosen its mode
            shutil.copymode(path, f"{path}.1")
        with contextlib.suppress(OSError):  # without room or an older file: the log begins anew all the same
            shutil.copyfile(path, f"{path}.1")
        os.truncate(path, 0)
