"""What every command needs: the App for this process, and its way of printing."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from hubbackup.units import human_age as human_age

if TYPE_CHECKING:
    from rich.table import Table

    from hubbackup.app import App
    from hubbackup.jobs.progress import ProgressMaker

PAGE_ROWS = 1000
"""So many rows of a long table are held at a time."""


def make_app(*, log_stream: TextIO | None = None, log_format: str = "") -> App:
    """Read the settings, set up logs and signals. The command line logs to stderr, the daemon to stdout.

    Raises SettingsError.
    """
    from hubbackup.app import App
    from hubbackup.config import settings
    from hubbackup.logs import setup as logs
    from hubbackup.streams import malloc
    from hubbackup.streams.cancel import Cancel

    malloc.one_heap()
    loaded = settings.load()
    os.environ.update(loaded.library_variables)
    stream = log_stream or sys.stderr
    logs.configure(
        level=loaded.settings.log_level,
        log_format=log_format or ("console" if stream.isatty() else loaded.settings.log_format),
        stream=stream,
        secrets=loaded.secrets(),
        log_file=loaded.settings.log_file,
        rotate=log_stream is not None,
    )
    cancel = Cancel()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: cancel.set(received))
    log = logs.get_logger()
    for warning in loaded.warnings:
        log.warning("settings.warning", message=warning)
    return App(loaded, cancel=cancel, log=log)


def terminal_progress() -> ProgressMaker | None:
    """Bars where somebody looks; else None, and the log tells the progress."""
    if not sys.stderr.isatty():
        return None
    from hubbackup.jobs.progress import bar

    return bar


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


def print_table(table: Table) -> None:
    """A table, as wide as it must be where nobody looks (a pipe), else as wide as the terminal."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)
