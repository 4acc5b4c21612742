"""The App for this process: settings, logs and signals, as a command needs them."""

from __future__ import annotations

import os
import signal
import sys
from typing import TextIO

from hubbackup.app import App
from hubbackup.config import settings
from hubbackup.jobs.progress import ProgressMaker, bar
from hubbackup.logs import setup as logs
from hubbackup.streams import malloc
from hubbackup.streams.cancel import Cancel


def make_app(*, log_stream: TextIO | None = None, log_format: str = "") -> App:
    """Read the settings, set up logs and signals. The command line logs to stderr, the daemon to stdout.

    Raises SettingsError.
    """
    malloc.one_heap()
    loaded = settings.load()
    os.environ.update(loaded.library_variables)
    stream = log_stream or sys.stderr
    logs.configure(
        level=loaded.settings.log_level,
        log_format=log_format or ("console" if stream.isatty() else loaded.settings.log_format),
        stream=stream,
        secrets=loaded.secrets(),
        log_file=loaded.settings.log_file,
        rotate=log_stream is not None,
    )
    cancel = Cancel()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: cancel.set(received))
    log = logs.get_logger()
    for warning in loaded.warnings:
        log.warning("settings.warning", message=warning)
    return App(loaded, cancel=cancel, log=log)


def progress(*, quiet: bool) -> ProgressMaker | None:
    """Bars where somebody looks; else, and with `quiet` (for --json), None: the log reports the progress."""
    return None if quiet or not sys.stderr.isatty() else bar
