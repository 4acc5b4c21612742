"""The App for this process: settings, logs and signals, as a command needs them."""

from __future__ import annotations

import os
import signal
import sys

from hubbackup.app import App
from hubbackup.cli.remedies import read_by, typable
from hubbackup.cli.terminal import SENTENCES
from hubbackup.config.load import load_settings
from hubbackup.logs import setup as logs
from hubbackup.streams import malloc
from hubbackup.streams.cancel import Cancel


def make_app(*, for_daemon: bool = False) -> App:
    """Read the settings, set up logs and signals. The command line logs to stderr, the daemon to stdout.

    Raises SettingsError.
    """
    malloc.one_heap()
    loaded = load_settings()
    os.environ.update(loaded.library_variables)
    stream = sys.stdout if for_daemon else sys.stderr
    level = loaded.settings.log_level
    logs.configure(
        level=level,
        log_format="console" if stream.isatty() else loaded.settings.log_format,
        stream=stream,
        log_file=loaded.settings.log_file,
        rotate=for_daemon,
        typable=typable,
        sentences=SENTENCES if stream.isatty() and not for_daemon and level != "debug" else None,
    )
    cancel = Cancel()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: cancel.set(received))
    log = logs.get_logger()
    app = App(loaded, cancel=cancel, log=log)
    read_by(lambda: app.host_reader if for_daemon else app.reader)
    for warning in loaded.warnings:
        log.warning("settings.warning", message=warning)
    return app
