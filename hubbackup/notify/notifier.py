"""What reports how runs end: the post, the alerts and the dead man's switch, made from the settings once."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from hubbackup.catalog.listing import newest_good
from hubbackup.catalog.target import Target
from hubbackup.config.load import LoadedSettings
from hubbackup.config.urls import split_urls
from hubbackup.errors import StoreError
from hubbackup.jobs.history import History, RunRecord
from hubbackup.jobs.run import RunObserver
from hubbackup.jobs.state_file import write_text
from hubbackup.notify.alerts import Alerts, Heartbeats
from hubbackup.notify.deliveries import FILE_NAME, Deliveries
from hubbackup.notify.heartbeat import Pinger
from hubbackup.notify.messages import LastGood, Place, compose_gone
from hubbackup.notify.several import some_names
from hubbackup.notify.sinks import Post, Sinks
from hubbackup.notify.spool import Message, Spool
from hubbackup.status.overdue import Watch, deadline_of
from hubbackup.status.snapshot import AlertFacts

if TYPE_CHECKING:
    import structlog

SPOOL_DIRECTORY = "spool"
HOST_FILE = "host"


class Notifier:
    """Made at the first run of a process, so that a bad URL stops it before anything was done."""

    def __init__(
        self,
        loaded: LoadedSettings,
        *,
        log: structlog.stdlib.BoundLogger,
        databases: Callable[[], Sequence[str]],
        history: History,
        state_directory: Callable[[], Path],
        local: Target,
        typable: Callable[[str], str] = str,
    ) -> None:
        """`databases` names those that are backed up.

        `typable` makes a text's commands such as its readers can type them.

        Raises SettingsError where NOTIFICATION_URLS or HEARTBEAT_URL has something that is not a URL of a sink.
        """
        settings = loaded.settings
        self._settings = settings
        self._databases = databases
        self._history = history
        self._state_directory = state_directory
        self._local = local
        self._typable = typable
        self._zone = ZoneInfo(settings.tz)
        self.sinks = Sinks(split_urls(settings.notification_urls.get_secret_value()))
        self.spool = Spool(state_directory() / SPOOL_DIRECTORY)
        self.deliveries = Deliveries(state_directory() / FILE_NAME)
        self.post = Post(self.spool, self.sinks, log, self.deliveries.note)
        heartbeat_url = settings.heartbeat_url.get_secret_value()
        self.pinger = Pinger(heartbeat_url, log) if heartbeat_url else None
        self._watches: dict[str, Watch] = {}

    @cached_property
    def observers(self) -> tuple[RunObserver, ...]:
        """What observes each run."""
        alerts = Alerts(
            send=self.send,
            level=self._settings.notification_level,
            history=self._history,
            place=self.place,
            last_good=self.last_good,
            next_run=lambda: self._settings.schedule.next_after(datetime.now(UTC)),
            on_good=lambda database: self.watch(database).quiet(),
            databases=self._databases,
        )
        if self.pinger is None:
            return (alerts,)
        # The dead man's switch first: it returns at once, and an alert of a command line may take its ten seconds.
        switch = Heartbeats(
            self.pinger, wait=lambda: not self.post.in_background, others_are_well=self._others_are_well
        )
        return (switch, alerts)

    def send(self, message: Message) -> None:
        """Give a message to the post, its commands as they are typed on the host."""
        self.post.send(replace(message, body=self._typable(message.body)))

    def facts(self) -> AlertFacts:
        """Whether anybody is told of failures, and whether that works."""
        waiting = len(self.spool.waiting()) if self.sinks.labels else 0
        return self.deliveries.facts(self.sinks.labels, heartbeat=self.pinger is not None, waiting=waiting)

    def tell_gone(self, names: Sequence[str]) -> None:
        """Tell people that the server has these databases no more."""
        self.send(compose_gone(names, self.place(), datetime.now(UTC)))

    def watch(self, database: str = "") -> Watch:
        """The watch over one of several databases, or over the only one, which is not named."""
        path = self._state_directory
        return self._watches.setdefault(database, Watch(lambda: path() / "watch.json", database))

    def place(self, database: str = "") -> Place:
        """Which host and database a message is about; all of them, where none is named."""
        title = database or some_names(self._databases())
        return Place(self._settings.notification_host or self._learned_host(), title, self._zone)

    def learn_host(self, name: str) -> None:
        """Keep what the Docker engine calls its host: in a container, the host name is only the container's id."""
        with contextlib.suppress(OSError):
            write_text(self._state_directory() / HOST_FILE, name)

    def last_good(self, database: str = "") -> LastGood | None:
        """The newest good backup that can be seen without asking the network: on disk, or in the history.

        Of `database`, or of any that is backed up.
        """
        names = (database,) if database else tuple(self._databases())
        return max(filter(None, map(self._last_good, names)), key=lambda good: good.started_at, default=None)

    def _others_are_well(self, done: Collection[str]) -> bool:
        """Whether the last run of every database but these was good, and is as recent as the schedule promises."""
        if "" in done:  # the only one
            return True
        others = [name for name in self._databases() if name not in done]
        last: dict[str, RunRecord] = {}
        for record in self._history.runs():
            if record.kind == "backup":
                last |= {name: record for name in others if record.is_about(name)}
        now = datetime.now(UTC)
        for name in others:
            run = last.get(name)
            since = run.started_at if run is not None else self.watch(name).began() or now
            took = timedelta(seconds=run.seconds if run is not None else 0)
            in_time = not deadline_of(self._settings.schedule, since=since, took=took, now=now).overdue
            if not in_time or (run is not None and run.result != "success"):
                return False
        return True

    def _last_good(self, database: str) -> LastGood | None:
        found: list[LastGood] = []
        with contextlib.suppress(StoreError):
            on_disk = newest_good([self._local], self._zone, database, datetime.now(UTC))
            if on_disk is not None:
                found.append(LastGood(str(on_disk.name), on_disk.started_at))
        found += [
            LastGood(record.name, record.started_at)
            for record in self._history.runs()
            if record.kind == "backup"
            and record.finished
            and record.name
            and record.is_about(database)
            # Of what was on disk the directory itself is the better witness.
            and self._local.name not in record.copies
        ]
        return max(found, key=lambda good: good.started_at, default=None)

    def _learned_host(self) -> str:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            name = (self._state_directory() / HOST_FILE).read_text(encoding="utf-8").strip()
            if name:
                return name
        return socket.gethostname()
