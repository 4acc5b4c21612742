"""The container's own command: one daemon after the other, a new one whenever the settings have changed.

Settings that can't be used don't end it: it waits for better ones, unhealthy, and says why.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from hubbackup.app import App
from hubbackup.app.process import Process
from hubbackup.config.changes import Change
from hubbackup.config.load import load_what_can_be_used
from hubbackup.daemon.edits import Edits, Refusal, tell_changes
from hubbackup.daemon.scheduler import LOOK_SECONDS, Daemon, Shift
from hubbackup.daemon.status_server import serve_refusal
from hubbackup.errors import SettingsError, StoppedError
from hubbackup.health import beat, health_path
from hubbackup.jobs.state_file import write_json


def serve(process: Process) -> int:
    """Run daemons until a signal asks to stop; returns the exit code."""
    try:
        app = usable(process)
    except StoppedError as stop:
        health_path().unlink(missing_ok=True)
        return stop.exit_code
    changes: Sequence[Change] = tell_changes(app)
    shift: Shift | None = None
    while True:
        edits = Edits(process, app)
        ended = Daemon(app, edits, changes, shift).run()
        if isinstance(ended, int):
            return ended
        app, changes, shift = edits.newest, edits.changes, ended


def usable(process: Process) -> App:
    """The App for the settings, as soon as they can be used. Raises StoppedError."""
    refusal = Refusal()
    with contextlib.ExitStack() as page:
        app: App | None = None
        while True:
            try:
                loaded = process.load()
                process.check(loaded)
                return process.app(loaded)
            except SettingsError as error:
                if app is None or not refusal.is_of(error):
                    page.close()
                    app = process.app(load_what_can_be_used(process.environ))
                    page.callback(serve_refusal(app))
                refusal.tell(app, error, running=False)
                with contextlib.suppress(OSError):
                    write_json(health_path(), beat("never", refused=refusal.sentence))
            process.cancel.wait(LOOK_SECONDS)
