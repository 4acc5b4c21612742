"""Writing to stdout and stderr, which may be closed, on a full disk, or a pipe that nobody reads.

What a run did stands, whoever reads of it: there an answer that finds no reader is dropped after a while, and the
exit code is the run's. Where the answer is all there is (a list), it waits for its reader (a pager that pauses) for
as long as that takes. A signal ends the wait in either case; a plain `print` would never notice it.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import TextIO

from hubbackup.errors import HubbackupError
from hubbackup.streams.cancel import Cancel

PATIENCE_SECONDS = 10.0
"""How long the answer of a run waits for somebody to read on."""
TICK_SECONDS = 0.2


class Printer:
    """Writes for one process. `result_stands`: the command has done something, and its answer only says so."""

    def __init__(self) -> None:
        self.result_stands = False
        self._cancel: Cancel | None = None
        self._given_up: set[int] = set()

    def heed(self, cancel: Cancel) -> None:
        """From now on a signal, which `cancel` has, ends a wait for a reader."""
        self._cancel = cancel

    def write(self, stream: TextIO | None, text: str, *, long: bool = False) -> None:
        """Write `text`, or drop it where the result stands and nobody reads; a `long` one waits for its reader.

        Raises BrokenPipeError, HubbackupError where it can't be written, StoppedError at a signal; none of them
        where the result stands.
        """
        if stream is None:  # closed before we began
            return
        try:
            stream.fileno()
        except (OSError, ValueError):  # a test's StringIO
            stream.write(text)
            return
        self.write_bytes(stream, text.encode(stream.encoding or "utf-8", "backslashreplace"), long=long)

    def write_bytes(self, stream: TextIO | None, data: bytes, *, long: bool = False) -> None:
        """As `write`, of bytes that are written as they are. The stream is a real one."""
        if stream is None:
            return
        descriptor = stream.fileno()
        if descriptor in self._given_up:
            return
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
        try:
            written = self._write(descriptor, data, long=long)
        except OSError as error:
            if not self.result_stands:
                if isinstance(error, BrokenPipeError):
                    raise
                raise HubbackupError(
                    f"the answer could not be written: {error.strerror}", remedy="write it somewhere else"
                ) from error
            written = False
        if not written:
            self._given_up.add(descriptor)

    def _write(self, descriptor: int, data: bytes, *, long: bool) -> bool:
        """Whether all of it was taken."""
        bounded = self.result_stands and not long and not os.isatty(descriptor)
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        rest, waiting_since = memoryview(data), time.monotonic()
        while rest:
            if poll.poll(TICK_SECONDS * 1000):
                # poll says of a pipe that it can be written to only where so much fits: no write ever blocks.
                rest = rest[os.write(descriptor, rest[: select.PIPE_BUF]) :]
                waiting_since = time.monotonic()
                continue
            if self._cancel is not None and self._cancel.is_set():
                if self.result_stands:
                    return False
                self._cancel.check()
            if bounded and time.monotonic() - waiting_since > PATIENCE_SECONDS:
                return False
        return True


PRINTER = Printer()
"""Of this process."""
