"""The run lock: one run at a time on a BACKUP_DIR, whichever process it is in."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hubbackup.errors import HubbackupError, LockHeldError


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the run lock, an flock on `path`: it ends with the process, however that ends.

    Raises LockHeldError at once where another run holds it.
    """
    descriptor = _open_lock(path)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 64, 0).decode("ascii", "replace").strip() or "unknown"
            raise LockHeldError(
                f"another run of hubbackup is at work (process {holder})",
                remedy="wait for it to end; `hubbackup status` shows the last runs",
            ) from error
        with contextlib.suppress(OSError):  # a full disk: the lock holds all the same, only its holder has no name
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def lock_id(path: Path) -> str:
    """What tells this lock from every other one of this machine, for all who share it, in whichever container: of the
    same directory each of them sees the same file. Empty where there is none.
    """
    try:
        file = path.stat()
    except OSError:
        return ""
    return f"{file.st_dev:x}-{file.st_ino:x}"


def _open_lock(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        return os.open(path, flags, 0o600)
    except OSError as error:
        raise HubbackupError(
            f"the lock file {path} can't be opened: {error.strerror}",
            remedy=f"make {path.parent} writable for the user that hubbackup runs as",
        ) from error
