"""Tables of any length for people: aligned, and on a terminal no wider than it."""

from __future__ import annotations

import itertools
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from hubbackup.shown_text import printable

PAGE_ROWS = 1000
"""So many rows of a long table are held at a time."""
GAP = "  "
INDENT = "    "
NOTHING = ("", "-")
"""Cells that say nothing."""


@dataclass(frozen=True)
class Column:
    """A column: what becomes of it where the terminal is too narrow for all.

    `leaves`: the order in which columns are left out, 0 never. `below`: its cells go to a line of their own.
    """

    title: str
    leaves: int = 0
    below: bool = False


def aligned(columns: Sequence[Column], rows: Iterable[Sequence[str]], width: int = sys.maxsize) -> Iterator[str]:
    """The lines of a header and the rows, none wider than `width` where that can be; safe to be shown.

    For long lists: rich needs a minute for what this gives in a second. Of a very long one the columns may widen on
    the way, since it is never held whole.
    """
    title: list[Sequence[str]] = [[column.title for column in columns]]
    layout = _Layout(columns, width)
    safe = ([printable(cell) for cell in row] for row in rows)
    while page := [*title, *itertools.islice(safe, PAGE_ROWS - len(title))]:
        layout.fit(page, header=bool(title))
        title = []
        for row in page:
            yield from layout.lines(row)


class _Layout:
    """Which columns stand in a line, how wide each is, and which go below."""

    def __init__(self, columns: Sequence[Column], width: int) -> None:
        self._columns = columns
        self._width = width
        self._widths = [0] * len(columns)
        self._beside = list(range(len(columns)))
        self._below: list[int] = []

    def fit(self, page: Sequence[Sequence[str]], *, header: bool) -> None:
        """Make room for a page, whose first row may be the header."""
        found = [max(map(cell_width, cells)) for cells in zip(*page, strict=True)]
        self._widths = list(map(max, self._widths, found))
        silent = [
            index
            for index in self._beside
            if self._columns[index].leaves or self._columns[index].below
            if all(row[index] in NOTHING for row in page[header:])
        ]
        leaving = sorted((i for i in self._beside if self._columns[i].leaves), key=lambda i: self._columns[i].leaves)
        for index in [*silent, *leaving]:
            if self._needed() > self._width and index in self._beside:
                self._beside.remove(index)
        for index in [i for i in self._beside if self._columns[i].below]:
            if self._needed() > self._width:
                self._beside.remove(index)
                self._below.append(index)
        if self._needed() > self._width and len(self._beside) > 1:  # the first one is long: a line of its own
            self._below = [*self._beside[1:], *self._below]
            self._beside = self._beside[:1]

    def lines(self, row: Sequence[str]) -> Iterator[str]:
        """A row as it is printed."""
        cells = [row[index] for index in self._beside]
        padding = [self._widths[index] - cell_width(cell) for index, cell in zip(self._beside, cells, strict=True)]
        yield GAP.join(cell + " " * room for cell, room in zip(cells, padding, strict=True)).rstrip()
        below = GAP.join(row[index] for index in self._below if row[index] not in NOTHING)
        if below and row[0] != self._columns[0].title:
            yield from wrapped(below, self._width)

    def _needed(self) -> int:
        return sum(self._widths[index] for index in self._beside) + len(GAP) * (len(self._beside) - 1)


def wrapped(text: str, width: int) -> Iterator[str]:
    """Indented lines of whole words, no wider than `width` where no word is. (textwrap counts characters.)"""
    line = ""
    for word in text.split(" "):
        if line.strip() and cell_width(f"{line} {word}") > width:
            yield line.rstrip()
            line = ""
        line = f"{line} {word}" if line.strip() else INDENT + word
    if line.strip():
        yield line.rstrip()


def cell_width(text: str) -> int:
    """The columns that a terminal gives to `text`: none to what combines, two to what is wide."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )
