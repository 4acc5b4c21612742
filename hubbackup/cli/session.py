"""The App for this process: settings, logs and signals, as a command needs them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hubbackup.app import App
from hubbackup.app.process import Process
from hubbackup.cli.printer import PRINTER
from hubbackup.cli.remedies import read_by
from hubbackup.cli.terminal import SENTENCES, passphrase_asker


def make_app() -> App:
    """Read the settings, set up signals and the log, which goes to stderr. Raises SettingsError."""
    process = Process(sys.stderr, sentences=SENTENCES)
    app = process.app(process.load())
    PRINTER.heed(app.cancel)
    read_by(lambda: app.reader)
    return app


def make_opening_app(identity: Sequence[str] | None) -> App:
    """As `make_app`, for a command that opens sealed backups: with the keys that `--identity` names.

    A passphrase is asked for where somebody is there to type it.
    """
    app = make_app()
    app.open_with(identity or (), passphrase_asker(app.cancel))
    return app
