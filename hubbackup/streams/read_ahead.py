"""Reading a few chunks ahead of whoever uses them, in a thread."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Self


class ReadAhead(Iterator[bytes]):
    """The same chunks, made in a thread that is a few of them ahead of the caller; what it raises comes in its turn.

    Caller's duty: `close` it (it is a context manager), which ends the thread before what it reads is closed.
    """

    def __init__(self, chunks: Iterator[bytes], depth: int = 4) -> None:
        self._chunks = chunks
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(depth)
        self._closed = False
        self._thread = threading.Thread(target=self._read, name="read-ahead", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for chunk in self._chunks:
                self._queue.put(chunk)
                if self._closed:
                    return
            self._queue.put(None)
        except BaseException as error:  # noqa: BLE001 - raised to the caller
            self._queue.put(error)

    def __next__(self) -> bytes:
        chunk = self._queue.get()
        if isinstance(chunk, bytes):
            return chunk
        self._queue.put(chunk)  # asked again after the end, it ends again
        raise chunk or StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                self._queue.get_nowait()
            self._thread.join(0.01)
