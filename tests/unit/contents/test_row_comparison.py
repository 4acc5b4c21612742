"""Two sets of rows compared, beside the same by plain counting."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbackup.contents.row_comparison import Difference, Row, RowComparison
from hubbackup.errors import StoppedError

FIELD = st.sampled_from([b"", b"1", b"2", b"\\N", b"a b", b"caf\xe9"])
KEYED = st.dictionaries(st.tuples(FIELD, st.sampled_from([b"x", b"y"])), FIELD).flatmap(
    lambda rows: st.permutations([b"\t".join((*key, value)) for key, value in rows.items()])
)
LOOSE = st.lists(st.tuples(FIELD, FIELD).map(b"\t".join), max_size=12)
SMALL = {"window_bytes": 1, "files": 3}
"""All goes through the files."""


def in_order(one: Difference) -> tuple[str, bytes, bytes]:
    return one.change, one.before or b"", one.after or b""


def compared(before: list[Row], after: list[Row], key: tuple[int, ...], **limits: int) -> list[Difference]:
    """The differences, in an order of their own; the tally adds up."""
    comparison = RowComparison(key, Path("/tmp"), **limits)
    found = list(comparison.differences(before, after))
    tally, kinds = comparison.tally, Counter(one.change for one in found)
    assert (tally.before, tally.after) == (len(before), len(after))
    assert tally.same == len(before) - kinds["removed"] - kinds["changed"]
    assert tally.same == len(after) - kinds["added"] - kinds["changed"]
    return sorted(found, key=in_order)


@given(KEYED, KEYED, st.booleans())
def test_rows_with_a_key_are_compared_by_it(before: list[Row], after: list[Row], spill: bool) -> None:
    """Added and removed by key, changed where only the rest differs, whatever the order; in memory or by files."""
    old, new = ({row.rpartition(b"\t")[0]: row for row in rows} for rows in (before, after))
    wanted = [Difference("added", after=new[key]) for key in new.keys() - old.keys()]
    wanted += [Difference("removed", before=old[key]) for key in old.keys() - new.keys()]
    wanted += [Difference("changed", old[key], new[key]) for key in old.keys() & new if old[key] != new[key]]
    found = compared(before, after, (0, 1), **(SMALL if spill else {}))
    assert found == sorted(wanted, key=in_order)


@given(LOOSE, LOOSE, st.booleans())
def test_rows_without_a_key_are_counted(before: list[Row], after: list[Row], spill: bool) -> None:
    """Each as often as it is there more than on the other side."""
    found = compared(before, after, (), **(SMALL if spill else {}))
    assert Counter(one.before for one in found if one.change == "removed") == Counter(before) - Counter(after)
    assert Counter(one.after for one in found if one.change == "added") == Counter(after) - Counter(before)


@given(LOOSE, st.booleans())
def test_rows_beside_themselves_do_not_differ(rows: list[Row], spill: bool) -> None:
    """In another order either."""
    assert compared(rows, rows[::-1], (), **(SMALL if spill else {})) == []


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Sixty thousand rows in opposite orders, of which one differs, in a few megabytes; nothing is left behind."""
    rows = 60_000

    def side(numbers: range, odd: bytes) -> Iterator[Row]:
        for number in numbers:
            yield b"%d\t%s" % (number, odd if number == 77 else b"some text of a row that has a certain length")

    comparison = RowComparison((0,), tmp_path, window_bytes=256 << 10)
    tracemalloc.start()
    found = list(comparison.differences(side(range(rows), b"old"), side(range(rows - 1, -1, -1), b"new")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == [Difference("changed", b"77\told", b"77\tnew")]
    assert peak < 3 << 20
    assert list(tmp_path.iterdir()) == []


def test_wide_rows_are_not_held_by_the_thousand(tmp_path: Path) -> None:
    """A hundred rows of a megabyte, each in memory for a moment."""
    rows = [number.to_bytes(2, "big") * (1 << 19) for number in range(0x3030, 0x3094)]
    tracemalloc.start()
    comparison = RowComparison((), tmp_path, window_bytes=2 << 20)
    found = list(comparison.differences((row + b"" for row in rows), (bytes(bytearray(row)) for row in rows[::-1])))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found, comparison.tally.same) == ([], 100)
    assert peak < 24 << 20


def test_it_can_be_stopped(tmp_path: Path) -> None:
    """Whatever it is at."""

    def stop() -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        list(RowComparison((0,), tmp_path, stop).differences([b"1"], []))
