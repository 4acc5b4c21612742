"""The database's server: the runner and the connection that reach it, and the server that a drill restores into."""

from __future__ import annotations

import contextlib
import logging
import secrets
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hubbackup.config.load import readable_copy
from hubbackup.config.settings import Settings
from hubbackup.dump.identifiers import quoted
from hubbackup.errors import HubbackupError, SettingsError
from hubbackup.jobs.leftovers import Leftovers
from hubbackup.jobs.lock import lock_id, locked
from hubbackup.jobs.run import Run
from hubbackup.postgres import session
from hubbackup.postgres.client import describe
from hubbackup.postgres.databases import Databases
from hubbackup.postgres.listed_databases import ListedDatabase, listed
from hubbackup.postgres.session import Connection
from hubbackup.postgres.side_databases import derived_time, drills_of
from hubbackup.postgres.transport import Tls
from hubbackup.runners import Runner
from hubbackup.runners.engine import Engine
from hubbackup.shown_text import printable
from hubbackup.status.snapshot import KeptDatabase
from hubbackup.streams.cancel import Cancel

if TYPE_CHECKING:
    from hubbackup.restore.drill import DrillServer

IDLE_SECONDS = 600.0
"""A dump that sends no byte for this long has died; pg_dump waits at most half of it for a lock."""
ASK_SECONDS = 10.0
"""For a question that may go unanswered."""
LIKENESS_SQL = """\
SHOW shared_preload_libraries;
SELECT spcname FROM pg_tablespace WHERE spcname !~ '^pg_';
"""
TABLESPACE_SQL = "SET allow_in_place_tablespaces = on; CREATE TABLESPACE {name} LOCATION '';"
RESTORE_IDLE_SECONDS = 24 * 3600.0
"""psql is silent while the server builds an index, and a large one takes hours."""


def _pass_file(name: str) -> str:
    """PGPASSFILE, or its copy for us. Raises SettingsError for one that libpq would pass over."""
    if not name:
        return ""
    path = readable_copy(Path(name))
    try:
        mode = path.stat().st_mode
        path.open("rb").close()
    except OSError as error:
        raise SettingsError(
            f"PGPASSFILE: {name} can't be read: {error.strerror}",
            remedy="name a file that the user that hubbackup runs as can read, or set POSTGRES_PASSWORD",
        ) from error
    if mode & 0o077:
        raise SettingsError(
            f"PGPASSFILE: {name} can be read by others, and libpq does not use it then",
            remedy=f"chmod 0600 {shlex.quote(name)}",
        )
    return str(path)


