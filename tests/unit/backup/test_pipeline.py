"""The pump: real processes for pg_dump's part, a plain sink for the file's, and every way that either can fail."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import secrets
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hubbackup.backup import pipeline
from hubbackup.backup.pipeline import DumpResult, FileOptions, Filters, pump
from hubbackup.dump.copy_blocks import Cuts
from hubbackup.errors import EngineError, HubbackupError, NotProvenError, StoppedError, StoreFullError, ToolError
from hubbackup.jobs.progress import silent
from hubbackup.runners import Process
from hubbackup.runners.direct import DirectRunner
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.codecs import CODECS, GZIP, ZSTD, Codec, MemberEncoder
from hubbackup.streams.format import Encryption, Format
from tests.support.age import make_pair, opened

HEADER = (
    b"--\n-- PostgreSQL database dump\n--\n\n"
    b"-- Dumped from database version 17.6\n-- Dumped by pg_dump version 17.6\n\n"
)
ROWS = 150_000
TABLE = b"CREATE TABLE public.t (\n    a text\n);\n\nCOPY public.t (a) FROM stdin;\n%s\\.\n\n" % (
    b"0123456789\n" * ROWS
)
TRAILER = b"--\n-- PostgreSQL database dump complete\n--\n\n"
DUMP = HEADER + TABLE + TRAILER


class Sink:
    """Takes the bytes; may wait or refuse."""

    def __init__(self, before: Callable[[int], None] = lambda size: None) -> None:
        self.data = bytearray()
        self._before = before

    def write(self, data: bytes | memoryview) -> None:
        self._before(len(self.data))
        self.data += data


def run(
    dump: bytes,
    sink: Sink,
    options: FileOptions | None = None,
    *,
    cancel: Cancel | None = None,
    exit_code: int = 0,
    pause: float = 0,
) -> DumpResult:
    """Pump what a real process prints."""
    program = (
        f"import os, sys, time; data = sys.stdin.buffer.read(); time.sleep({pause});"
        f"sys.stdout.buffer.write(data); sys.stdout.flush(); sys.stderr.write('last words\\n'); os._exit({exit_code})"
    )
    cancel = cancel or Cancel()
    runner = DirectRunner(cancel=cancel)
    with runner.start([sys.executable, "-c", program], {}, stdin=True) as process:

        def feed() -> None:
            with contextlib.suppress(HubbackupError):
                process.write(dump)
                process.close_stdin()

        feeder = threading.Thread(target=feed)
        feeder.start()
        try:
            return pump(process, sink, options or FileOptions(), cancel=cancel, progress=silent)
        finally:
            feeder.join()


def no_writer_is_left() -> bool:
    return not any(thread.name == "writer" for thread in threading.enumerate())


def compressed(data: bytes, way: Codec | None) -> bytes:
    """As pg_dump sends it."""
    if way is None:
        return data
    encoder = way.encoder(1)
    return encoder.encode(data) + encoder.finish()


@pytest.mark.parametrize("way", [None, *CODECS.values()])
@pytest.mark.parametrize(("codec", "level"), [(GZIP, 0), (GZIP, 3), (ZSTD, 1)])
def test_a_whole_dump_is_stored_and_counted(way: Codec | None, codec: Codec, level: int) -> None:
    """Whatever it came as, the file is the dump, byte for byte, and what is said of the file is true."""
    sink = Sink()
    result = run(compressed(DUMP, way), sink, FileOptions(Format(codec), level))
    decoder = codec.decoder()
    assert b"".join(decoder.pieces(bytes(sink.data))) == DUMP
    decoder.finish()
    assert result.stored_bytes == len(sink.data)
    assert result.sha256 == hashlib.sha256(sink.data).hexdigest()
    assert result.facts.plain_bytes == len(DUMP)
    assert result.facts.rows == {"public.t": ROWS}
    assert no_writer_is_left()


@pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
@pytest.mark.parametrize("cut_bytes", [(1, 1), (200_000, 500_000), (1 << 20, 16 << 20)])
def test_the_file_can_be_entered_at_its_members(
    codec: Codec, cut_bytes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever they are, what is decoded from a member's start is the dump from there on."""
    statement_bytes, rows_bytes = cut_bytes
    monkeypatch.setattr(pipeline, "Cuts", lambda: Cuts(statement_bytes, rows_bytes))
    sink = Sink()
    result = run(DUMP, sink, FileOptions(Format(codec)))
    assert result.members[0] == (0, 0)
    assert len(result.members) == len(set(result.members))
    assert len(result.members) > 1 or rows_bytes > len(DUMP)
    for stored_offset, plain_offset in result.members[-20:]:
        decoder = codec.decoder()
        assert b"".join(decoder.pieces(bytes(sink.data[stored_offset:]))) == DUMP[plain_offset:]
        decoder.finish()
        assert plain_offset == 0 or DUMP[plain_offset - 1 : plain_offset] == b"\n"


