"""The index in a manifest: what is written is read again, and nothing else is taken for one."""

from __future__ import annotations

import base64
import gzip
import json
import time
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbackup.catalog.index import DumpIndex
from hubbackup.dump.copy_blocks import CopyBlock
from hubbackup.errors import NotProvenError
from hubbackup.streams.codecs import Member

COUNTS = st.integers(0, 1 << 40)


@st.composite
def indexes(draw: st.DrawFn) -> DumpIndex:
    """Any that a dump can have."""
    stored = [0, *accumulate(draw(st.lists(st.integers(1, 1 << 30), max_size=5)))]
    plain = [0, *accumulate(draw(st.lists(st.integers(1, 1 << 34), min_size=len(stored), max_size=len(stored))))]
    blocks: list[CopyBlock] = []
    for name in draw(st.lists(st.text(max_size=5), max_size=5)):
        start = (blocks[-1].end if blocks else 0) + draw(COUNTS)
        blocks.append(
            CopyBlock(name, start, draw(COUNTS), draw(COUNTS), draw(COUNTS), draw(st.text("0f", max_size=3)))
        )
    members = tuple(map(Member, stored, plain))
    return DumpIndex(members, tuple(blocks), draw(COUNTS), draw(COUNTS), draw(st.text(max_size=5)))


@given(indexes())
def test_an_index_is_read_as_it_was_written(index: DumpIndex) -> None:
    """Names and numbers of any size come back."""
    assert DumpIndex.from_text(index.to_text(), "x") == index


@given(indexes(), COUNTS)
def test_a_place_is_entered_at_the_nearest_member(index: DumpIndex, offset: int) -> None:
    """The last one that begins there or before; it is left where the next one begins."""
    entry, leaving = index.entry(offset), index.leaving(offset)
    assert entry == max(member for member in index.members if member.plain_offset <= offset)
    assert leaving == min((member for member in index.members if member.plain_offset >= offset), default=None)


def packed(document: Any) -> str:
    return base64.b64encode(gzip.compress(json.dumps(document).encode(), mtime=0)).decode()


GOOD = {
    "members": [[0, 0], [10, 100]],
    "tables": [["public.a", 5, 20, 30, 2, "00"], ["public.b", 60, 20, 0, 0, "00"]],
    "data": [5, 90],
    "digest": "xxh3-128",
}


@pytest.mark.parametrize(
    "text",
    [
        "x",
        base64.b64encode(b"no gzip").decode(),
        packed(GOOD)[:-8],
        packed([]),
        packed(GOOD | {"members": []}),
        packed(GOOD | {"members": [[5, 0]]}),
        packed(GOOD | {"members": [[0, 0], [10, 100], [10, 90]]}),
        packed(GOOD | {"members": [[0, 0], [10, -1]]}),
        packed(GOOD | {"members": [[0, 0], [10, 1.5]]}),
        packed(GOOD | {"tables": [["public.a", 5, 20, 30, 2]]}),
        packed(GOOD | {"tables": [[7, 5, 20, 30, 2, ""]]}),
        packed(GOOD | {"tables": [["public.a", True, 20, 30, 2, ""]]}),
        packed(GOOD | {"tables": GOOD["tables"][::-1]}),  # type: ignore[index]
        packed(GOOD | {"data": [1]}),
        packed(GOOD | {"digest": None}),
        packed({name: value for name, value in GOOD.items() if name != "data"}),
    ],
)
def test_what_is_not_an_index_is_refused(text: str) -> None:
    """In one sentence with the backup's name, whatever is wrong, and whoever wrote it."""
    assert DumpIndex.from_text(packed(GOOD), "NAME").data_end == 90
    with pytest.raises(NotProvenError, match="the index in the manifest of NAME is not valid: "):
        DumpIndex.from_text(text, "NAME")


def test_an_index_of_ten_thousand_tables_is_small() -> None:
    """Less than half a megabyte in the manifest."""
    offsets = accumulate([100] + [7_919 + (n * 7_907) % 100_003 for n in range(10_000)])
    blocks = [
        CopyBlock(f"public.table_{n}", start, 60, end - start - 70, n % 977, f"{(n + 1) * 2**100 // 7919:032x}"[-32:])
        for n, (start, end) in enumerate(pairwise(offsets))
    ]
    index = DumpIndex((Member(0, 0),), tuple(blocks), 100, blocks[-1].end)
    clock = time.process_time()
    text = index.to_text()
    assert len(text) < 500_000
    assert DumpIndex.from_text(text, "x") == index
    assert time.process_time() - clock < 5
