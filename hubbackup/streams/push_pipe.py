"""A function that reads one file and writes another, driven from outside: pushed a piece, it gives what it made.

For libraries that want to pull their input. The function works in a thread of its own, but only while its caller
waits: the two take turns, so that nothing is queued and memory stays flat.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any


class AbandonedError(Exception):
    """Raised inside the function once nobody waits for its work any more."""


@dataclass(frozen=True)
class _Answer:
    made: bytes
    ended: bool = False
    error: BaseException | None = None


END = b""
"""Pushed behind the last byte."""
Order = bytes | memoryview | None
"""What to read next; None: give up."""


class Ends:
    """Both ends that the function gets: it reads here what is pushed, and writes here what it makes."""

    def __init__(self) -> None:
        self.orders: SimpleQueue[Order] = SimpleQueue()
        self.answers: SimpleQueue[_Answer] = SimpleQueue()
        self._left = memoryview(b"")
        self._made = bytearray()
        self._at_end = False

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; empty at the end."""
        while not self._left and not self._at_end:
            self.answers.put(_Answer(self.take()))
            self.wait()
        count = len(self._left) if size < 0 else size
        data = bytes(self._left[:count])
        self._left = self._left[count:]
        return data

    def write(self, data: bytes) -> int:
        """All of it."""
        self._made += data
        return len(data)

    def flush(self) -> None:
        """There is nothing to flush: what was made is taken at the next turn."""

    def take(self) -> bytes:
        """What was made since it was last taken."""
        made = bytes(self._made)
        self._made.clear()
        return made

    def wait(self) -> None:
        """For the next turn. Raises AbandonedError."""
        order = self.orders.get()
        if order is None:
            raise AbandonedError
        self._left = memoryview(order)
        self._at_end = not order


class PushPipe:
    """Caller's duty: `close` it. One that was forgotten ends its thread when it is collected."""

    def __init__(self, work: Callable[[Any, Any], object]) -> None:
        """`work` takes a reader and a writer."""
        self._ends = Ends()
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=_run, args=(work, self._ends), name="push-pipe", daemon=True)
        self._let_go = weakref.finalize(self, self._ends.orders.put, None)
        self._thread.start()

    def push(self, data: bytes | memoryview) -> bytes:
        """What `data` completes. Raises what the function raised."""
        return self._turn(data) if data else b""

    def finish(self) -> bytes:
        """The last bytes. Raises what the function raised."""
        return self._turn(END) if not self._ended else b""

    def close(self) -> None:
        """End the thread, wherever it is."""
        self._let_go()
        self._thread.join()

    def _turn(self, data: bytes | memoryview) -> bytes:
        if self._error is not None:
            raise self._error
        self._ends.orders.put(data)
        answer = self._ends.answers.get()
        self._ended = answer.ended
        if answer.error is not None:
            self._error = answer.error
            raise answer.error
        return answer.made


def _run(work: Callable[[Any, Any], object], ends: Ends) -> None:
    """Not a method: a thread that held the pipe would keep it from being collected."""
    error: BaseException | None = None
    try:
        ends.wait()
        work(ends, ends)
    except BaseException as raised:  # noqa: BLE001 - raised to the caller
        error = raised
    ends.answers.put(_Answer(ends.take(), ended=True, error=error))
