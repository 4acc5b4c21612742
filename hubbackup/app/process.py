"""What a process has once, however often the settings change: its own environment, its signals, its log."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import TextIO

from hubbackup.app import App
from hubbackup.config.load import LoadedSettings, load_settings
from hubbackup.logs import setup as logs
from hubbackup.logs.sentences import Sentences
from hubbackup.streams import malloc
from hubbackup.streams.cancel import Cancel


class Process:
    """Makes the App of this process; a daemon makes another one whenever the settings have changed."""

    def __init__(self, stream: TextIO, *, for_daemon: bool = False, sentences: Sentences | None = None) -> None:
        """Where the log goes; `sentences`: how a person at a terminal reads it."""
        malloc.one_heap()
        self.environ = dict(os.environ)
        """As it was at the start: what a settings file brought is not taken for the environment's own."""
        self.cancel = Cancel()
        self._stream = stream
        self._for_daemon = for_daemon
        self._sentences = sentences
        self._given: set[str] = set()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda received, _frame: self.cancel.set(received))

    def load(self) -> LoadedSettings:
        """The settings of now. Raises SettingsError."""
        return load_settings(self.environ)

    def check(self, loaded: LoadedSettings) -> None:
        """Whether runs can be made with these, as far as they alone tell. Raises SettingsError."""
        app = App(loaded, cancel=self.cancel, log=logs.get_logger())
        app.chosen.demand()
        _ = app.notifier

    def app(self, loaded: LoadedSettings) -> App:
        """The App for these settings. From here on log and libraries go by them as well."""
        self._give_to_libraries(loaded.library_variables)
        stream, settings = self._stream, loaded.settings
        on_terminal = stream.isatty()
        app = App(loaded, cancel=self.cancel, log=logs.get_logger())
        logs.configure(
            level=settings.log_level,
            log_format="console" if on_terminal else settings.log_format,
            stream=stream,
            log_file=settings.log_file,
            rotate=self._for_daemon,
            typable=lambda text: (app.host_reader if self._for_daemon else app.reader).typable(text),
            sentences=self._sentences if on_terminal and settings.log_level != "debug" else None,
        )
        for warning in loaded.warnings:
            app.log.warning("settings.warning", message=warning)
        return app

    def _give_to_libraries(self, variables: Mapping[str, str]) -> None:
        """Put them into the process's environment, and take out those of an earlier App."""
        for name in self._given - variables.keys():
            os.environ.pop(name, None)
            if name in self.environ:
                os.environ[name] = self.environ[name]
        os.environ.update(variables)
        self._given = set(variables)
