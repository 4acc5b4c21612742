"""The way of a backup's bytes: a process's stdout -> decode -> census -> gzip -> sha256 -> the `.partial` file.

Two threads with a short queue of bytes between them: the reader takes them off the process's stdout, so that
pg_dump never waits for our work, and the writer does all the rest on one piece at a time, while it is in the
processor's cache. Nothing here waits for the network.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
import time
from dataclasses import dataclass
from typing import Protocol

from hubbackup.errors import RunnerError
from hubbackup.jobs.progress import Progress
from hubbackup.postgres.census import Census, DumpFacts
from hubbackup.runners import Process, tool_error
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.codecs import Compression, Encoder, SniffingDecoder, encoder_for

BATCH_BYTES = 256 << 10
"""The reader hands on so much at a time, or all that one read brought: the queue's cost per item vanishes."""
QUEUE_BATCHES = 4
"""Of up to a megabyte each; behind them are the buffers of pipes and sockets. More cost memory and gain nothing."""
LIMITED_QUEUE_BATCHES = 1
"""With a rate limit, what waits here was taken from the database faster than was asked for."""
TICK_SECONDS = 0.5
END = b""
"""Queued behind the dump's last byte; None, put by `stop`, ends the writer without closing the encoder's stream."""


class Sink(Protocol):
    """Where the file's bytes go: a store's draft."""

    def write(self, data: bytes | memoryview) -> None: ...


@dataclass(frozen=True)
class AtRest:
    """What the file is to be, and how fast it may be made: `bytes_per_second` of plain dump, 0 for no limit."""

    compression: Compression = Compression.GZIP
    level: int = 1
    bytes_per_second: int = 0


@dataclass(frozen=True)
class DumpResult:
    """A dump that ran to its end: what was seen of it, and what the file must be."""

    facts: DumpFacts
    stored_bytes: int
    sha256: str


def pump(
    process: Process, sink: Sink, at_rest: AtRest, *, keep: bool = False, cancel: Cancel, progress: Progress
) -> DumpResult:
    """Move the whole dump into `sink` and prove what can be proved on the way.

    `keep`: zstd is stored as it comes, where the file is to be zstd; otherwise it is only for the way.
    Raises ToolError where pg_dump ended with an error, StreamError where its stream broke off, NotProvenError
    where what came is not a whole dump, StoreError where `sink` can't take it.
    """
    writer = _Writer(sink, at_rest, keep=keep)
    writer.start()
    try:
        batch: list[bytes] = []
        batch_bytes = 0
        for chunk in process.chunks():
            batch.append(bytes(chunk))
            batch_bytes += len(chunk)
            if batch_bytes >= BATCH_BYTES:  # so the first of them tells what it is compressed with
                writer.put(b"".join(batch), process, cancel)
                batch, batch_bytes = [], 0
                progress(writer.plain_bytes)
        end = process.wait()
        if end.code != 0:
            raise tool_error("pg_dump", end)
        if batch:
            writer.put(b"".join(batch), process, cancel)
        return writer.finish(process, cancel)
    finally:
        writer.stop()


class _Writer(threading.Thread):
    """Decoder, census, encoder, sha256 and the file, behind a bounded queue."""

    def __init__(self, sink: Sink, at_rest: AtRest, *, keep: bool) -> None:
        super().__init__(name="writer", daemon=True)
        limited = at_rest.bytes_per_second > 0
        self.plain_bytes = 0
        self._sink = sink
        self._at_rest = at_rest
        self._keep = keep
        self._queue: queue.Queue[bytes | None] = queue.Queue(LIMITED_QUEUE_BATCHES if limited else QUEUE_BATCHES)
        self._decoder = SniffingDecoder()
        self._census = Census()
        self._encoder: Encoder = encoder_for(at_rest.compression, at_rest.level)
        self._digest = hashlib.sha256()
        self._stored_bytes = 0
        self._free_at = 0.0
        self._error: BaseException | None = None
        self._hurried = threading.Event()
        self._stopped = threading.Event()

    def run(self) -> None:
        try:
            while (data := self._queue.get()) is not None and not self._stopped.is_set():
                if data == END:
                    self._decoder.finish()
                    if not self._as_it_comes:
                        self._store(self._encoder.finish())
                    return
                self._take(data)
        except BaseException as error:  # noqa: BLE001 - handed to the reader, which raises it
            self._error = error

    @property
    def _as_it_comes(self) -> bool:
        """Whether pg_dump's own zstd is what is stored."""
        return self._keep and self._decoder.found is self._at_rest.compression is Compression.ZSTD

    def _take(self, data: bytes) -> None:
        for plain in self._decoder.pieces(data):
            self._census.feed(plain)
            self.plain_bytes += len(plain)
            if not self._as_it_comes:
                self._store(self._encoder.encode(plain))
            self._wait_for_the_limit(len(plain))
        if self._as_it_comes:
            self._store(data)

    def _wait_for_the_limit(self, taken_bytes: int) -> None:
        """Time in which nothing came (a lock, a large index) is not made up for: no burst follows it."""
        if self._at_rest.bytes_per_second:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + taken_bytes / self._at_rest.bytes_per_second
            self._hurried.wait(self._free_at - now)

    def _store(self, data: bytes) -> None:
        if data:
            self._digest.update(data)
            self._sink.write(data)
            self._stored_bytes += len(data)

    def put(self, data: bytes, process: Process, cancel: Cancel) -> None:
        """Queue what came; raises what stopped the writer, if anything did."""
        while True:
            cancel.check()
            if self._error is not None:
                raise self._error
            try:
                self._queue.put(data, timeout=TICK_SECONDS)
                return
            except queue.Full:
                # What a command wrote before it ended is dropped by the engine after two seconds: read it at once.
                if self._at_rest.bytes_per_second and _ended(process):
                    self._hurried.set()

    def finish(self, process: Process, cancel: Cancel) -> DumpResult:
        """Wait for the last byte to be written; raises NotProvenError where the dump was not whole."""
        self._hurried.set()  # the database is free: there is nothing left to be kind to
        self.put(END, process, cancel)
        while self.is_alive():
            self.join(TICK_SECONDS)
            cancel.check()
        if self._error is not None:
            raise self._error
        return DumpResult(self._census.finish(), self._stored_bytes, self._digest.hexdigest())

    def stop(self) -> None:
        """End the thread, whatever it is at, so that the caller may close the file."""
        self._stopped.set()
        self._hurried.set()
        while self.is_alive():
            with contextlib.suppress(queue.Full):
                self._queue.put_nowait(None)
            self.join(0.05)


def _ended(process: Process) -> bool:
    """Whether the command has ended; where that can't be told now, it goes on, and `wait` will tell."""
    try:
        return not process.running()
    except RunnerError:
        return False
