"""The way of a backup's bytes: exec stream -> decode -> census -> gzip -> sha256 -> the `.partial` file.

Two threads with a short queue between them: the reader takes bytes off the exec stream and decodes what
compressed the way, the writer does all the rest. Nothing here waits for the network.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
from dataclasses import dataclass
from typing import Protocol

from hubbackup.census import Census, DumpFacts
from hubbackup.codecs import GzipEncoder, WayDecoder
from hubbackup.report.progress import Progress
from hubbackup.runners import Process, tool_error
from hubbackup.stream import Cancel

QUEUE_CHUNKS = 16
BATCH_BYTES = 512 << 10
"""The reader hands on so much at a time: the queue's cost per item vanishes, and 16 of them fit 8 MiB."""
TICK_SECONDS = 0.5
END = b""
"""Queued behind the dump's last byte; None, put by `stop`, ends the writer without closing the gzip stream."""


class Sink(Protocol):
    """Where the gzip bytes go: a store's draft."""

    def write(self, data: bytes | memoryview) -> None: ...


@dataclass(frozen=True)
class Pumped:
    """A dump that ran to its end: what was seen of it, and what the file must be."""

    facts: DumpFacts
    stored_bytes: int
    sha256: str


def pump(process: Process, sink: Sink, *, level: int, cancel: Cancel, progress: Progress) -> Pumped:
    """Move the whole dump into `sink` and prove what can be proved on the way.

    Raises ToolError where pg_dump ended with an error, StreamError where its stream broke off, NotProvenError
    where what came is no whole dump, StoreError where `sink` can't take it.
    """
    writer = _Writer(sink, level)
    writer.start()
    try:
        decoder = WayDecoder()
        batch: list[bytes] = []
        batch_bytes = plain_bytes = 0
        for chunk in process.chunks():
            for plain in decoder.pieces(chunk):
                batch.append(plain)
                batch_bytes += len(plain)
                if batch_bytes >= BATCH_BYTES:
                    writer.put(b"".join(batch), cancel)
                    plain_bytes += batch_bytes
                    batch, batch_bytes = [], 0
                    progress(plain_bytes)
        end = process.wait()
        if end.code != 0:
            raise tool_error("pg_dump", end)
        decoder.finish()
        if batch_bytes:
            writer.put(b"".join(batch), cancel)
        return writer.finish(cancel)
    finally:
        writer.stop()


class _Writer(threading.Thread):
    """Census, gzip, sha256 and the file, behind a bounded queue."""

    def __init__(self, sink: Sink, level: int) -> None:
        super().__init__(name="writer", daemon=True)
        self._sink = sink
        self._queue: queue.Queue[bytes | None] = queue.Queue(QUEUE_CHUNKS)
        self._census = Census()
        self._encoder = GzipEncoder(level)
        self._digest = hashlib.sha256()
        self._stored_bytes = 0
        self._error: BaseException | None = None
        self._stopped = threading.Event()

    def run(self) -> None:
        try:
            while (plain := self._queue.get()) is not None and not self._stopped.is_set():
                if plain == END:
                    self._store(self._encoder.finish())
                    return
                self._census.feed(plain)
                self._store(self._encoder.encode(plain))
        except BaseException as error:  # noqa: BLE001 - handed to the reader, which raises it
            self._error = error

    def _store(self, data: bytes) -> None:
        if data:
            self._digest.update(data)
            self._sink.write(data)
            self._stored_bytes += len(data)

    def put(self, plain: bytes, cancel: Cancel) -> None:
        """Queue a chunk; raises what stopped the writer, if anything did."""
        while True:
            cancel.check()
            if self._error is not None:
                raise self._error
            try:
                self._queue.put(plain, timeout=TICK_SECONDS)
                return
            except queue.Full:
                continue

    def finish(self, cancel: Cancel) -> Pumped:
        """Wait for the last byte to be written; raises NotProvenError where the dump was not whole."""
        self.put(END, cancel)
        while self.is_alive():
            self.join(TICK_SECONDS)
            cancel.check()
        if self._error is not None:
            raise self._error
        return Pumped(self._census.finish(), self._stored_bytes, self._digest.hexdigest())

    def stop(self) -> None:
        """End the thread, whatever it is at, so that the caller may close the file."""
        self._stopped.set()
        while self.is_alive():
            with contextlib.suppress(queue.Full):
                self._queue.put_nowait(None)
            self.join(0.05)
