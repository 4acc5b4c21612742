"""The dead man's switch (healthchecks.io and its like): pinged when a backup starts, succeeds and fails.

Whoever is pinged raises the alarm when the pings stay away: so a lost ping is on the safe side, and is not spooled.
"""

from __future__ import annotations

import queue
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    import structlog

TIMEOUT_SECONDS = 5.0
ATTEMPTS = 3
PAUSE_SECONDS = 2.0
WAITING_PINGS = 10


class Pinger:
    """Sends pings one after the other from a thread of its own; `ping` returns at once and never raises."""

    def __init__(self, url: str, log: structlog.stdlib.BoundLogger) -> None:
        """`url` as HEARTBEAT_URL allows it."""
        self._url = urlsplit(url)
        self._log = log
        self._queue: queue.Queue[str] = queue.Queue(WAITING_PINGS)
        self._thread: threading.Thread | None = None

    def ping(self, word: str = "") -> None:
        """GET the URL itself, or with `/start` or `/fail` after its path."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="heartbeat-ping", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait(word)
        except queue.Full:
            self._log.warning("heartbeat.dropped", message="HEARTBEAT_URL is too slow: a ping was skipped")

    def probe(self) -> str | None:
        """Why the switch can't be reached, without its address; empty where it can, None behind a proxy, where only
        a ping shows it. Nothing is pinged."""
        from hubbackup.notify.probe import probe_url

        try:
            return "" if probe_url(urlunsplit(self._url)) else None
        except OSError as error:
            return error.strerror or type(error).__name__

    def drain(self, seconds: float) -> None:
        """Wait until every ping is sent, at most this long."""
        deadline = time.monotonic() + seconds
        while self._queue.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.02)

    def _work(self) -> None:
        while True:
            word = self._queue.get()
            problem = ""
            for attempt in range(1, ATTEMPTS + 1):
                problem = self._get(word)
                if not problem:
                    break
                if attempt < ATTEMPTS:
                    time.sleep(PAUSE_SECONDS)
            if problem:
                self._log.warning(
                    "heartbeat.failed",
                    message=f"HEARTBEAT_URL does not answer: {problem}",
                    ping=word or "success",
                    cause=problem,
                )
            self._queue.task_done()

    def _get(self, word: str) -> str:
        """Why the ping failed, without its address; empty where it did not."""
        path = f"{self._url.path.rstrip('/')}/{word}" if word else self._url.path
        url = urlunsplit(self._url._replace(path=path))
        request = urllib.request.Request(url, headers={"User-Agent": "hubbackup"})  # noqa: S310 - checked: http(s)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):  # noqa: S310
                return ""
        except urllib.error.HTTPError as error:
            return f"HTTP {error.code}"
        except urllib.error.URLError as error:
            return f"{type(error.reason).__name__}" if isinstance(error.reason, Exception) else str(error.reason)
        except Exception as error:  # noqa: BLE001 - a ping must end no thread; its text may hold the address
            return type(error).__name__
