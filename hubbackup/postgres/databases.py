"""Databases as wholes: what is on a server, making one like another, and the swap that a restore ends with.

Each change that can leave users without their database is one transaction. The SQL goes to psql over stdin: no name
is ever part of an argv.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from functools import partial

from hubbackup.dump.identifiers import UNREADABLE, encoded, literal, quoted, unescaped
from hubbackup.errors import HubbackupError, RunnerError, StoppedError, ToolError, UnrestorableError
from hubbackup.postgres import claims, ddl, session
from hubbackup.postgres.client import DatabaseProperties
from hubbackup.postgres.conversation import Conversation
from hubbackup.postgres.server import SERVER_SQL, Server, server_from_answer
from hubbackup.postgres.session import Connection
from hubbackup.postgres.side_databases import OURS, derived_time
from hubbackup.runners import Runner, run
from hubbackup.runners.stderr import sqlstate
from hubbackup.streams.cancel import Cancel

SWAP_ATTEMPTS = 4
EVICTOR_SECONDS = 10
COUNT_BATCH = 200
DURABLE = (
    "SELECT set_config('synchronous_commit', 'local', false) WHERE current_setting('synchronous_commit') = 'off';\n"
)
"""The commit that follows is on the disk when it returns, and with it all that was committed before, by whomever."""


BYTES = "SQL_ASCII"
"""The encoding of orders that name databases: the server takes their bytes as they are, as it does of who connects.

In UTF8 it would convert them to the encoding of the database that they go to, and nobody could connect by that name.
"""
NOT_IN_ENCODING = "22021"
"""SQLSTATE of bytes that the encoding of the database that an order goes to does not have at all."""

EMPTY_BODY = """
DECLARE
    held boolean := false;
    was_held boolean := false;
BEGIN
    FOR i IN 1..120 LOOP
        SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'object' AND classid = 'pg_database'::regclass
                       AND objid = {oid} AND mode = 'AccessExclusiveLock' AND granted) INTO held;
        EXIT WHEN NOT held AND (was_held OR i > 40);
        EXIT WHEN NOT EXISTS (SELECT FROM pg_database WHERE oid = {oid} AND datname = {live});
        IF held THEN
            was_held := true;
            PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE datid = {oid} AND pid <> pg_backend_pid();
        END IF;
        PERFORM pg_sleep(0.05);
        PERFORM pg_stat_clear_snapshot();
    END LOOP;
END
"""
"""ALTER DATABASE RENAME waits five seconds for the sessions inside, and holds its lock meanwhile."""

IN_USE = "55006"
"""SQLSTATE of a rename while somebody is in the database, and of a drop while it has a subscription."""
LOCALE_REFUSED = ("0A000", "22023", "42601", "42704", "42809", "42P17")
"""SQLSTATEs of an encoding, a locale or a provider that the server or its version doesn't have."""
GIVE_UP_SUBSCRIPTIONS = """\
SET client_min_messages = error;
SELECT format('ALTER SUBSCRIPTION %I DISABLE; ALTER SUBSCRIPTION %I SET (slot_name = NONE); DROP SUBSCRIPTION %I;',
              subname, subname, subname)
FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \\gexec
"""
MAINTENANCE = ("postgres", "template1")
OTHERS_SQL = """\
SELECT coalesce(jsonb_agg(datname ORDER BY datistemplate, datname), '[]') FROM pg_database
WHERE datallowconn AND datname <> current_database() AND datname NOT IN ({names})
  AND datname !~ {ours} AND has_database_privilege(oid, 'CONNECT');
"""


