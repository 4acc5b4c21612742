"""Tables for people: aligned, as wide as the terminal at most, and printed before their last row is there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hubbackup.cli.columns import PAGE_ROWS, Column, aligned, cell_width
from hubbackup.cli.list_ import COLUMNS
from hubbackup.cli.output import print_columns
from hubbackup.cli.prune import COLUMNS as OF_PRUNE

TWO = (Column("A"), Column("B"))
NAME = "hub_chantier_backup_20260208_030000.sql.gz"
USUAL = (NAME, "hub_chantier", "12 d", "123.4 MB", "12345678", "local, s3", "yes", "22 h ago", "-", "")


def printed(capsys: pytest.CaptureFixture[str], width: int, *rows: tuple[str, ...]) -> list[str]:
    print_columns(COLUMNS, rows, width)
    return capsys.readouterr().out.splitlines()


def test_columns_are_aligned_and_widen_on_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    """A page of a thousand rows is aligned as one; a wider cell further down moves what follows, and no other row."""
    print_columns(TWO, iter([*[("xx", "1")] * PAGE_ROWS, ("wider", "1"), ("x", "1")]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["A   B", "xx  1"]
    assert lines[PAGE_ROWS - 1 :] == ["xx  1", "xx     1", "wider  1", "x      1"]


def test_a_table_is_printed_before_its_last_row_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    """A long one is not held: the first page is out when the second is asked for."""

    def rows() -> Iterator[tuple[str, ...]]:
        yield from [("x",)] * (PAGE_ROWS - 1)
        assert capsys.readouterr().out == "A\n" + "x\n" * (PAGE_ROWS - 1)
        yield ("y",)

    print_columns(TWO[:1], rows())
    assert capsys.readouterr().out == "y\n"


def test_the_list_fits_80_columns_in_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    """The guide's names, two stores: name, age, size, copies and proof are there, the rest where there is room."""
    header, row = printed(capsys, 80, USUAL)
    assert header.split() == ["NAME", "AGE", "SIZE", "COPIES", "PROVEN"]
    assert row.split() == [NAME, "12", "d", "123.4", "MB", "local,", "s3", "yes"]
    assert max(len(header), len(row)) <= 80
    header, row = printed(capsys, 200, USUAL)
    assert header.split() == [column.title for column in COLUMNS]


def test_a_note_has_a_line_of_its_own_where_there_is_no_room(capsys: pytest.CaptureFixture[str]) -> None:
    """It is never left out: what is wrong is what one looks for. Only rows that have one have that line."""
    note = "suspicious, its manifest is not valid: " + "word " * 30
    _, first, *noted, last = printed(capsys, 80, USUAL, (*USUAL[:-1], note), USUAL)
    assert first == last == noted[0]
    assert " ".join(" ".join(noted[1:]).split()) == note.strip()
    assert max(map(len, noted)) <= 80


def test_a_long_name_has_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """It is whole, to be copied; what is known of the backup stands below it, and the pipe has it all in one line."""
    long = ("a" * 63 + "_backup_20260208_030000.sql.gz", *USUAL[1:])
    lines = printed(capsys, 80, long)
    assert lines[1] == long[0]
    assert lines[2].split()[:2] == ["12", "d"]
    assert len(printed(capsys, 10_000, long)) == 2


def test_wide_characters_take_two_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """A database of any name leaves the next column straight."""
    print_columns(TWO, [("数据库", "1"), ("e\u0301", "1"), ("abcdef", "1")])
    assert capsys.readouterr().out.splitlines() == ["A       B", "数据库  1", "e\u0301       1", "abcdef  1"]
    assert [cell_width(text) for text in ("数", "e\u0301", "ab")] == [2, 1, 2]


@given(
    st.integers(20, 200),
    st.sampled_from([COLUMNS, OF_PRUNE, TWO]),
    st.lists(st.text("ab 数e\u0301", max_size=90), min_size=10, max_size=10),
)
@example(20, OF_PRUNE, ["", "", "", "", "aaaaaaaaaaaa 数数", *[""] * 5])
def test_no_line_is_wider_than_the_terminal(width: int, columns: tuple[Column, ...], cells: list[str]) -> None:
    """Whatever stands in the cells; but for a first cell, or a word, that is longer itself."""
    lines = aligned(columns, [tuple(cells[: len(columns)])], width)
    longest = max(cell_width(word) for cell in cells for word in [*cell.split(), cells[0]])
    assert all(cell_width(line) <= max(width, longest + 4) for line in lines)
