"""Backups that nobody's run has made: foreign ones, and those from the future, which would be the newest.

They do no harm by themselves, since nothing counts on them; that somebody can put them there is worth an alert.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from itertools import islice

from hubbackup.app import App
from hubbackup.catalog.listing import newest_first
from hubbackup.catalog.target import Target
from hubbackup.errors import HubbackupError
from hubbackup.jobs.state_file import read_json, write_json
from hubbackup.notify.messages import compose_strangers

LOOK_EVERY = timedelta(hours=1)
FILE_NAME = "strangers.json"
LOOKED_AT = 200
"""Of each store, the newest: however many are planted there."""
TOLD = 10
"""Named in one message."""


class Strangers:
    """Looks each hour, and reports each stranger once, also over restarts."""

    def __init__(self) -> None:
        self._looked_at: datetime | None = None
        self._told: set[str] | None = None

    def look(self, app: App, now: datetime) -> None:
        """One look at each store, where an hour has passed. A store that can't be read is passed over."""
        if self._looked_at is not None and timedelta() <= now - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = now
        path = app.state.directory / FILE_NAME
        if self._told is None:
            kept = read_json(path)
            self._told = {one for one in kept if isinstance(one, str)} if isinstance(kept, list) else set()
        found: dict[str, str] = {}
        for target in app.targets():
            try:
                for database in app.chosen.at_hand():
                    found |= _strangers_of(app, database, target, now)
            except HubbackupError as error:
                app.cancel.check()
                app.log.debug("watch.unreadable", message=str(error), store=target.name)
                found |= {one: "" for one in self._told if one.startswith(f"{target.name}:")}  # perhaps still there
        fresh = [one for one in found if one not in self._told]
        for one in fresh:
            store, _, name = one.partition(":")
            app.log.warning(
                "backup.stranger",
                message=found[one],
                store=store,
                name=name,
                remedy=f"if you know who made it: hubbackup adopt {name}; if not, find out who can write there",
            )
        if fresh:
            told = [found[one] for one in fresh[:TOLD]]
            told += [f"and {len(fresh) - TOLD} more"] if len(fresh) > TOLD else []
            app.notifier.send(compose_strangers(told, app.notifier.place(), app.notifier.last_good(), now))
        if found.keys() != self._told:
            self._told = set(found)
            with contextlib.suppress(OSError):  # then the next start reports them once more
                write_json(path, sorted(self._told))


def _strangers_of(app: App, database: str, target: Target, now: datetime) -> dict[str, str]:
    """What is younger in `target` than its newest good one, a sentence for each. Raises HubbackupError."""
    found = {}
    for backup in islice(newest_first([target], app.zone, database), LOOKED_AT):
        strange = backup.stranger(now)
        if strange and (backup.foreign or target.remote):  # of the disk the watchdog tells the future
            found[f"{target.name}:{backup.name}"] = f"{backup.name} in {target.describe()} is {strange}"
        elif backup.good_in(target.name):
            break
    return found
