"""Cancellation, growing files, and slices of them."""

from __future__ import annotations

import io
import itertools
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hubbackup.errors import StoppedError
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.growing_file import FileSlice, GrowingFile, SourceFailedError
from hubbackup.streams.read_ahead import ReadAhead


def test_cancel_is_heeded_by_every_wait() -> None:
    """A wait ends as soon as a stop is asked for, with the signal's number; before that it lasts its time."""
    cancel = Cancel()
    cancel.check()
    started = time.monotonic()
    cancel.wait(0.05)
    assert time.monotonic() - started >= 0.05
    threading.Timer(0.05, cancel.set, [2]).start()
    started = time.monotonic()
    with pytest.raises(StoppedError) as raised:
        cancel.wait(10)
    assert time.monotonic() - started < 5
    assert raised.value.exit_code == 130
    assert cancel.is_set()
    with pytest.raises(StoppedError):
        cancel.check()


def test_a_reader_waits_for_the_bytes_it_asked_for(tmp_path: Path) -> None:
    """`wait_for` returns when they are there, or when the file is finished with fewer."""
    path = tmp_path / "a"
    path.write_bytes(b"")
    growing = GrowingFile(path)
    threading.Timer(0.05, growing.advance, [3]).start()
    assert growing.wait_for(2) == (3, False)
    threading.Timer(0.05, growing.finish).start()
    assert growing.wait_for(10) == (3, True)


def test_readers_learn_that_the_writer_gave_up(tmp_path: Path) -> None:
    """A wait under way ends, a later one does not begin, and the file is not opened any more."""
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    growing = GrowingFile(path)
    growing.advance(3)
    threading.Timer(0.05, growing.fail).start()
    for ask in (lambda: growing.wait_for(10), lambda: growing.wait_for(1), growing.open):
        with pytest.raises(SourceFailedError):
            ask()


def test_a_complete_file_is_finished_from_the_start(tmp_path: Path) -> None:
    """`complete` tells all there is; a missing file is OSError."""
    (tmp_path / "a").write_bytes(b"abc")
    assert GrowingFile.complete(tmp_path / "a").wait_for(0) == (3, True)
    with pytest.raises(OSError, match="missing"):
        GrowingFile.complete(tmp_path / "missing")


def test_a_file_is_found_under_its_new_name(tmp_path: Path) -> None:
    """No reader opens the file while it is renamed; each finds it before and after. A failed one changes nothing."""
    old, new = tmp_path / "a.partial", tmp_path / "a"
    old.write_bytes(b"abc")
    growing = GrowingFile.complete(old)
    read: list[bytes] = []
    with growing.renaming(new):
        old.rename(new)

        def read_it() -> None:
            with growing.open() as file, FileSlice(file.fileno(), 1, 2) as window:
                read.append(window.read())

        reader = threading.Thread(target=read_it)
        reader.start()
        time.sleep(0.05)
        assert read == []
    reader.join(timeout=10)
    assert read == [b"bc"]
    with pytest.raises(ZeroDivisionError), growing.renaming(old):
        raise ZeroDivisionError
    assert growing.path == new


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(
    data=st.binary(max_size=500),
    offset=st.integers(0, 500),
    size=st.integers(0, 500),
    steps=st.lists(st.tuples(st.integers(0, 600), st.integers(-1, 600)), max_size=6),
)
def test_a_slice_reads_like_its_bytes(
    tmp_path: Path, data: bytes, offset: int, size: int, steps: list[tuple[int, int]]
) -> None:
    """Any seeks and reads on a slice give what they give on a copy of its bytes."""
    path = tmp_path / "a"
    path.write_bytes(data)
    offset = min(offset, len(data))
    size = min(size, len(data) - offset)
    copy = io.BytesIO(data[offset : offset + size])
    with FileSlice(path, offset, size) as part:
        assert len(part) == size
        for position, count in steps:
            assert part.seek(position) == copy.seek(position) == part.tell()
            assert part.read(count) == copy.read(count)
        part.seek(0)
        assert b"".join(iter(lambda: part.read(7), b"")) == copy.getvalue()
        assert part.seek(0, io.SEEK_END) == size


def test_what_is_read_is_told_with_its_position(tmp_path: Path) -> None:
    """`on_read` sees each block and where it starts, again after a seek back."""
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    told: list[tuple[bytes, int]] = []
    with FileSlice(path, 2, 6, lambda data, position: told.append((data, position))) as part:
        part.read(4)
        part.read()
        part.read()
        part.seek(0)
        part.readinto(bytearray(3))
    assert told == [(b"2345", 0), (b"67", 4), (b"234", 0)]


def test_slices_of_one_descriptor_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Slices read by position, and live on when the descriptor they were made from is closed."""
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    with path.open("rb") as file:
        first, second = FileSlice(file.fileno(), 0, 5), FileSlice(file.fileno(), 5, 5)
    with first, second:
        assert [first.read(2), second.read(2), first.read(), second.read()] == [b"01", b"56", b"234", b"789"]


def test_a_file_that_shrank_is_an_error(tmp_path: Path) -> None:
    """A slice never ends early in silence."""
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    with FileSlice(path, 0, 10) as part:
        os.truncate(path, 4)
        assert part.read(10) == b"0123"
        with pytest.raises(OSError, match="shorter"):
            part.read(10)


def test_a_slice_closes_its_descriptor_once(tmp_path: Path) -> None:
    """Closing twice does not close what got the same descriptor number meanwhile."""
    path = tmp_path / "a"
    path.write_bytes(b"x")
    part = FileSlice(path, 0, 1)
    part.close()
    with path.open("rb") as other:
        part.close()
        assert other.read() == b"x"


def test_reading_ahead_changes_nothing() -> None:
    """The same chunks in the same order, then the end, again and again."""
    chunks = [bytes([number]) * number for number in range(50)]
    with ReadAhead(iter(chunks)) as ahead:
        assert list(ahead) == chunks
        assert list(ahead) == []


def test_an_error_comes_in_its_turn() -> None:
    """After all that was read before it, and as it was raised."""

    def chunks() -> Iterator[bytes]:
        yield b"one"
        raise OSError("the disk")

    with ReadAhead(chunks()) as ahead:
        assert next(ahead) == b"one"
        for _ in range(2):
            with pytest.raises(OSError, match="the disk"):
                next(ahead)


def test_a_reader_that_leaves_early_leaves_no_thread() -> None:
    """However much there would be left, and however full the queue is."""
    with ReadAhead(itertools.repeat(b"x")) as ahead:
        assert next(ahead) == b"x"
    assert not [thread for thread in threading.enumerate() if thread.name == "read-ahead"]
