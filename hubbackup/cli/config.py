"""`hubbackup config`."""

from __future__ import annotations

from rich.table import Table

from hubbackup.cli.options import Json
from hubbackup.cli.output import print_json
from hubbackup.cli.table import cell, print_table
from hubbackup.cli.terminal import print_warnings
from hubbackup.config.load import load_settings


def config(json: Json = False) -> int:
    """Show every setting in effect, and where it came from.

    Secrets are hidden.
    """
    loaded = load_settings()
    print_warnings(loaded.warnings)
    if json:
        print_json({name: {"value": value, "origin": origin} for name, value, origin in loaded.rows()})
        return 0
    table = Table("SETTING", "VALUE", "FROM", box=None, pad_edge=False)
    for row in loaded.rows():
        table.add_row(*map(cell, row))
    print_table(table)
    return 0
