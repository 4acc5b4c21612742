"""What commands print on stdout: one JSON document, or aligned columns; and an error on stderr."""

from __future__ import annotations

import itertools
import json
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from hubbackup.errors import HubbackupError

PAGE_ROWS = 1000
"""So many rows of a long table are held at a time."""


def print_json(document: Any) -> None:
    """The one JSON document of `--json`."""
    print(json.dumps(document, indent=2, default=str, ensure_ascii=False))


def print_json_items(items: Iterable[Any]) -> None:
    """The one JSON document of `--json`, a list that may be long: packed meanwhile, and never held as objects.

    Nothing is printed before the last item is there: where one fails, stdout is left to the error's document.
    """
    pieces = _pieces(items)
    packed: list[bytes] = []
    while page := "".join(itertools.islice(pieces, PAGE_ROWS)):
        packed.append(zlib.compress(page.encode(), 1))
    for one in packed:
        print(zlib.decompress(one).decode(), end="")
    print()


def print_json_with_items(document: dict[str, Any], key: str, items: Iterable[Any]) -> None:
    """As `print_json` of an object whose last value, under `key`, is a list that may be long."""
    head = json.dumps(document | {key: []}, indent=2, default=str, ensure_ascii=False)
    print(head.removesuffix("[]\n}"), end="")
    for piece in _pieces(items):
        print(piece, end="")
    print("\n}")


def _pieces(items: Iterable[Any]) -> Iterator[str]:
    """The text of a JSON list, piece by piece."""
    separator = "["
    for item in items:
        yield f"{separator}\n  {json.dumps(item, default=str, ensure_ascii=False)}"
        separator = ","
    yield "[]" if separator == "[" else "\n]"


def print_columns(rows: Iterable[Sequence[str]]) -> None:
    """Rows of cells in aligned columns. For long lists: rich needs a minute for what this prints in a second.

    Of a very long one the columns may widen on the way, since it is never held whole.
    """
    widths: list[int] = []
    iterator = iter(rows)
    while page := list(itertools.islice(iterator, PAGE_ROWS)):
        found = [max(map(len, column)) for column in zip(*page, strict=True)]
        widths = list(map(max, widths, found)) if widths else found
        for row in page:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print("  ".join(cells).rstrip().replace("\n", "\\n"))


def print_error(error: HubbackupError) -> None:
    """What failed and what to do next, on stderr."""
    print(f"hubbackup: {error}", file=sys.stderr)
    if error.remedy:
        print(f"  what to do: {error.remedy}", file=sys.stderr)