class DatabaseServer:
    """The server that the settings name. Nothing is opened or asked before it is needed."""

    def __init__(self, settings: Settings, cancel: Cancel, lock: Callable[[], Path]) -> None:
        """`lock`: the run lock, by which the drills of one hubbackup are told from another's."""
        self._settings = settings
        self._cancel = cancel
        self._lock = lock

    def open_runner(self, cancel: Cancel, idle_seconds: float = IDLE_SECONDS) -> Runner:
        """The runner, its container looked up now. Raises RunnerError."""
        settings = self._settings
        if settings.backup_source == "direct":
            from hubbackup.postgres.tool_sets import with_fitting_tools
            from hubbackup.runners.direct import DirectRunner

            runner = DirectRunner(cancel=cancel, idle_seconds=idle_seconds)
            return with_fitting_tools(runner, self.connection("tools"), settings.postgres_db)
        from hubbackup.runners.docker_exec import DockerExecRunner

        engine = Engine(settings.docker_host)
        return DockerExecRunner(
            engine,
            cancel=cancel,
            service=settings.db_service,
            container=settings.db_container,
            idle_seconds=idle_seconds,
            no_data_connection="" if settings.db_data_connection else "DB_DATA_CONNECTION=false",
        )

    def open_restore_runner(self, cancel: Cancel) -> Runner:
        """As `open_runner`, with the timeout that a restore needs."""
        return self.open_runner(cancel, RESTORE_IDLE_SECONDS)

    def databases(self, home: str, run_id: str, cancel: Cancel) -> list[ListedDatabase]:
        """Every database of the server, asked from `home` or another one. Raises HubbackupError."""
        databases = Databases(self.open_runner(cancel, ASK_SECONDS), self.connection(run_id), home)
        return listed(databases)

    def wait_for(self, database: str, seconds: float) -> None:
        """Wait until the database answers. Raises HubbackupError where it does not in `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                describe(self.open_runner(self._cancel, ASK_SECONDS), self.connection("first"), database)
                return
            except HubbackupError:
                if time.monotonic() > deadline:
                    raise
                self._cancel.wait(1.0)

    def connection(self, run_id: str) -> Connection:
        """How the tools reach the server; host and port only where they run outside its container."""
        settings = self._settings
        connection = Connection(
            user=settings.postgres_user,
            password=settings.postgres_password.get_secret_value(),
            run_id=run_id,
            load_path=settings.restore_search_path,
        )
        if settings.backup_source != "direct":
            return connection
        tls = Tls(
            settings.pgsslmode,
            settings.pgsslrootcert,
            settings.pgsslcert,
            str(readable_copy(Path(settings.pgsslkey))) if settings.pgsslkey else "",
        )
        return replace(
            connection,
            host=settings.pghost,
            port=settings.pgport,
            tls=tls.for_host(settings.pghost),
            pass_file="" if connection.password else _pass_file(settings.pgpassfile),
        )

    def kept_databases(self, database: str, of: str = "") -> list[KeptDatabase]:
        """What restores put aside or left half-filled, all of them or those `of` one database, if the server answers
        soon. Raises HubbackupError."""
        databases = Databases(self.open_runner(self._cancel, ASK_SECONDS), self.connection("status"), database)
        server = databases.look()
        return [
            KeptDatabase(printable(one.name), one.size_bytes, kind)
            for kind in ("before", "restore", "loaded")
            for one in server.of_kind(kind)
            if (kind != "restore" or not one.in_use) and (not of or derived_time(one.name, of, kind))
        ]

    @contextmanager
    def drill_server(self, run: Run, database: str, *, schema_only: bool = False) -> Iterator[DrillServer]:
        """A throwaway server made like the one of `database`, or a scratch database in that server itself.

        Of a schema alone also where nobody chose the live one: then nobody loads there as a superuser.
        """
        from hubbackup.restore.drill import DrillServer

        settings, connection = self._settings, self.connection(run.run_id)
        if not settings.drill_target and not settings.drills_have_a_place and not schema_only:
            raise SettingsError(
                "BACKUP_SOURCE=direct has no server to throw away, and a drill in the live one runs the database's"
                " own code there",
                remedy="if that is meant, set DRILL_TARGET=database; docs/restore.md says what it means",
            )
        runner = self.open_restore_runner(self._cancel)
        if settings.drills_in_database or not settings.drills_have_a_place:
            self._remove_dead_drills(runner, connection, database)
            chosen = settings.drills_in_database
            yield DrillServer(runner, connection, "a scratch database", keeps_roles=True, chosen=chosen)
            return
        from hubbackup.runners.docker_exec import DockerExecRunner
        from hubbackup.runners.throwaway import throwaway_server

        if not isinstance(runner, DockerExecRunner):
            raise SettingsError(
                "DRILL_TARGET=container needs BACKUP_SOURCE=docker", remedy="set DRILL_TARGET=database"
            )
        said = Databases(runner, connection, database).sql(LIKENESS_SQL).splitlines()
        libraries, tablespaces = said[0].strip(), [name for name in said[1:] if name]
        options = {"shared_preload_libraries": libraries} if libraries else {}
        # The database's own code runs there with all rights: it must not find the live server's password.
        connection = replace(connection, password=secrets.token_urlsafe(24))
        with throwaway_server(
            Engine(settings.docker_host),
            runner,
            user=connection.user,
            password=connection.password,
            options=options,
            cancel=self._cancel,
            idle_seconds=RESTORE_IDLE_SECONDS,
            by=lock_id(self._lock()),
        ) as server:
            for name in tablespaces:
                with contextlib.suppress(HubbackupError):  # the restore says what it lacks
                    session.sql(server, connection, "postgres", TABLESPACE_SQL.format(name=quoted(name)))
            yield DrillServer(server, connection, "a throwaway server", keeps_roles=False)

    def _remove_dead_drills(self, runner: Runner, connection: Connection, database: str) -> None:
        """What a killed drill left in the live server. Raises HubbackupError."""
        databases = Databases(runner, connection, database)
        found = databases.look().databases
        for name in drills_of(found, database):
            if not found[name].in_use:
                databases.drop(name)

    def drill_leftovers(self) -> Leftovers:
        """The servers that killed drills left; removed while the run lock is held."""
        return Leftovers(
            self._remove_drill_servers,
            event="orphans.removed",
            message="{count} drill servers removed",
            level=logging.WARNING,
            failed="orphans.unknown",
            failed_level=logging.DEBUG,
        )

    def _remove_drill_servers(self) -> list[str]:
        """Returns their names. Raises HubbackupError."""
        settings = self._settings
        if settings.drills_in_database:
            return []
        from hubbackup.runners import throwaway

        engine = Engine(settings.docker_host)
        found = engine.find_container(service=settings.db_service, container=settings.db_container)
        lock = self._lock()
        with locked(lock):
            return throwaway.remove_leftovers(engine, str(found.name), lock_id(lock))
