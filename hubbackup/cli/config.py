"""`hubbackup config`."""

from __future__ import annotations

from typing import Annotated

import typer


def config(json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False) -> int:
    """Show every effective setting and where it came from; secrets stay hidden."""
    import sys

    from hubbackup.cli.common import print_json, print_table
    from hubbackup.config import settings

    loaded = settings.load()
    for warning in loaded.warnings:
        print(f"AVERTISSEMENT: {warning}", file=sys.stderr)
    if json:
        print_json({name: {"value": value, "origin": origin} for name, value, origin in loaded.rows()})
        return 0
    from rich.table import Table

    table = Table("SETTING", "VALUE", "FROM", box=None, pad_edge=False)
    for row in loaded.rows():
        table.add_row(*row)
    print_table(table)
    return 0
