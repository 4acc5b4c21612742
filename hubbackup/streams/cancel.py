"""Cancellation: one flag that a signal handler sets and every bounded wait looks at."""

from __future__ import annotations

import time

from hubbackup.errors import StoppedError

TICK_SECONDS = 0.2


class Cancel:
    """Set once by a signal handler; every bounded wait of a run looks at it.

    A plain flag and short sleeps instead of an Event: a handler runs between any two instructions of the main
    thread, also while that thread holds the Event's own lock, and would then wait for itself.
    """

    def __init__(self) -> None:
        self._signal_number = 0

    def set(self, signal_number: int = 15) -> None:
        """Ask the run to stop; takes no lock."""
        self._signal_number = signal_number

    def is_set(self) -> bool:
        """True once a stop was asked for."""
        return self._signal_number != 0

    def check(self) -> None:
        """Raise StoppedError once a stop was asked for."""
        if self._signal_number:
            raise StoppedError(self._signal_number)

    def wait(self, seconds: float) -> None:
        """Sleep for `seconds`; raise StoppedError within a fifth of a second of a stop being asked for."""
        deadline = time.monotonic() + seconds
        while True:
            self.check()
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, TICK_SECONDS))


class PartCancel(Cancel):
    """The flag of a part of a run, such as one of several threads: set by itself, or with the whole run's."""

    def __init__(self, whole: Cancel) -> None:
        super().__init__()
        self._whole = whole

    def is_set(self) -> bool:
        """True once the part or the whole was asked to stop."""
        return super().is_set() or self._whole.is_set()

    def check(self) -> None:
        """Raise StoppedError once the part or the whole was asked to stop."""
        self._whole.check()
        super().check()
