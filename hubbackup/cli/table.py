"""Tables for people, with colours and wrapped cells. For long lists output.print_columns is far faster."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hubbackup.cli.printer import PRINTER
from hubbackup.shown_text import mask, printable


def cell(text: str) -> Text:
    """A cell of `text`, safe to be shown; nothing in it is taken for rich's own markup."""
    return Text(printable(mask(text)))


def print_table(table: Table) -> None:
    """A table, as wide as it must be where nobody looks (a pipe), else as wide as the terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    with console.capture() as captured:
        console.print(table)
    PRINTER.write(sys.stdout, captured.get(), long=True)
