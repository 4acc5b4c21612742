"""What hubbackup itself remembers between runs: everything in `BACKUP_DIR/.hubbackup`."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from hubbackup.catalog.known_databases import KnownDatabases
from hubbackup.catalog.restored import Restored
from hubbackup.catalog.schema_proofs import SchemaProofs
from hubbackup.health import health_path
from hubbackup.jobs.current import FILE_NAME, AtWork, read
from hubbackup.jobs.history import History

STATE_DIRECTORY = ".hubbackup"
"""In BACKUP_DIR, hidden from the guide's `ls`: lock and history, so that they outlive the container."""


class State:
    """The lock, the records of runs and of readings, and where they rest. Nothing is made before it is written."""

    def __init__(self, backup_dir: Path) -> None:
        self._backup_dir = backup_dir

    @property
    def directory(self) -> Path:
        """In BACKUP_DIR; where that can't be written, the container's own runtime directory, for S3's sake."""
        writable = os.path.isdir(self._backup_dir) and os.access(self._backup_dir, os.W_OK)
        return self.home if writable else health_path().parent

    @property
    def home(self) -> Path:
        """The place in BACKUP_DIR, whether or not it can be written now: where the manifests' key is kept."""
        return self._backup_dir / STATE_DIRECTORY

    @property
    def lock(self) -> Path:
        """The run lock, shared by every hubbackup that works on this BACKUP_DIR."""
        return self.directory / "lock"

    @cached_property
    def history(self) -> History:
        """The record of past runs."""
        return History(self.directory / "history.jsonl")

    @cached_property
    def copy_history(self) -> History:
        """The record of the copies that were read again: one line each, so there are far more lines than runs."""
        return History(self.directory / "verified.jsonl", keep_lines=20_000, trim_bytes=16 << 20)

    @cached_property
    def schema_proofs(self) -> SchemaProofs:
        """Which schema of each database was last shown to restore."""
        return SchemaProofs(lambda: self.directory / "schemas.json")

    @property
    def settings_file(self) -> Path:
        """What the settings were when the daemon last started."""
        return self.directory / "settings.json"

    @cached_property
    def restored(self) -> Restored:
        """What restores have loaded."""
        return Restored(lambda: self.directory / "restored.json")

    @cached_property
    def known_databases(self) -> KnownDatabases:
        """Which databases the server had when all of them were last backed up."""
        return KnownDatabases(lambda: self.directory / "databases.json")

    @property
    def compose_file(self) -> Path:
        """What is known of the compose files that started this container."""
        return self.directory / "compose.json"

    def at_work(self) -> AtWork | None:
        """The run that holds the lock, or the one that was killed while it did."""
        return read(self.lock.with_name(FILE_NAME))
