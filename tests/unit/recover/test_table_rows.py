"""Parts of a dump, asked for one behind the other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hubbackup.recover.table_rows import Forwards


@given(st.lists(st.binary(min_size=1, max_size=6)), st.lists(st.integers(0, 40), max_size=8))
def test_each_part_is_its_slice(chunks: list[bytes], places: list[int]) -> None:
    """However the dump is cut into chunks, also at a part's ends; what lies behind its end is not there."""
    whole = b"".join(chunks)
    forwards = Forwards(iter(chunks))
    ends = sorted(places)
    for start, end in zip(ends[::2], ends[1::2], strict=False):
        assert b"".join(forwards(start, end)) == whole[start:end]
