"""The private keys of a run: the files that the command line or the settings name, read when they are needed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hubbackup.config.load import readable_copy
from hubbackup.config.settings import Settings
from hubbackup.errors import UsageError
from hubbackup.streams.age_keys import FILE_BYTES, Ask, Identities, KeyFile

STDIN = "-"
"""In the place of a file's name."""
SETTING = "BACKUP_IDENTITY_FILE"


def identities_of(settings: Settings, named: Sequence[str] = (), ask: Ask | None = None) -> Identities:
    """Those of the files that were `named` on the command line, else of the setting's.

    Without `ask` nobody is there to type a passphrase.
    """
    if named:
        return Identities([_stdin() if one == STDIN else _file(Path(one), "--identity") for one in named], ask)
    path = settings.backup_identity_file
    return Identities([_file(path, SETTING)] if path is not None else [], ask)


def _file(path: Path, origin: str) -> KeyFile:
    def read() -> bytes:
        try:
            if origin == SETTING and not readable_copy(path).is_file():  # nobody is there at 3 a.m. to end a FIFO
                path.stat()
                raise UsageError(f"{origin}: {path} is not a file", remedy="name the file with the private key")
            with readable_copy(path).open("rb") as file:
                return _bounded(str(path), file.read(FILE_BYTES + 1))
        except OSError as error:
            raise UsageError(
                f"{origin}: {path} can't be read: {error.strerror}",
                remedy="in a container it is the path inside that counts; --identity - takes the key from stdin",
            ) from error

    return KeyFile(str(path), read)


def _stdin() -> KeyFile:
    def read() -> bytes:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError("--identity - reads the key from a pipe: hubbackup … --identity - < FILE")
        return _bounded("the key on stdin", sys.stdin.buffer.read(FILE_BYTES + 1))

    return KeyFile("the key on stdin", read)


def _bounded(name: str, data: bytes) -> bytes:
    if len(data) > FILE_BYTES:
        raise UsageError(f"{name} is too large for a file of keys")
    return data
