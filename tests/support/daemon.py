"""A running daemon, and what it says; with a faster life than the real one, where a test would wait for it."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.moments import wait_until
from tests.support.program import Program

NEVER = "0 0 29 2 *"
OFTEN = """\
import sys
import hubbackup.daemon.scheduler, hubbackup.daemon.service
hubbackup.daemon.scheduler.LOOK_SECONDS = hubbackup.daemon.service.LOOK_SECONDS = 0.2
sys.argv[0] = "hubbackup"
"""
"""It looks at its settings and at the clock five times a second."""
EVERY_SECOND = """\
from datetime import timedelta
from hubbackup.config.schedule import Schedule
Schedule.next_after = lambda self, moment: moment.replace(microsecond=0) + timedelta(seconds=1)
"""
"""A schedule has minutes; so that no test has to wait for one, every second is due here. All else is the program."""
MAIN = """\
from hubbackup.__main__ import main
main()
"""


class Daemon:
    """A running daemon, its log read line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.errors: list[str] = []
        assert process.stdout is not None
        assert process.stderr is not None
        self._readers = [
            threading.Thread(target=into.extend, args=(stream,), daemon=True)
            for into, stream in ((self.lines, process.stdout), (self.errors, process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """The log so far; every line of it must be a JSON object with an event id."""
        found = [json.loads(line) for line in list(self.lines)]
        assert all(event["event"] and event["timestamp"] and event["level"] for event in found)
        return [event for event in found if name in ("", event["event"])]

    def wait_for(self, name: str, count: int = 1, seconds: float = 60) -> list[dict[str, Any]]:
        """The events of that name, once there are so many."""
        try:
            wait_until(lambda: len(self.events(name)) >= count, f"{count} {name}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.lines[-5:]} {self.errors}") from None
        return self.events(name)

    def has_settled(self) -> None:
        """Wait until all that a start does is done, and end it: what has not happened by then never will."""
        self.wait_for("doctor.finished")
        assert self.stop() == 143

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it, wait for its end as `docker stop` does, and return its exit code."""
        self.process.send_signal(number)
        code = self.process.wait(timeout=10)
        for reader in self._readers:
            reader.join(timeout=5)
        return code


@contextmanager
def running(program: Program, *, every_second: bool = False, before: str = "", **settings: str) -> Iterator[Daemon]:
    """A daemon; on stderr it must have written nothing by the end. `before`: Python code that it begins with."""
    code = OFTEN + before + (EVERY_SECOND if every_second else "") + MAIN
    process = program.start("daemon", code=code, **settings)
    daemon = Daemon(process)
    try:
        yield daemon
        if process.poll() is None:
            daemon.stop()
        assert "".join(daemon.errors) == ""
    finally:
        process.kill()
        process.wait()
