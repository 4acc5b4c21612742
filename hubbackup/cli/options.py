"""The arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else.")]
Store = Annotated[str, typer.Option("--store", metavar="STORE", help="local, s3, mirror or all.")]
BackupName = Annotated[str, typer.Argument(metavar="NAME", help="A backup's name, as `hubbackup list` prints it.")]
OptionalName = Annotated[
    str, typer.Argument(metavar="NAME", help="A backup's name. Default: the newest.", show_default=False)
]
Identity = Annotated[
    list[str] | None,
    typer.Option(
        "--identity",
        metavar="FILE",
        help="A file with the private key of a sealed backup, or - for stdin; may be given again. Default:"
        " BACKUP_IDENTITY_FILE.",
        show_default=False,
    ),
]
Database = Annotated[
    str, typer.Option("--database", metavar="DATABASE", help="Of this database alone.", show_default=False)
]
Latest = Annotated[bool, typer.Option("--latest", help="The newest good backup.")]
