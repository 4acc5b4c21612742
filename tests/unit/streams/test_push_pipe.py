"""A library that pulls is driven by pushing: what it makes comes back piece by piece; it never outlives its use."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbackup.streams.push_pipe import PushPipe


def doubled(reader: Any, writer: Any) -> None:
    """Writes each byte twice, and a last word at the end."""
    while data := reader.read(3):
        writer.write(bytes(byte for one in data for byte in (one, one)))
    writer.write(b"end")


def pipes() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "push-pipe"]


@given(st.lists(st.binary(max_size=20)))
def test_what_is_pushed_comes_back_in_order(pieces: list[bytes]) -> None:
    """However it is cut, the function reads the same bytes, and its last ones come at the end."""
    pipe = PushPipe(doubled)
    made = b"".join([*map(pipe.push, pieces), pipe.finish()])
    pipe.close()
    plain = b"".join(pieces)
    assert made == b"".join(bytes([byte, byte]) for byte in plain) + b"end"


def test_a_piece_is_worked_off_before_the_next() -> None:
    """So that nothing is queued: what was pushed is read, and what was made of it is given back at once."""
    pipe = PushPipe(doubled)
    assert pipe.push(b"abcdef") == b"aabbccddeeff"
    assert pipe.push(memoryview(b"g")) == b"gg"
    assert pipe.finish() == b"end"
    pipe.close()


def test_what_the_function_raises_comes_to_who_pushes() -> None:
    """At the push that caused it, and at each one after it."""

    def failing(reader: Any, writer: Any) -> None:
        reader.read(1)
        raise ValueError("broken")

    pipe = PushPipe(failing)
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            pipe.push(b"ab")
    pipe.close()


@pytest.mark.parametrize("how", ["closed", "forgotten"])
def test_no_thread_stays(how: str) -> None:
    """In the middle of a file, before its first byte, or where nobody closed it."""
    before = len(pipes())
    for data in (b"", b"abc"):
        pipe = PushPipe(doubled)
        pipe.push(data)
        assert len(pipes()) == before + 1
        if how == "closed":
            pipe.close()
        else:
            (thread,) = set(pipes()) - {None} if before == 0 else set(pipes()[-1:])
            del pipe
            gc.collect()
            thread.join(5)
        assert len(pipes()) == before
