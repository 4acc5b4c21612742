"""A small disk of one's own, mounted for a test; it takes root, as the tests in CI have it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class SmallDisk:
    """A tmpfs. `ballast` is the file that takes what a test wants taken."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ballast = directory / "ballast"

    @property
    def free_bytes(self) -> int:
        """What `statvfs` says."""
        figures = os.statvfs(self.directory)
        return figures.f_bavail * figures.f_frsize

    def leave(self, free_bytes: int) -> None:
        """Fill it until only so much is free."""
        self._ballast.write_bytes(b"")
        self._ballast.write_bytes(bytes(self.free_bytes - free_bytes))


@contextmanager
def small_disk(directory: Path, size: str) -> Iterator[SmallDisk]:
    """A disk of `size` (as mount(8) has it) at `directory`, which is made."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory], check=True)
    try:
        yield SmallDisk(directory)
    finally:
        subprocess.run(["umount", directory], check=True)
