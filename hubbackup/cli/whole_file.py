"""A file that a command writes for its user: readable by its owner alone, and there only once it is whole."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hubbackup.errors import HubbackupError, UsageError
from hubbackup.stores.final_name import give_name

_SHOWN_BYTES = 100
"""Of the file's name, in that of its draft: that has room for its own ending."""


def write_whole(path: Path, chunks: Callable[[], Iterable[bytes]]) -> None:
    """Write what `chunks` gives, once the file can be written at all. An error of theirs leaves nothing behind.

    Raises UsageError where the file is there already, or can't be; HubbackupError where writing fails.
    """
    with _draft(path) as (draft, descriptor):
        for chunk in chunks():
            with _errors(path):
                rest = memoryview(chunk)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
        with _errors(path):
            os.fsync(descriptor)
            give_name(Path(draft), path)


@contextmanager
def _draft(path: Path) -> Iterator[tuple[str, int]]:
    if os.path.lexists(path):
        raise UsageError(f"{path} is there already, and is not overwritten", remedy="remove it, or name another file")
    shown = os.fsdecode(os.fsencode(path.name)[:_SHOWN_BYTES])
    try:
        descriptor, draft = tempfile.mkstemp(prefix=f".{shown}.", suffix=".partial", dir=path.parent)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not a name of a file"
        raise UsageError(
            f"{path} can't be written: {why}", remedy="name a file in a directory that is there"
        ) from error
    try:
        yield draft, descriptor
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        with contextlib.suppress(OSError):
            Path(draft).unlink()


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HubbackupError(
            f"{path} could not be written: {error.strerror}", remedy="write it somewhere else"
        ) from error
