"""The path of a backup's bytes: a process's stdout -> decode -> census -> encode -> sha256 -> the `.partial` file.

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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hubbackup.dump.census import Census, DumpFacts
from hubbackup.dump.copy_blocks import Cuts
from hubbackup.errors import RunnerError
from hubbackup.jobs.progress import Progress
from hubbackup.runners import Process, tool_error
from hubbackup.streams.age_keys import Recipient
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.codecs import Encoder, Member, MemberEncoder, SniffingDecoder
from hubbackup.streams.format import DEFAULT_FORMAT, Format

BATCH_BYTES = 256 << 10
"""Batch size of the reader, or all that one read brought: large enough that the queue's cost does not matter."""
QUEUE_BATCHES = 4
"""Of up to a megabyte each; behind them are the buffers of pipes and sockets. More cost memory and gain nothing."""
LIMITED_QUEUE_BATCHES = 1
"""With a rate limit, what is queued was read faster than the limit allows: keep it short."""
TICK_SECONDS = 0.5
END = b""
"""Queued behind the dump's last byte; None, put by `stop`, ends the writer without closing the encoder's stream."""


Observer = Callable[[bytes], object]
"""Looks at bytes that pass, or takes them; what it returns is ignored."""


class Sink(Protocol):
    """Where the file's bytes go: a store's draft."""

    def write(self, data: bytes | memoryview) -> None: ...


@dataclass(frozen=True)
class FileOptions:
    """What the file is to be, and how fast it may be made: `bytes_per_second` of plain dump, 0 for no limit."""

    format: Format = DEFAULT_FORMAT
    level: int = 1
    bytes_per_second: int = 0
    recipients: tuple[Recipient, ...] = ()
    """For whom a sealed file is sealed."""


@dataclass(frozen=True)
class DumpResult:
    """A dump that ran to its end: what was seen of it, what the file must be, and where it can be entered."""

    facts: DumpFacts
    stored_bytes: int
    sha256: str
    members: tuple[Member, ...]


class Filters:
    """What a dump meets on its way: observers of its plain bytes, encoders, and takers of the stored bytes.

    `compressor` comes first, and each of `encoders` takes what the one before it gives. All work on one piece at a
    time, in the order given.
    """

    def __init__(
        self,
        on_plain: Sequence[Observer],
        compressor: MemberEncoder,
        encoders: Sequence[Encoder],
        on_stored: Sequence[Observer],
    ) -> None:
        self.plain_bytes = 0
        self.stored_bytes = 0
        self.compressor = compressor
        self._on_plain = on_plain
        self._encoders = encoders
        self._on_stored = on_stored

    def look_at(self, plain: bytes) -> None:
        """Show the next piece of the plain dump to those who look at it."""
        for observe in self._on_plain:
            observe(plain)
        self.plain_bytes += len(plain)

    def store(self, plain: bytes, cuts: Sequence[int] = ()) -> None:
        """Send the piece that was looked at last through the encoders to the file.

        `cuts`: where in the plain dump, within this piece, the file gets a new member.
        """
        first, begin = self.plain_bytes - len(plain), 0
        for cut in cuts:
            if cut > first + begin:
                self._pass_on(self.compressor.encode(plain[begin : cut - first]))
            self._pass_on(self.compressor.cut())
            begin = cut - first
        self._pass_on(self.compressor.encode(plain[begin:] if begin else plain))

    def finish(self) -> None:
        """End the file with what the encoders still hold."""
        self._pass_on(self.compressor.finish())
        for number, encoder in enumerate(self._encoders):
            self._pass_on(encoder.finish(), passed=number + 1)

    def _pass_on(self, data: bytes, passed: int = 0) -> None:
        """To the encoders behind the compressor, but for the first `passed` of them, and to the file."""
        for encoder in self._encoders[passed:]:
            data = encoder.encode(data)
        if data:
            for take in self._on_stored:
                take(data)
            self.stored_bytes += len(data)


