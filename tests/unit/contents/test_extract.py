"""Extracting from a dump that is held in memory: how much it takes, and what is refused before anything is given."""

from __future__ import annotations

import tracemalloc

import pytest

from hubbackup.contents.extract import RowFormat, extract
from hubbackup.errors import NotProvenError, UsageError
from tests.support.packed import PackedDump, dump_of

WIDE = b"x" * 1_000_000 + b"\n"


@pytest.mark.parametrize("row_format", RowFormat)
@pytest.mark.parametrize("rows", [WIDE * 60, b"1\n" * 1_000_000], ids=["wide", "narrow"])
def test_memory_is_flat(row_format: RowFormat, rows: bytes) -> None:
    """Sixty megabytes of wide rows, or a million narrow ones, take a few megabytes in any form."""
    packed = PackedDump(dump_of([(b"public.t", rows)]))
    tracemalloc.start()
    try:
        written = sum(map(len, extract(packed.parts, "t", row_format).chunks))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert written >= len(rows)
    assert peak < 8 << 20


def test_chunks_are_of_a_size_to_be_written() -> None:
    """Neither a row at a time nor all at once."""
    packed = PackedDump(dump_of([(b"public.t", b"1,2\n" * 200_000)]))
    sizes = list(map(len, extract(packed.parts, "t", RowFormat.CSV).chunks))
    assert 2 < len(sizes) < 12


def test_nothing_is_given_before_the_question_makes_sense() -> None:
    """A column that is not there, a table that is not there: at once, not while the rows come."""
    packed = PackedDump(dump_of([(b"public.t", b"1\n")]))
    for typed, columns in (("t", ["b"]), ("s", [])):
        with pytest.raises(UsageError):
            extract(packed.parts, typed, RowFormat.CSV, columns)


def test_damage_is_an_error_at_the_end_at_the_latest() -> None:
    """Whoever has read all chunks without an error has the rows; else an error came."""
    packed = PackedDump(dump_of([(b"public.t", b"1\n2\n")]))
    packed.stored = PackedDump(dump_of([(b"public.t", b"1\n3\n")])).stored
    for row_format in (RowFormat.CSV, RowFormat.COPY):
        found = extract(packed.parts, "t", row_format)
        with pytest.raises(NotProvenError, match="not those"):
            list(found.chunks)
