"""`hubbackup keygen`."""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from hubbackup.cli.options import Json
from hubbackup.cli.output import print_json, say
from hubbackup.config.reader import in_container
from hubbackup.errors import HubbackupError, UsageError
from hubbackup.streams.age_keys import generate

FILE_NAME = "hubbackup.key"
STDOUT = "-"


def keygen(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Where the private key is written; never over a file. -: to stdout."),
    ] = Path(FILE_NAME),
    json: Json = False,
) -> int:
    """Make a pair of keys that seals backups and opens them.

    The private key is written to FILE, for its owner alone (0600), as age-keygen writes it. The public one is
    printed, for BACKUP_ENCRYPT_RECIPIENTS. It is best made on another machine than the server.
    """
    private, public = generate()
    lines = (f"# created: {datetime.now(UTC).isoformat(timespec='seconds')}", f"# public key: {public}", private)
    if str(file) == STDOUT:
        say(*lines)
        return 0
    if in_container() and not file.is_absolute():
        raise UsageError(
            f"{file} would be in the container, and lost with it",
            remedy=f"hubbackup keygen - > {FILE_NAME}, then chmod 600 {FILE_NAME}",
        )
    _write(file, "".join(f"{line}\n" for line in lines))
    if json:
        print_json({"exit_code": 0, "file": str(file), "public_key": public})
        return 0
    say(
        f"The private key is in {file}: whoever has it reads your backups, and without it nobody does, nor do you.",
        f"The public key is {public}",
        "",
        "Now:",
        f"  1. print {file}, and lay it beside the papers of the company; put a copy into your password manager",
        f"  2. take {file} off this server, if it is one whose backups are sealed for it",
        f"  3. on the server, in .env.production: BACKUP_ENCRYPT_RECIPIENTS={public}",
        "  4. hubbackup backup, then with the key: hubbackup verify --identity FILE",
    )
    return 0


def _write(file: Path, text: str) -> None:
    """A new file, whole and 0600 from its first moment. Raises UsageError where there is one, HubbackupError."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise UsageError(
            f"{file} is there already, and is not overwritten: it may be the only key to a backup",
            remedy="name another file",
        ) from error
    except OSError as error:
        raise UsageError(f"{file} can't be made: {error.strerror}", remedy="name another file") from error
    try:
        with open(descriptor, "w", encoding="ascii") as written:  # noqa: PTH123 - a descriptor, not a path
            os.fchmod(descriptor, 0o600)  # whatever the umask is
            written.write(text)
            written.flush()
            os.fsync(descriptor)
    except OSError as error:
        with contextlib.suppress(OSError):
            file.unlink()
        raise HubbackupError(f"{file} could not be written: {error.strerror}", remedy="name another file") from error
