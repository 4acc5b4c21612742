"""The runs at work, seen from a second terminal and on the status page: a small file each, gone when the run ends.

What is written here is for people; a file that can't be written costs the run nothing, and one that makes no sense
is ignored.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from hubbackup.jobs.progress import Progress, ProgressMaker
from hubbackup.jobs.state_file import read_json, write_json
from hubbackup.units import human_bytes, human_seconds

FILE_NAME = "run.json"
"""Of the run that holds the lock."""
UNLOCKED = "run-{run_id}.json"
"""Of a run without the lock, which may go on beside that one."""
OLD_SECONDS = 24 * 3600
"""A run silent for this long counts as dead: it writes every second or so, and the process of
another container can't be seen."""
WRITE_EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class AtWork:
    """How far a run has come. `process_start` tells its process from a later one that got the same `pid`."""

    kind: str
    run_id: str
    started_at: str
    pid: int
    process_start: int
    stage: str = "start"
    step: str = ""
    done_bytes: int = 0
    total_bytes: int = 0
    bytes_per_second: int = 0
    updated_at: str = ""
    machine: str = ""
    """As `machine()` has it: elsewhere a process number says nothing."""

    @property
    def since(self) -> datetime:
        """When the run began, in UTC."""
        return datetime.fromisoformat(self.started_at).astimezone(UTC)

    @property
    def alive(self) -> bool:
        """Whether the process that wrote this still runs; a killed one leaves its file behind."""
        return self.process_start != 0 and _process_start(self.pid) == self.process_start

    @property
    def seconds_left(self) -> float | None:
        """What this step will still take at its rate; None where its size or rate is not known."""
        if self.bytes_per_second <= 0 or self.total_bytes <= self.done_bytes:
            return None
        return (self.total_bytes - self.done_bytes) / self.bytes_per_second

    @property
    def how_far(self) -> str:
        """`stage dump: 1.2 GB of about 3.4 GB at 120 MB/s, about 18 s left`: as much of it as is known."""
        if not self.done_bytes:
            return f"stage {self.stage}"
        step = f", {self.step}" if self.step not in ("", self.stage) else ""
        total = f" of about {human_bytes(self.total_bytes)}" if self.total_bytes >= self.done_bytes else ""
        rate = f" at {human_bytes(self.bytes_per_second)}/s" if self.bytes_per_second > 0 else ""
        left = f", about {human_seconds(self.seconds_left)} left" if self.seconds_left is not None else ""
        return f"stage {self.stage}{step}: {human_bytes(self.done_bytes)}{total}{rate}{left}"


class RunFile:
    """Writes how far one run has come: each stage at once, progress once a second at most. Never raises.

    Without a path it writes nothing.
    """

    def __init__(
        self,
        path: Path | None,
        kind: str,
        run_id: str,
        started_at: datetime,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._clock = clock
        pid = os.getpid()
        self._state = AtWork(
            kind, run_id, started_at.astimezone(UTC).isoformat(), pid, _process_start(pid), machine=machine()
        )
        self._last_at = 0.0

    def stage(self, name: str) -> None:
        """A stage begins."""
        self._state = replace(self._state, stage=name, step="", done_bytes=0, total_bytes=0, bytes_per_second=0)
        self._write()

    def recorded(self, make: ProgressMaker) -> ProgressMaker:
        """`make`, with what is reported to it written here too."""

        @contextmanager
        def tee(what: str, total_bytes: int) -> Iterator[Progress]:
            began_at = self._clock()
            with make(what, total_bytes) as shown:

                def update(done_bytes: int, doing: str = "") -> None:
                    shown(done_bytes, doing)
                    now = self._clock()
                    if now - self._last_at >= WRITE_EVERY_SECONDS:
                        rate = round(done_bytes / max(now - began_at, 0.001))
                        self._state = replace(
                            self._state,
                            step=what,
                            done_bytes=done_bytes,
                            total_bytes=total_bytes,
                            bytes_per_second=rate,
                        )
                        self._write()

                yield update

        return tee

    def remove(self) -> None:
        """The run has ended."""
        if self._path is None:
            return
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _write(self) -> None:
        if self._path is None:
            return
        self._last_at = self._clock()
        state = replace(self._state, updated_at=datetime.now(UTC).isoformat())
        with contextlib.suppress(OSError):
            write_json(self._path, asdict(state))


def read(path: Path) -> AtWork | None:
    """The run that `path` describes, alive or not; None where there is none, or the file makes no sense."""
    try:
        facts = read_json(path)
        found = AtWork(**facts)
        if any(type(facts[one.name]) is not (int if one.type == "int" else str) for one in fields(AtWork)):
            return None
        found.since  # noqa: B018 - raises where it is not a time
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        return None
    return found


def all_alive(directory: Path) -> list[AtWork]:
    """Every run at work that keeps its files in `directory`, the one that holds the lock first."""
    paths = [directory / FILE_NAME, *_unlocked(directory)]
    return [found for path in paths if (found := read(path)) is not None and found.alive]


def unlocked_file(directory: Path, run_id: str) -> Path:
    """Where a run without the lock reports its progress. What killed ones left is removed after a day."""
    for path in _unlocked(directory):
        found = read(path)
        if found is None or not found.alive:
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > OLD_SECONDS:
                    path.unlink()
    return directory / UNLOCKED.format(run_id=run_id)


def _unlocked(directory: Path) -> list[Path]:
    try:
        return sorted(directory.glob(UNLOCKED.format(run_id="*")))
    except OSError:
        return []


def machine() -> str:
    """What sets this start of this machine apart; its containers share it. Empty where nothing does."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _process_start(pid: int) -> int:
    """When the process began, in clock ticks since the machine's start; 0 where there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(stat.rpartition(")")[2].split()[19])  # the name before the bracket may hold spaces
    except (OSError, ValueError, IndexError):
        return 0
