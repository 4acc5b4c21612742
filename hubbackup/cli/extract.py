"""`hubbackup extract`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from hubbackup.cli.options import BackupName, Identity, Store
from hubbackup.cli.output import complain, print_data
from hubbackup.cli.session import make_opening_app
from hubbackup.cli.terminal import print_warnings, progress
from hubbackup.cli.whole_file import write_whole
from hubbackup.contents.extract import Extraction, RowFormat
from hubbackup.contents.extract import extract as extract_table
from hubbackup.dump.table_names import columns as column_names
from hubbackup.errors import EXIT_SUCCESS

STDOUT = "-"

Table = Annotated[str, typer.Option("--table", metavar="TABLE", help="The table, as psql takes its name.")]
Format = Annotated[RowFormat, typer.Option("--format", help="csv, as the server writes it; copy, COPY's text; sql.")]
Columns = Annotated[
    str | None,
    typer.Option("--columns", metavar="COLUMNS", help="Only these: id, name. Default: all.", show_default=False),
]
Output = Annotated[
    str, typer.Option("--output", metavar="FILE", help="A new file. Default: stdout.", show_default=False)
]
Foreign = Annotated[bool, typer.Option("--foreign", help="Take a backup that is not known to be ours.")]


def extract(
    name: BackupName,
    table: Table,
    row_format: Format = RowFormat.CSV,
    columns: Columns = None,
    output: Output = STDOUT,
    store: Store = "all",
    identity: Identity = None,
    foreign: Foreign = False,
) -> int:
    """Take one table's rows out of a backup: CSV, COPY's text, SQL.

    Nothing is restored. Of a backup in S3 only the part that holds the table is fetched.
    """
    wanted = column_names(columns) if columns is not None else []
    app = make_opening_app(identity)
    stored = app.contents.stored(name, store, foreign=foreign)
    print_warnings(stored.remarks)
    stored.demand(table)
    found: Extraction | None = None

    def chunks() -> Iterable[bytes]:
        nonlocal found
        found = extract_table(app.contents.parts(stored, progress(quiet=False)), table, row_format, wanted)
        return found.chunks

    if output == STDOUT:
        print_data(chunks())
    else:
        write_whole(Path(output), chunks)
    if found is not None:
        where = "" if output == STDOUT else f" are in {output}"
        complain(f"{found.rows} rows of {found.table} from {stored.name} in {stored.where}{where}")
    return EXIT_SUCCESS