class Wrapping:
    """Puts each piece and the end into brackets of its own, and holds a piece back."""

    def __init__(self, bracket: bytes) -> None:
        self._bracket = bracket
        self._held = b""

    def encode(self, data: bytes) -> bytes:
        done, self._held = self._held, self._bracket + data
        return done

    def finish(self) -> bytes:
        return self._held + self._bracket + b"."


def test_filters_are_passed_one_after_the_other() -> None:
    """The plain pieces are seen as they are; each encoder takes what the one before it gave, to its last byte; who
    looks at the file's bytes sees those of the last one, and no empty piece."""
    plain: list[bytes] = []
    stored: list[bytes] = []
    digest = hashlib.sha256()
    compressor = MemberEncoder(lambda: Wrapping(b"a"))
    filters = Filters([plain.append], compressor, [Wrapping(b"b")], [digest.update, stored.append])
    for piece in (b"1", b"2", b"3"):
        filters.look_at(piece)
        filters.store(piece)
    filters.finish()
    assert plain == [b"1", b"2", b"3"]
    assert b"".join(stored).replace(b"b", b"") == b"a1a2a3a.."
    assert all(stored)
    assert (filters.plain_bytes, filters.stored_bytes) == (3, sum(map(len, stored)))
    assert digest.digest() == hashlib.sha256(b"".join(stored)).digest()


def test_a_member_ends_where_the_cut_is() -> None:
    """In the middle of a piece too; where each began is known in stored bytes and in plain ones."""
    stored: list[bytes] = []
    filters = Filters([], MemberEncoder(lambda: Wrapping(b"a")), [], [stored.append])
    for piece, cuts in ((b"12345", [2, 3]), (b"678", []), (b"9", [8])):
        filters.look_at(piece)
        filters.store(piece, cuts)
    filters.finish()
    assert b"".join(stored) == b"a12a.a3a.a45a678a.a9a."
    assert filters.compressor.members == [(0, 0), (5, 2), (9, 3), (18, 8)]


