"""Progress of a long run: a bar on a terminal, an event every 30 s in the log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import structlog
    from rich.console import RenderableType

LOG_EVERY_SECONDS = 30.0
DRAW_EVERY_SECONDS = 0.1
NARROW_BAR = 10


class Progress(Protocol):
    """Is given how far a piece of work has come, and in words what else is known of that; cheap enough to be called
    for each chunk."""

    def __call__(self, done_bytes: int, doing: str = "") -> None: ...


def silent(done_bytes: int, doing: str = "") -> None:
    """No progress is shown."""


class LogProgress:
    """Writes `<event>` with bytes, rate and, where the size is known, percent, every 30 s."""

    def __init__(
        self,
        log: structlog.stdlib.BoundLogger,
        event: str,
        total_bytes: int = 0,
        *,
        every_seconds: float = LOG_EVERY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._event = event
        self._total_bytes = total_bytes
        self._every_seconds = every_seconds
        self._clock = clock
        self._started_at = self._last_at = clock()

    def __call__(self, done_bytes: int, doing: str = "") -> None:
        now = self._clock()
        if now - self._last_at < self._every_seconds:
            return
        self._last_at = now
        fields: dict[str, Any] = {
            "bytes": done_bytes,
            "bytes_per_second": round(done_bytes / (now - self._started_at)),
        }
        if self._total_bytes:
            fields["percent"] = min(99, round(100 * done_bytes / self._total_bytes))
        if doing:
            fields["doing"] = doing
        message = f"at work: {done_bytes / 1e6:.0f} MB{f'; {doing}' if doing else ''}"
        self._log.info(self._event, message=message, **fields)


class ProgressMaker(Protocol):
    """Gives a Progress for one piece of work: its name, and its size in bytes where that is known (else 0).

    It may be told nothing, where the work is not counted in bytes.
    """

    def __call__(self, what: str, total_bytes: int) -> AbstractContextManager[Progress]: ...


def logged(log: structlog.stdlib.BoundLogger, kind: str) -> ProgressMaker:
    """Progress as events of the log, `<kind>.progress`."""

    def make(what: str, total_bytes: int) -> AbstractContextManager[Progress]:
        return nullcontext(LogProgress(log.bind(step=what), f"{kind}.progress", total_bytes))

    return make


@contextmanager
def bar(what: str, total_bytes: int = 0) -> Iterator[Progress]:
    """A bar on the terminal (stderr): bytes, rate, time; with the size known, what is left.

    Of work that is not counted in bytes, such as the server's own, only that it goes on, and for how long.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as RichProgress
    from rich.table import Column
    from rich.text import Text

    class Counted(ProgressColumn):
        """Another column, where there are bytes."""

        def __init__(self, column: ProgressColumn) -> None:
            super().__init__()
            self._column = column

        def render(self, task: Task) -> RenderableType:
            return self._column(task) if task.total or task.completed else Text()

    drawn = BarColumn()
    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")),
        drawn,
        Counted(DownloadColumn()),
        Counted(TransferSpeedColumn()),
        TimeElapsedColumn(),
        Counted(TimeRemainingColumn()),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=total_bytes or None)
        last_at = 0.0

        def update(done_bytes: int, doing: str = "") -> None:
            nonlocal last_at
            now = time.monotonic()
            if now - last_at >= DRAW_EVERY_SECONDS:
                last_at = now
                if doing:
                    drawn.bar_width = NARROW_BAR  # room for the words
                shown.update(task, completed=done_bytes, description=f"{what}: {doing}" if doing else what)

        yield update
