"""The text format of COPY, as PostgreSQL's documentation and its copyfromparse.c have it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbackup.dump import copy_text

VALUES = (
    st.none() | st.binary(max_size=12) | st.sampled_from([b"\\N", b"\\.", b"\\", b"\n", b"\t", b"\\x41", b"\x8a\\n"])
)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"", b""),
        (b"\\N", None),
        (b"\\\\N", b"\\N"),
        (b"a\\tb\\nc\\\\d", b"a\tb\nc\\d"),
        (b"\\b\\f\\n\\r\\t\\v", b"\b\f\n\r\t\v"),
        (b"\\101\\x4a\\x4", b"AJ\x04"),
        (b"\\477", b"\x3f"),
        (b"\\.", b"."),
        (b"\\q\\xg", b"qxg"),
        (b"caf\\351\xe9", b"caf\xe9\xe9"),
    ],
)
def test_a_field_is_what_the_server_reads(field: bytes, value: bytes | None) -> None:
    """Letters, octal and hexadecimal digits after a backslash; any other byte stands for itself."""
    assert copy_text.value(field) == value


@given(st.lists(VALUES, min_size=1))
def test_what_is_written_is_read_again(values: list[bytes | None]) -> None:
    """Any bytes, NULL and what looks like it: one row, the same values."""
    row = b"\t".join(map(copy_text.field, values))
    assert b"\n" not in row
    assert copy_text.fields(row) == values


@given(st.lists(st.binary().map(copy_text.field)), st.lists(st.integers(0, 200)))
def test_chunks_may_be_cut_anywhere(found: list[bytes], cuts: list[int]) -> None:
    """The rows are the same however their bytes come."""
    data = b"".join(row + b"\n" for row in found)
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [data[start:end] for start, end in itertools.pairwise(edges)]
    assert list(copy_text.rows(chunks)) == found


def test_a_table_without_columns_has_empty_rows() -> None:
    """Each is a line of nothing."""
    assert list(copy_text.rows([b"\n\n"])) == [b"", b""]
    assert copy_text.fields(b"") == [b""]