@pytest.mark.parametrize("stored", CODECS.values(), ids=list(CODECS))
@pytest.mark.parametrize("way", CODECS.values(), ids=list(CODECS))
def test_a_cut_way_is_not_proven(way: Codec, stored: Codec) -> None:
    """Compressed bytes that end early are not dump, though the command exited with 0 and all rows were there."""
    came = compressed(DUMP, way)
    for cut in (1, 3, len(came) // 2, len(came) - 1):
        with pytest.raises(NotProvenError):
            run(came[:cut], Sink(), FileOptions(Format(stored)))


@pytest.mark.parametrize("pause", [0, 1.5])
@pytest.mark.parametrize("way", [None, ZSTD])
def test_a_rate_limit_holds(way: Codec | None, pause: float) -> None:
    """No more of the plain dump is taken per second than was asked for, also after a time in which nothing came; and
    the file is whole all the same."""
    rows = secrets.token_bytes(1 << 20).hex().encode() + b"\n"
    dump = HEADER + b"CREATE TABLE public.t (\n    a text\n);\n\nCOPY public.t (a) FROM stdin;\n"
    dump += rows * 8 + b"\\.\n\n" + TRAILER
    sink = Sink()
    clock = time.monotonic()
    result = run(compressed(dump, way), sink, FileOptions(bytes_per_second=8 << 20), pause=pause)
    # Of two seconds' worth: what pipe and queue hold when the command ends, 4 MiB, is read without a limit.
    assert time.monotonic() - clock > pause + 1.4
    assert gzip.decompress(sink.data) == dump
    assert result.facts.rows == {"public.t": 8}


class Forgetful:
    """A process whose engine can't tell whether it runs."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.chunks, self.wait = process.chunks, process.wait
        self.write, self.close_stdin = process.write, process.close_stdin

    def running(self) -> bool:
        raise EngineError("the Docker engine does not answer")


def test_an_engine_that_does_not_answer_does_not_end_a_limited_dump() -> None:
    """Whether pg_dump still runs is asked only to be kind; the end of the stream and the exit code decide."""
    runner, sink = DirectRunner(cancel=Cancel()), Sink()
    with runner.start(["cat"], {}, stdin=True) as process:
        feeder = threading.Thread(target=lambda: (process.write(DUMP), process.close_stdin()))
        feeder.start()
        options = FileOptions(bytes_per_second=1_000_000)
        pump(Forgetful(process), sink, options, cancel=Cancel(), progress=silent)
        feeder.join()
    assert gzip.decompress(sink.data) == DUMP


def test_a_limit_does_not_hold_up_what_an_ended_command_left() -> None:
    """The engine drops what is not read two seconds after a command ended: it is read at once, whatever the limit."""
    clock = time.monotonic()
    sink = Sink()
    run(DUMP, sink, FileOptions(bytes_per_second=1))
    assert gzip.decompress(sink.data) == DUMP
    assert time.monotonic() - clock < 10


def test_a_stop_ends_a_wait_for_the_limit() -> None:
    """`docker stop` is not held up by BACKUP_RATE_LIMIT."""
    cancel = Cancel()
    threading.Timer(0.3, cancel.set).start()
    clock = time.monotonic()
    with pytest.raises(StoppedError):
        run(DUMP * 20, Sink(), FileOptions(bytes_per_second=1), cancel=cancel)
    assert time.monotonic() - clock < 5
    assert no_writer_is_left()


@pytest.mark.parametrize("cut", [0, 10, len(HEADER), len(HEADER) + 500, len(DUMP) // 2, len(DUMP) - 1])
def test_a_cut_dump_is_not_proven(cut: int) -> None:
    """A stream that ends early with exit code 0 is not a dump, wherever it ends."""
    with pytest.raises(NotProvenError):
        run(DUMP[:cut], Sink())
    assert no_writer_is_left()


def test_an_exit_code_is_a_failure_even_after_a_whole_dump() -> None:
    """Success is counted at the exit status; the tool's last words are kept."""
    with pytest.raises(ToolError, match="ended with exit code 3: last words"):
        run(DUMP, Sink(), exit_code=3)
    assert no_writer_is_left()


def test_a_sink_that_is_full_ends_the_run() -> None:
    """The writer's error is the run's error, raised in the caller's thread, and nothing hangs."""

    def full(size: int) -> None:
        if size > 1000:
            raise StoreFullError("no space left")

    with pytest.raises(StoreFullError):
        run(DUMP, Sink(full), FileOptions(level=0))
    assert no_writer_is_left()


def test_a_stop_ends_a_stuck_writer() -> None:
    """With a sink that is slow forever, a stop ends the run all the same, and the writer with its next write."""
    cancel = Cancel()
    threading.Timer(0.3, cancel.set).start()
    clock = time.monotonic()
    with pytest.raises(StoppedError):
        run(DUMP * 20, Sink(lambda size: time.sleep(0.2)), FileOptions(level=0), cancel=cancel)
    assert time.monotonic() - clock < 5
    assert no_writer_is_left()


@pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))
def test_a_sealed_file(codec: Codec, tmp_path: Path) -> None:
    """What `age` opens is the compressed dump, member by member as the result says; the digest is of the whole."""
    pair, sink = make_pair(tmp_path), Sink()
    sealed = FileOptions(Format(codec, Encryption.AGE), recipients=pair.recipients)
    result = run(DUMP, sink, sealed)
    assert result.sha256 == hashlib.sha256(sink.data).hexdigest()
    assert result.stored_bytes == len(sink.data)
    inside = opened(bytes(sink.data), pair.file)
    for member in result.members:
        decoder = codec.decoder()
        assert b"".join(decoder.pieces(inside[member.stored_offset :])) == DUMP[member.plain_offset :]
    assert b"".join([*(decoder := sealed.format.decoder(pair.identities)).pieces(sink.data), *decoder.rest()]) == DUMP
    plain = Sink()
    run(DUMP, plain, FileOptions(Format(codec)))
    assert inside == plain.data


@pytest.mark.parametrize("how", ["full", "stopped", "failed", "not whole"])
def test_no_thread_of_a_sealed_file_stays(how: str, tmp_path: Path) -> None:
    """However the dump ends, in the middle of the file."""
    cancel, before = Cancel(), set(threading.enumerate())

    def at(size: int) -> None:
        if size and how == "full":
            raise StoreFullError("no space left")
        if size and how == "stopped":
            cancel.set()

    sealed = FileOptions(Format(GZIP, Encryption.AGE), recipients=make_pair(tmp_path).recipients)
    dump = HEADER + secrets.token_bytes(3 << 20).replace(b"\\", b"/") + (b"" if how == "not whole" else TRAILER)
    raised = {"full": StoreFullError, "stopped": StoppedError, "failed": ToolError, "not whole": NotProvenError}[how]
    with pytest.raises(raised):
        run(dump, Sink(at), sealed, cancel=cancel, exit_code=1 if how == "failed" else 0)
    assert {thread for thread in threading.enumerate() if thread.name == "push-pipe"} <= before
