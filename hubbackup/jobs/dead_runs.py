"""The runs that are over and may have left sessions in the database: known by name, so that no other's are ended.

A run that was killed leaves its run file behind; whoever holds the lock afterwards knows that it is dead, and notes
its id here. So does a run that could not end its own pg_dump. The next backup ends their sessions and forgets them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from hubbackup.jobs.current import OLD_SECONDS, machine, read

PREFIX = "dead-"
RUN_ID = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{6}")


class DeadRuns:
    """A file for each, in the directory of the lock. Without a directory nothing is noted. Never raises."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def note_killed(self, run_file: Path) -> None:
        """Note the run whose file is still there. Caller's duty: hold the lock that this run had.

        One of another machine, which the lock may not reach, is only dead once it has said nothing for a day.
        """
        found = read(run_file)
        if found is None:
            return
        if found.machine != machine():
            with contextlib.suppress(OSError, ValueError):
                silent = datetime.now(UTC) - datetime.fromisoformat(found.updated_at).astimezone(UTC)
                if silent.total_seconds() < OLD_SECONDS:
                    return
        self.note(found.run_id)

    def note(self, run_id: str) -> None:
        """Note a run of our own that is over."""
        if self._directory is not None and RUN_ID.fullmatch(run_id):
            with contextlib.suppress(OSError):
                (self._directory / f"{PREFIX}{run_id}").touch(mode=0o600)

    @property
    def ids(self) -> list[str]:
        """Their run ids, oldest first."""
        if self._directory is None:
            return []
        try:
            names = sorted(path.name.removeprefix(PREFIX) for path in self._directory.glob(f"{PREFIX}*"))
        except OSError:
            return []
        return [name for name in names if RUN_ID.fullmatch(name)]

    def forget(self, run_ids: Iterable[str]) -> None:
        """Forget these: nothing of them is left."""
        if self._directory is None:
            return
        for run_id in run_ids:
            with contextlib.suppress(OSError):
                (self._directory / f"{PREFIX}{run_id}").unlink()
