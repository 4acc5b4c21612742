"""Which databases are backed up: those that the settings name, or those that the server has."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from hubbackup.app.server import DatabaseServer
from hubbackup.backup.several import Chosen
from hubbackup.catalog.known_databases import KnownDatabases, Seen
from hubbackup.config.database_names import DatabaseNames
from hubbackup.errors import HubbackupError, SettingsError, UsageError
from hubbackup.jobs.run import Run
from hubbackup.postgres.listed_databases import ListedDatabase
from hubbackup.shown_text import printable
from hubbackup.streams.cancel import Cancel

ASK_EVERY_SECONDS = 60.0
"""Between two questions to a server that has not answered, where no run has found its databases yet."""
ANY = "postgres"
"""Where nothing else is known: the database that every server begins with."""


class ChosenDatabases:
    """The answer to it, with and without asking the server. `first`: POSTGRES_DB."""

    def __init__(self, names: DatabaseNames, first: str, server: DatabaseServer, known: KnownDatabases) -> None:
        self.names = names
        self.known = known
        self._first = first
        self._server = server
        self._found: tuple[str, ...] = ()
        self._asked_at = -ASK_EVERY_SECONDS

    def demand(self) -> None:
        """Raises SettingsError where no database is named at all."""
        if not self.names.names and not self.names.every:
            raise SettingsError("POSTGRES_DB is not set", remedy="name the database to back up, in .env.production")

    @property
    def default(self) -> str:
        """The one that is meant where a command names none. Raises SettingsError where there is none, UsageError
        where it could be any of several."""
        self.demand()
        if self.names.only is not None:
            return self.names.only
        if self._first and (
            self._first in self.names.names or (self.names.every and not self.names.excludes(self._first))
        ):
            return self._first
        raise UsageError("several databases are backed up here", remedy="name one: --database NAME")

    def option(self, database: str) -> str:
        """What a command has to be given so that it is about `database`; nothing where it is that anyway."""
        with contextlib.suppress(UsageError):
            if self.default == database:
                return ""
        return f" --database {shlex.quote(database)}"

    @property
    def home(self) -> str:
        """One that the server may be asked from."""
        return self._first or next(iter(self.names.names), ANY)

    def at_hand(self) -> tuple[str, ...]:
        """Their names without asking the server, if that is possible; never none. Raises SettingsError.

        Of a server whose every database is backed up those that the last run found.
        """
        self.demand()
        if not self.names.every:
            return self.names.names
        known = tuple(name for name in self.known.there() if not self.names.excludes(name))
        if not known and not self._found and time.monotonic() - self._asked_at >= ASK_EVERY_SECONDS:
            self._asked_at = time.monotonic()
            with contextlib.suppress(HubbackupError):
                self._found = tuple(one.name for one in self._every("status", Cancel()))
        return known or self._found or (self.home,)

    def ours(self) -> tuple[str, ...]:
        """As `at_hand`; none where no database is named."""
        return self.at_hand() if self.names.names or self.names.every else ()

    def one_of_several(self, database: str) -> str:
        """`database`; nothing where it is the only one, of whose runs no record needs to name it."""
        return "" if database == self.names.only else database

    def several(self, database: str) -> str:
        """`database`, where there are several that a command could be about."""
        return database if self.names.only is None else ""

    def gone(self) -> dict[str, datetime]:
        """Those that vanished from the server, and since when: their backups stay."""
        gone = self.known.gone()
        return {
            name: since
            for name, since in gone.items()
            if name not in self.names.names and not self.names.excludes(name)
        }

    def typed(self, names: Sequence[str], cancel: Cancel) -> tuple[str, ...]:
        """The databases that somebody has typed. Raises UsageError where the server has none of them."""
        wanted = tuple(dict.fromkeys(names))
        there = {one.name for one in self._server.databases(self.home, "backup", cancel)}
        if not there.intersection(wanted):
            word = "is no database" if len(wanted) == 1 else "are no databases"
            raise UsageError(
                f"{', '.join(map(printable, wanted))} {word} of this server",
                remedy=f"it has {', '.join(map(printable, sorted(there)))}",
            )
        return wanted

    def find(
        self, run: Run, names: Sequence[str] = (), on_seen: Callable[[Seen], None] = lambda seen: None
    ) -> list[Chosen]:
        """What a run backs up: `names`, or else what the settings say. Raises HubbackupError.

        `on_seen` is called with what is new on the server, or gone, where every database is backed up.
        """
        if self.names.every and not names:
            every = self._every(run.run_id, run.cancel)
            if not every:
                raise SettingsError(
                    "the server has no database to back up", remedy="see BACKUP_EXCLUDE_DATABASES in docs/settings.md"
                )
            there = [one.name for one in every]
            on_seen(self.known.compare(there))
            self.known.keep(there, self.names.excludes, datetime.now(UTC))
            return [_chosen(one.name, one) for one in every]
        there_by_name = {one.name: one for one in self._server.databases(self.home, run.run_id, run.cancel)}
        return [_chosen(name, there_by_name.get(name)) for name in names or self.names.names]

    def _every(self, run_id: str, cancel: Cancel) -> list[ListedDatabase]:
        found = self._server.databases(self.home, run_id, cancel)
        return [one for one in found if one.usual and not self.names.excludes(one.name)]


def _chosen(name: str, found: ListedDatabase | None) -> Chosen:
    if found is None:
        return Chosen(
            name,
            UsageError(
                f"the server has no database {name}",
                remedy="correct BACKUP_DATABASES, or take it out; hubbackup list shows its backups",
            ),
        )
    if not found.readable:
        return Chosen(
            name,
            UsageError(
                f"the name of the database {name} is not UTF-8",
                remedy="rename it (ALTER DATABASE … RENAME TO …), or leave it out by BACKUP_EXCLUDE_DATABASES",
            ),
        )
    return Chosen(name)
