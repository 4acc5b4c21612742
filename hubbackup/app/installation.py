"""What the settings describe: where backups rest, the database's server, what is remembered, who is notified."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from hubbackup.app.chosen import ChosenDatabases
from hubbackup.app.identities import identities_of
from hubbackup.app.manifest_key import ManifestKey
from hubbackup.app.server import DatabaseServer
from hubbackup.app.state import State
from hubbackup.app.stores import local_target, remote_targets
from hubbackup.catalog.backup import BackupName
from hubbackup.catalog.listing import scan_each
from hubbackup.catalog.target import LocalTarget, Target, choose
from hubbackup.config.load import LoadedSettings
from hubbackup.config.reader import Reader, at_terminal, compose_facts, on_host
from hubbackup.config.settings import Settings
from hubbackup.errors import SettingsError, StoreError, UsageError
from hubbackup.jobs.progress import ProgressMaker
from hubbackup.jobs.run import Job, Outcome, R_co, guarded
from hubbackup.jobs.state_file import read_json, write_json
from hubbackup.notify.notifier import Notifier
from hubbackup.status.snapshot import AlertFacts
from hubbackup.streams.age_keys import Ask
from hubbackup.streams.cancel import Cancel

if TYPE_CHECKING:
    import structlog


class Installation:
    """The program's surroundings for one set of settings. Nothing is opened or asked before it is needed."""

    def __init__(self, loaded: LoadedSettings, *, cancel: Cancel, log: structlog.stdlib.BoundLogger) -> None:
        self.loaded = loaded
        self.settings: Settings = loaded.settings
        self.cancel = cancel
        self.log = log
        self.identities = identities_of(self.settings)
        """The private keys at hand; the command line may name others, by `open_with`."""
        self.keys_named = False
        """Whether somebody has named them for just this command."""

    def open_with(self, files: Sequence[str], ask: Ask | None) -> None:
        """Open sealed backups with the keys in these files (else in the setting's), `ask`ing for passphrases."""
        self.identities = identities_of(self.settings, files, ask)
        self.keys_named = bool(files)

    @property
    def database(self) -> str:
        """The database that is meant where none is named. Raises SettingsError where there is none, UsageError where
        it could be any of several."""
        return self.chosen.default

    @cached_property
    def chosen(self) -> ChosenDatabases:
        """The databases to back up."""
        settings = self.settings
        return ChosenDatabases(settings.databases, settings.postgres_db, self.server, self.state.known_databases)

    def demand_known(self, database: str) -> None:
        """Raises UsageError where it is neither backed up here nor has any backup, StoreError where nobody knows."""
        if database in self.chosen.at_hand():
            return
        found = scan_each(self.targets(), database)
        if any(listed.copies for listed in found.listed):
            return
        if found.failed:
            raise found.failed[0][1]
        raise UsageError(
            f"{database} is not backed up here, and has no backup",
            remedy=f"these are: {', '.join(self.chosen.at_hand())}",
        )

    @cached_property
    def zone(self) -> ZoneInfo:
        """TZ."""
        return ZoneInfo(self.settings.tz)

    @cached_property
    def state(self) -> State:
        """What hubbackup remembers between runs."""
        return State(self.settings.backup_dir)

    @cached_property
    def server(self) -> DatabaseServer:
        """The database's server, and the one of a drill."""
        return DatabaseServer(self.settings, self.cancel, lambda: self.state.lock)

    @cached_property
    def manifest_key(self) -> ManifestKey:
        """What tells our backups from those of others."""
        given = self.settings.backup_manifest_key.get_secret_value()
        return ManifestKey(self.state.home, given, has_backups=self._has_backups)

    def _has_backups(self) -> bool:
        """Whether this server has made backups before, or holds any."""
        if self.state.history.last("backup") is not None:
            return True
        try:
            return any(BackupName.parse(entry.name) for entry in local_target(self.settings).entries())
        except StoreError:
            return False

    @cached_property
    def local(self) -> LocalTarget:
        """BACKUP_DIR."""
        return replace(local_target(self.settings), trust=self.manifest_key.trust)

    @cached_property
    def remotes(self) -> tuple[Target, ...]:
        """The configured targets beside the local one."""
        made = remote_targets(self.settings, self.chosen.ours, self.cancel)
        return tuple(replace(target, trust=self.manifest_key.trust) for target in made)

    def targets(self, which: str = "all") -> list[Target]:
        """The one of that name, or `all`, the local one first. Raises UsageError for one that is not configured."""
        return choose([self.local, *self.remotes], which)

    @cached_property
    def notifier(self) -> Notifier:
        """What reports how runs end. Raises SettingsError where a sink's URL is not valid."""
        return Notifier(
            self.loaded,
            log=self.log,
            databases=self.chosen.at_hand,
            history=self.state.history,
            state_directory=lambda: self.state.directory,
            local=self.local,
            typable=lambda text: self.host_reader.typable(text),
        )

    @property
    def reader(self) -> Reader:
        """Who has typed this process's command, and so reads its answer."""
        return at_terminal(read_json(self.state.compose_file))

    @property
    def host_reader(self) -> Reader:
        """Who reads what nobody typed a command for: alerts, the daemon's log, the status page."""
        return on_host(read_json(self.state.compose_file))

    def alert_facts(self) -> AlertFacts:
        """Whether anybody is told of failures. A bad URL is a fact of its own here, not an error."""
        try:
            return self.notifier.facts()
        except SettingsError as error:
            return AlertFacts(sinks=("NOTIFICATION_URLS",), failed_at=datetime.now(UTC), failure=str(error))

    def learn_compose(self, labels: Mapping[str, str]) -> None:
        """Keep what our container's labels tell of the compose files in use, for the remedies."""
        with contextlib.suppress(OSError):
            write_json(self.state.compose_file, compose_facts(labels))

    def run(self, job: Job[R_co], progress: ProgressMaker | None = None, database: str = "") -> Outcome[R_co]:
        """One guarded run of a job; `database`: the one of several that it is for. Raises HubbackupError."""
        return guarded(
            job,
            lock=self.state.lock,
            cancel=self.cancel,
            log=self.log,
            history=self.state.history,
            progress=progress,
            observers=self.notifier.observers,
            database=self.chosen.one_of_several(database),
        )
