"""Edits of the settings while the daemon runs: taken up where they can be used, refused aloud where they can't."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from hubbackup.app import App
from hubbackup.app.process import Process
from hubbackup.config.changes import Change, compare
from hubbackup.config.load import ENV_FILE_VARIABLE, LoadedSettings
from hubbackup.errors import SettingsError
from hubbackup.jobs.state_file import read_json, write_json
from hubbackup.notify.messages import compose_refused_settings

SETTLE_SECONDS = 1.0
"""A file that was written within this time may be half-written."""
REPEAT_SECONDS = 3600.0
"""A refusal is said in the log as often as this while it lasts."""


class Refusal:
    """Says why settings can't be used: each reason in an alert once, and in the log each hour while it lasts."""

    def __init__(self) -> None:
        self.sentence = ""
        self._said_at = 0.0

    def tell(self, app: App, error: SettingsError, *, running: bool) -> None:
        """`app` has what can tell it, `running` is whether older settings stay in force."""
        fresh = not self.is_of(error)
        if not fresh and time.monotonic() - self._said_at < REPEAT_SECONDS:
            return
        self.sentence, self._said_at = _whole(error), time.monotonic()
        what = "the edited settings can't be used, the old ones stay" if running else "no backup is scheduled"
        app.log.error("settings.refused", message=f"{what}: {error}", remedy=error.remedy)
        if fresh:
            with contextlib.suppress(SettingsError):  # a URL of a sink may be what is wrong
                notifier = app.notifier
                notifier.send(compose_refused_settings(error, notifier.place(), datetime.now(UTC), running=running))

    def is_of(self, error: SettingsError) -> bool:
        """Whether it is what was said last."""
        return self.sentence == _whole(error)

    def over(self) -> bool:
        """The settings can be used; whether they could not before."""
        was, self.sentence = bool(self.sentence), ""
        return was


class Edits:
    """Looks at the settings again and again; `pending`: the App for changed ones, which the next daemon takes up."""

    def __init__(self, process: Process, app: App) -> None:
        self.pending: App | None = None
        self.changes: list[Change] = []
        """From the App at work to the pending one."""
        self._process = process
        self._newest = app
        self._refusal = Refusal()
        self._lock = threading.Lock()

    @property
    def newest(self) -> App:
        """The App for the newest settings that can be used, as far as was looked."""
        return self._newest

    def look(self) -> App:
        """Read the settings again; returns `newest`. Raises StoppedError."""
        with self._lock:
            try:
                loaded = self._read()
                if not _same(loaded, self._newest.loaded):
                    self._process.check(loaded)
                    self._accept(loaded)
            except SettingsError as error:
                self._refusal.tell(self._newest, error, running=True)
            else:
                if self._refusal.over():
                    self._newest.log.info("settings.accepted", message="the settings can be used again")
            return self._newest

    @property
    def remark(self) -> str:
        """What there is to say of them in one sentence, or nothing."""
        if self._refusal.sentence:
            return f"the last edit of the settings can't be used, the old ones stay: {self._refusal.sentence}"
        if self.pending is not None:
            names = ", ".join(change.name for change in self.changes)
            return f"settings were changed ({names}), which the run at work does not have yet"
        return ""

    def _read(self) -> LoadedSettings:
        name = self._process.environ.get(ENV_FILE_VARIABLE, "")
        if name:
            with contextlib.suppress(OSError):
                if 0 <= time.time() - Path(name).stat().st_mtime < SETTLE_SECONDS:
                    self._process.cancel.wait(SETTLE_SECONDS)
        loaded = self._process.load()
        if name and name in self._newest.loaded.origins.values() and name not in loaded.origins.values():
            raise SettingsError(
                f"{ENV_FILE_VARIABLE}: {name} is gone, or empty",
                remedy="put it back; docs/settings.md says what goes in",
            )
        return loaded

    def _accept(self, loaded: LoadedSettings) -> None:
        self.pending = self._newest = self._process.app(loaded)
        self.changes += tell_changes(self._newest)


def tell_changes(app: App) -> Sequence[Change]:
    """Log what is new in the settings since they were last taken up, here or in an earlier process."""
    path = app.state.settings_file
    changes, kept = compare(read_json(path), app.loaded.values())
    with contextlib.suppress(OSError):  # then the next start compares with an older one
        write_json(path, kept)
    if changes:
        names = ", ".join(change.name for change in changes)
        app.log.info(
            "settings.changed",
            message=f"settings changed: {names}",
            changes=[asdict(change) for change in changes],
        )
    return changes


def _whole(error: SettingsError) -> str:
    return f"{error}; what to do: {error.remedy}" if error.remedy else str(error)


def _same(one: LoadedSettings, other: LoadedSettings) -> bool:
    return (
        one.values() == other.values()
        and one.library_variables == other.library_variables
        and one.warnings == other.warnings
    )
