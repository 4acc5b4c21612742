"""A whole file gets its final name, and takes it from nobody."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def give_name(draft: Path, final: Path) -> None:
    """Publish `draft` without overwriting; its own name may stay, as a second one, for the caller to remove.

    Raises FileExistsError where `final` is taken, by whatever it is, and OSError.
    """
    try:
        # A hard link is the one portable call that fails where the new name exists; `rename` would replace it.
        os.link(draft, final, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # FAT, some network file systems: looking first leaves a gap, which the run lock covers for our own runs.
        if os.path.lexists(final):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(final)) from error
        draft.rename(final)