def pump(
    process: Process,
    sink: Sink,
    options: FileOptions,
    *,
    cancel: Cancel,
    progress: Progress,
    on_schema: Observer | None = None,
) -> DumpResult:
    """Move the whole dump into `sink` and prove what can be proved on the way.

    `on_schema` is given the text of the schema, a statement at a time.
    Raises ToolError where pg_dump ended with an error, StreamError where its stream broke off, NotProvenError
    where what came is not a whole dump, StoreError where `sink` can't take it.
    """
    cuts, digest = Cuts(), hashlib.sha256()
    census, compressor = Census(on_schema, cuts), options.format.compressor(options.level)
    encoders = options.format.encoders(options.recipients)
    filters = Filters([census.feed], compressor, encoders, [digest.update, sink.write])
    writer = _Writer(filters, cuts, options)
    writer.start()
    try:
        batch: list[bytes] = []
        batch_bytes = 0
        for chunk in process.chunks():
            batch.append(bytes(chunk))
            batch_bytes += len(chunk)
            if batch_bytes >= BATCH_BYTES:  # so the first of them shows what it is compressed with
                writer.put(b"".join(batch), process, cancel)
                batch, batch_bytes = [], 0
                progress(filters.plain_bytes)
        end = process.wait()
        if end.code != 0:
            raise tool_error("pg_dump", end)
        if batch:
            writer.put(b"".join(batch), process, cancel)
        writer.finish(process, cancel)
    finally:
        writer.stop()
        for encoder in encoders:
            encoder.close()
    return DumpResult(census.finish(), filters.stored_bytes, digest.hexdigest(), tuple(compressor.members))


class _Writer(threading.Thread):
    """The decoder and the filters, behind a bounded queue."""

    def __init__(self, filters: Filters, cuts: Cuts, options: FileOptions) -> None:
        super().__init__(name="writer", daemon=True)
        limited = options.bytes_per_second > 0
        self._filters = filters
        self._cuts = cuts
        self._options = options
        self._queue: queue.Queue[bytes | None] = queue.Queue(LIMITED_QUEUE_BATCHES if limited else QUEUE_BATCHES)
        self._decoder = SniffingDecoder()
        self._free_at = 0.0
        self._error: BaseException | None = None
        self._hurried = threading.Event()
        self._stopped = threading.Event()

    def run(self) -> None:
        try:
            while (data := self._queue.get()) is not None and not self._stopped.is_set():
                if data == END:
                    self._decoder.finish()
                    self._filters.finish()
                    return
                self._take(data)
        except BaseException as error:  # noqa: BLE001 - handed to the reader, which raises it
            self._error = error

    def _take(self, data: bytes) -> None:
        for plain in self._decoder.pieces(data):
            self._filters.look_at(plain)
            self._filters.store(plain, self._cuts.take(self._filters.plain_bytes))
            self._wait_for_the_limit(len(plain))

    def _wait_for_the_limit(self, taken_bytes: int) -> None:
        """Time in which nothing came (a lock, a large index) is not made up for: no burst follows it."""
        if self._options.bytes_per_second:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + taken_bytes / self._options.bytes_per_second
            self._hurried.wait(self._free_at - now)

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
                if self._options.bytes_per_second and _ended(process):
                    self._hurried.set()

    def finish(self, process: Process, cancel: Cancel) -> None:
        """Wait for the last byte to be written; raises NotProvenError where what came was not whole."""
        self._hurried.set()  # the database is free: there is nothing left to spare
        self.put(END, process, cancel)
        while self.is_alive():
            self.join(TICK_SECONDS)
            cancel.check()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End the thread, whatever it is at, so that the caller may close the file."""
        self._stopped.set()
        self._hurried.set()
        while self.is_alive():
            with contextlib.suppress(queue.Full):
                self._queue.put_nowait(None)
            self.join(0.05)


def _ended(process: Process) -> bool:
    """Whether the command has ended; where that is not known now, it counts as running, and `wait` finds out."""
    try:
        return not process.running()
    except RunnerError:
        return False
