"""The newest snapshot, kept fresh by a thread of its own: whoever asks for it never waits for a store.

A survey that fails or hangs leaves the last snapshot, whose age everybody can see. Nothing of it reaches the runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hubbackup.errors import StoppedError
from hubbackup.status.snapshot import Snapshot

if TYPE_CHECKING:
    import structlog

EVERY_SECONDS = 300.0
"""Between two looks at the stores, where no run has ended."""
GLANCE_SECONDS = 10.0
"""Between two looks at the history's file: so a run from the command line shows at once too."""


class SnapshotCache:
    """Takes snapshots with `survey`, at the start, whenever `changed` gives another value, and every few minutes."""

    def __init__(
        self,
        survey: Callable[[datetime], Snapshot],
        changed: Callable[[], Hashable],
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._survey = survey
        self._changed = changed
        self._log = log
        self._current: Snapshot | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_fresh, name="cache", daemon=True)

    @property
    def current(self) -> Snapshot | None:
        """The newest snapshot; None until the first is there."""
        return self._current

    def start(self) -> None:
        """Begin to look; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking. A survey at work is not waited for: its thread ends with the process."""
        self._stop.set()

    def refresh(self) -> None:
        """Look now, in the caller's thread."""
        self._current = self._survey(datetime.now(UTC))

    def _keep_fresh(self) -> None:
        failing = False
        while not self._stop.is_set():
            seen = self._changed()
            try:
                self.refresh()
                failing = False
            except StoppedError:
                return
            except Exception:  # noqa: BLE001 - whatever a survey dies of, the next may do
                if not failing:  # once per outage, not every few minutes
                    self._log.exception("survey.failed", message="the status page can't be updated")
                failing = True
            self._wait_for_news(seen)

    def _wait_for_news(self, seen: Hashable) -> None:
        waited = 0.0
        while waited < EVERY_SECONDS and not self._stop.wait(GLANCE_SECONDS):
            waited += GLANCE_SECONDS
            if self._changed() != seen:
                return
