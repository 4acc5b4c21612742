"""What commands print: sentences or one JSON document on stdout; questions and errors on stderr.

Nothing else prints (the linter holds it), so that whatever others have written is safe to be shown.
"""

from __future__ import annotations

import codecs
import itertools
import shutil
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from hubbackup.cli.columns import PAGE_ROWS, Column, aligned
from hubbackup.cli.printer import PRINTER
from hubbackup.cli.remedies import typable
from hubbackup.errors import HubbackupError
from hubbackup.shown_text import json_text, mask, printable


def say(*lines: str) -> None:
    """Each line on stdout, safe to be shown: whatever is in it, it stays one line; its commands can be typed."""
    for line in lines:
        PRINTER.write(sys.stdout, printable(mask(typable(line))) + "\n")


def complain(*lines: str, end: str = "\n") -> None:
    """As `say`, on stderr."""
    for line in lines:
        PRINTER.write(sys.stderr, printable(mask(typable(line))) + end)


def print_text(text: str) -> None:
    """A text of several lines on stdout, safe to be shown; it waits for its reader."""
    PRINTER.write(sys.stdout, printable(mask(text), keep="\n\t"), long=True)


def print_json(document: Any) -> None:
    """The one JSON document of `--json`."""
    PRINTER.write(sys.stdout, json_text(_masked(document), indent=2) + "\n")


def print_json_items(items: Iterable[Any]) -> None:
    """The one JSON document of `--json`, a list that may be long: packed meanwhile, and never held as objects.

    Nothing is printed before the last item is there: where one fails, stdout is left to the error's document.
    """
    pieces = _pieces(items)
    packed: list[bytes] = []
    while page := "".join(itertools.islice(pieces, PAGE_ROWS)):
        packed.append(zlib.compress(page.encode(), 1))
    for one in packed:
        PRINTER.write(sys.stdout, zlib.decompress(one).decode(), long=True)
    PRINTER.write(sys.stdout, "\n", long=True)


def print_json_with_items(document: dict[str, Any], key: str, items: Iterable[Any]) -> None:
    """As `print_json` of an object whose last value, under `key`, is a list that may be long."""
    head = json_text(_masked(document | {key: []}), indent=2)
    PRINTER.write(sys.stdout, head.removesuffix("[]\n}"), long=True)
    pieces = _pieces(items)
    while page := "".join(itertools.islice(pieces, PAGE_ROWS)):
        PRINTER.write(sys.stdout, page, long=True)
    PRINTER.write(sys.stdout, "\n}\n", long=True)


def _masked(value: Any) -> Any:
    """Sentences and addresses without secrets; a name stays the name by which a backup can be asked for."""
    if isinstance(value, str):
        return mask(value) if " " in value or "://" in value else value
    if isinstance(value, dict):
        return {key: _masked(item) for key, item in value.items()}
    return [_masked(item) for item in value] if isinstance(value, list | tuple) else value


def _pieces(items: Iterable[Any]) -> Iterator[str]:
    """The text of a JSON list, piece by piece."""
    separator = "["
    for item in items:
        yield f"{separator}\n  {json_text(_masked(item))}"
        separator = ","
    yield "[]" if separator == "[" else "\n]"


def print_columns(columns: Sequence[Column], rows: Iterable[Sequence[str]], width: int | None = None) -> None:
    """A table on stdout, as wide as the terminal at most (or as `width`); in a pipe as wide as it must be."""
    if width is None:
        width = shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else sys.maxsize
    lines = aligned(columns, rows, width)
    while page := "".join(f"{line}\n" for line in itertools.islice(lines, PAGE_ROWS)):
        PRINTER.write(sys.stdout, page, long=True)


def print_data(chunks: Iterable[bytes]) -> None:
    """Rows on stdout, byte for byte; on a terminal, all that it would obey is escaped but tabs and line ends."""
    if sys.stdout is None:
        return
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape") if sys.stdout.isatty() else None
    for chunk in chunks:
        if decoder is not None:
            PRINTER.write(sys.stdout, printable(decoder.decode(chunk), keep="\n\t"), long=True)
        else:
            PRINTER.write_bytes(sys.stdout, chunk, long=True)


def print_error(error: HubbackupError) -> None:
    """What failed and what to do next, on stderr."""
    complain(f"hubbackup: {error}")
    if error.remedy:
        complain(f"  what to do: {error.remedy}")