class Databases:
    """The server's databases, seen from a database that no restore touches."""

    def __init__(self, runner: Runner, connection: Connection, target: str) -> None:
        """`target` is the database to be restored: orders go out from another one."""
        self._runner = runner
        self._connection = connection
        self._target = target
        self._home = ""

    def sql(self, text: str, database: str = "", encoding: str = "", *, own_settings: bool = False) -> str:
        """What psql prints, in `database` or in one that no restore touches; else as `session.sql`.

        In the latter, where names of databases and tablespaces are meant, as `BYTES`. Raises HubbackupError.
        """
        if database:
            return self._sql(text, database, encoding, own_settings)
        encoding = encoding or BYTES
        if self._home:
            with _named_in(self._home):
                return self._sql(text, self._home, encoding, own_settings)
        problem: ToolError | None = None
        for home in self._homes():
            try:
                with _named_in(home):
                    answer = self._sql(text, home, encoding, own_settings)
            except ToolError as error:
                # Nothing was carried out: it is not there, or not for us. What is wrong with the first is told.
                if not session.refused(error):
                    raise
                problem = problem or error
            else:
                self._home = home
                return answer
        raise problem or HubbackupError(f"there is no database beside {self._target} to work from")

    def _homes(self) -> Iterator[str]:
        """Databases to work from: those that every server begins with, then whichever the target itself names."""
        yield from (name for name in MAINTENANCE if name != self._target)
        with contextlib.suppress(HubbackupError):
            found = self._sql(
                OTHERS_SQL.format(names=", ".join(map(literal, MAINTENANCE)), ours=literal(OURS)),
                self._target,
                BYTES,
                False,
            )
            yield from json.loads(found)

    def _sql(self, text: str, database: str, encoding: str, own_settings: bool) -> str:
        return session.sql(
            self._runner, self._connection, database, text, encoding=encoding, own_settings=own_settings
        )

    @property
    def last(self) -> Databases:
        """The same, for what is to be removed at the end: also after a stop, and then in some seconds."""
        if not self._runner.cancel.is_set():
            return self
        return Databases(self._runner.detached(), self._connection, self._target)

    @contextmanager
    def talk(self, database: str, encoding: str = "") -> Iterator[Conversation]:
        """A conversation in `database`, with the settings that this gives its users; each of its statements is
        committed by itself. `encoding` as `sql` has it. Raises HubbackupError."""
        self.home()  # finds out how this role may connect
        with session.open_psql(self._runner, self._connection, database) as process:
            conversation = Conversation(process, self._connection.user, work="reading")
            conversation.say(f"SET client_encoding = {literal(encoding or 'UTF8')};")
            yield conversation
            conversation.end()

    def look(self, encoding: str = "") -> Server:
        """Ask the server what is there; roles by the names that they have in a database of this encoding."""
        return self.ask()(encoding)

    def ask(self) -> Callable[[str], Server]:
        """As `look`, where the encoding is known only later."""
        return partial(server_from_answer, self.sql(SERVER_SQL))

    def create(self, name: str, properties: DatabaseProperties | None, server: Server) -> None:
        """A new, empty database with the encoding and locale of `properties`; it is ours for now."""
        try:
            self.sql(ddl.create_statement(name, properties, server.major, server.home_encoding))
        except ToolError as error:
            if sqlstate(error.stderr) not in LOCALE_REFUSED:
                raise HubbackupError(f"the new database can't be made: {error}", remedy=error.remedy) from error
            raise UnrestorableError(
                f"no database like the backup's own can be made on this server: {error}",
                remedy="use an image with the backup's encoding and locale; the server's words name what it lacks",
            ) from error

    def apply_properties(
        self, name: str, properties: DatabaseProperties, server: Server, *, hindering: bool
    ) -> list[str]:
        """Give `name` what a plain dump lacks: settings, rights, connection limit and comment of `properties`; either
        those that would hinder sessions of ours in there, or all others.

        Out of a session in that database, since the server stores their bytes in its session's encoding. Returns a
        sentence for each one that the server refuses.
        """
        superuser, roles = server.rights.superuser, server.roles
        if properties.encoding in UNREADABLE:
            roles, properties = frozenset(map(unescaped, roles)), ddl.with_bytes(properties)
        found = [
            ddl.tried(each.sql, each.what, of_database=True)
            for each in ddl.statements(properties, roles)
            if (each.hinders == "all" or (each.hinders == "owner" and not superuser)) == hindering
        ]
        if not found:
            return []
        return self.tried(["BEGIN;", *found, "COMMIT;"], name, properties.encoding)

    def tried(self, statements: Iterable[str], database: str, encoding: str = "") -> list[str]:
        """Carry out statements of `ddl.tried`; returns a sentence for each that the server refused. Surrogate escapes
        in them are bytes out of a dump in that encoding that are not text in it."""
        text = "\n".join([*statements, ddl.TELL_REFUSED])
        try:
            text.encode()
            encoding = ""
        except UnicodeEncodeError:
            text = encoded(text, encoding).decode("utf-8", "surrogateescape")
        return [line for line in self.sql(text, database, encoding).split("\n") if line]

    def drop(self, name: str) -> None:
        """Remove a database and end the sessions in it; one that is gone already is not an error."""
        self.sql(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE);")

    def discard(self, name: str) -> None:
        """As `drop`, of a database that a restore of ours made and that nobody has used; with its subscriptions.

        They hold it. Each is given up without a word to its publisher, whose slot is the original's, not ours.
        """
        try:
            self.drop(name)
        except ToolError as error:
            if sqlstate(error.stderr) != IN_USE:
                raise
            self.sql(GIVE_UP_SUBSCRIPTIONS, name)
            self.drop(name)

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        """Inside, no other restore takes the database `name`, there or yet to come, for a dead one's leftover.

        Raises HubbackupError.
        """
        home = self.home()
        with contextlib.ExitStack() as stack:
            with _named_in(home):
                stack.enter_context(claims.claim(self._runner, self._connection, home, name))
            yield

    def home(self) -> str:
        """The database that orders go out from. Raises HubbackupError."""
        if not self._home:
            self.sql("SELECT;")
        return self._home

    def remove_leftovers(self, server: Server, target: str) -> list[str]:
        """Drop the databases that killed restores of `target` left half-filled, but for those that one elsewhere is
        at work on; returns their names."""
        names = [
            name
            for name, found in server.databases.items()
            if derived_time(name, target, "restore") and not found.in_use
        ]
        for name in names:
            self.discard(name)
        return names

    def oids(self, *names: str) -> tuple[int, ...]:
        """The server's own number of each of the databases; 0 for one that is not there. Raises HubbackupError."""
        found = (f"(SELECT oid FROM pg_database WHERE datname = {literal(name)})" for name in names)
        return tuple(int(oid or 0) for oid in self.sql(f"SELECT {', '.join(found)};").strip("\n").split("|"))

    def swap(self, *, live: str, oid: int, aside: str, new: str, cancel: Cancel) -> None:
        """`live` becomes `aside` and `new` becomes `live`, in one transaction; with an `oid` of 0, only the last.

        The first rename locks the database against new sessions until the transaction ends, and waits up to five
        seconds for those inside to end; a second session ends them meanwhile, since a pool that reconnects at once
        is back before the lock is taken. So there is no moment at which the database is closed and not yet
        replaced, whatever dies; and once it returns, all that was loaded is on the disk (`DURABLE`). `oid` is that
        of `live`, 0 where there is none.
        """
        renames = [f"ALTER DATABASE {quoted(new)} RENAME TO {quoted(live)};"]
        if oid:
            renames.insert(0, f"ALTER DATABASE {quoted(live)} RENAME TO {quoted(aside)};")
        sql = (
            f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname IN ({literal(live)},"
            f" {literal(new)}) AND pid <> pg_backend_pid();\n{DURABLE}BEGIN;\n{chr(10).join(renames)}\nCOMMIT;\n"
        )
        for attempt in range(1, SWAP_ATTEMPTS + 1):
            cancel.check()
            evictor = threading.Thread(target=self._empty, args=(live, oid), name="evictor", daemon=True)
            if oid:
                evictor.start()
            try:
                self.sql(sql)
                break
            except (RunnerError, StoppedError) as error:
                if not isinstance(error, ToolError) or was_lost(error):
                    self._resolve_lost_answer(error, live=live, new=new)
                    break
                if sqlstate(error.stderr) != IN_USE or attempt == SWAP_ATTEMPTS:
                    raise
            finally:
                if oid:
                    evictor.join(EVICTOR_SECONDS)

    def _empty(self, live: str, oid: int) -> None:
        """End every session in `live` for as long as a rename holds its lock, so that none can come in again.

        Bound to the lock, and to the oid: should the swap die, nobody is ended any more; and under the name there
        will be another database any moment.
        """
        with contextlib.suppress(HubbackupError):  # the swap itself tells what goes wrong
            self.sql(f"DO {literal(EMPTY_BODY.format(live=literal(live), oid=oid))};")

    def _resolve_lost_answer(self, error: HubbackupError, *, live: str, new: str) -> None:
        """The answer to a swap was lost: the server knows whether it was made. Raises `error` where it was not."""
        last = Databases(self._runner.detached(), self._connection, live)
        try:
            made = last.sql(f"SELECT count(*) FROM pg_database WHERE datname = {literal(new)};").strip() == "0"
        except HubbackupError:
            raise HubbackupError(
                f"the connection was lost in the middle of the swap, and the server does not answer: {error}",
                remedy=f"while there is a database {new}, {live} is as it was; else it is the restored one",
            ) from error
        if not made:
            raise error

    def count(
        self,
        database: str,
        tables: Iterable[str],
        encoding: str = "",
        *,
        with_partitions: Set[str] = frozenset(),
        then: str = "",
    ) -> tuple[dict[str, tuple[int, bool]], int, str]:
        """(rows, whether an extension owns it) of each table alone (ONLY), or `with_partitions`, by its name quoted
        as pg_dump does, and how many large objects there are, and the answer to `then`, one line of SQL's; all in one
        session, whose search_path is the database's own: planning may look into functions that its users wrote.

        `encoding` is the dump's own (SET client_encoding): a name that is not UTF-8 has its bytes escaped, and they
        go to the server as they were.
        """
        wanted = list(tables)
        sources = [table if table in with_partitions else f"ONLY {table}" for table in wanted]
        lines = ["SET row_security = off;"]
        for start in range(0, len(wanted), COUNT_BATCH):
            selects = [
                f"SELECT {index}, (SELECT pg_catalog.count(*) FROM {sources[index]}), EXISTS"
                " (SELECT FROM pg_catalog.pg_depend"
                " WHERE classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass"
                " AND deptype OPERATOR(pg_catalog.=) 'e'"
                f" AND objid OPERATOR(pg_catalog.=) {literal(wanted[index])}::pg_catalog.regclass)"
                for index in range(start, min(start + COUNT_BATCH, len(wanted)))
            ]
            union = "\nUNION ALL\n".join(selects)
            lines.append(
                f"SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(i, n, e)) FROM (\n{union}) c (i, n, e);"
            )
        lines.append("SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata;")
        answer = self.sql("\n".join([*lines, then]), database, encoding, own_settings=True)
        said = answer.splitlines()
        last = said.pop() if then else ""
        *batches, large_objects = said
        counts = {
            wanted[index]: (count, of_extension)
            for line in batches
            for index, count, of_extension in json.loads(line)
        }
        return counts, int(large_objects), last


@contextmanager
def _named_in(home: str) -> Iterator[None]:
    """Say what it means that `home` does not take a name."""
    try:
        yield
    except ToolError as error:
        if sqlstate(error.stderr) != NOT_IN_ENCODING:
            raise
        raise HubbackupError(
            f"the database's name is not in the encoding of {home}, from where it would be made: {error}",
            remedy=f"give --into a name in ASCII, or make the database {home} anew, in UTF8",
        ) from error


def was_lost(error: ToolError) -> bool:
    """Whether the session ended before it had answered, so that what it was told may have been done all the same."""
    lost = error.exit_code_of_tool == session.NOT_CONNECTED or sqlstate(error.stderr).startswith(("57P", "08"))
    return lost or not error.stderr


def free_bytes(runner: Runner, server: Server) -> int | None:
    """What is free on the server's data directory; None where it can't be read (a remote server, no `df`)."""
    if not server.data_directory:
        return None
    try:
        answer = run(runner, ["df", "-Pk", server.data_directory], {"LC_ALL": "C"}).decode()
        return int(answer.splitlines()[1].split()[3]) * 1024
    except (HubbackupError, IndexError, ValueError):
        return None
