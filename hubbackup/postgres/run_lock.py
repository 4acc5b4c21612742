"""The run lock of a database: one backup or restore of it at a time, from whichever host and directory.

It is an advisory lock on the database itself, held by a transaction of its own that does nothing else: it has no
snapshot and holds back no vacuum. Its end frees it, whatever ends it (the run, its host, its network), and a pooler
keeps to one session of the server's until then, where a lock of the session would stay behind in the pool.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from hubbackup.errors import HubbackupError, LockHeldError
from hubbackup.jobs.run import Run
from hubbackup.postgres import pins, session
from hubbackup.postgres.conversation import Conversation
from hubbackup.postgres.session import Connection
from hubbackup.runners import Runner
from hubbackup.shown_text import printable

KEY = 0x68756272
"""The first half of the lock's number, `classid` in pg_locks; an advisory lock is of one database already."""
RUN, PROBE = 1, 2
"""The second half, `objid`: of runs, and of the doctor, who tries whether there could be a lock."""
BEAT_SECONDS = 20.0
"""Between two signs of life: no timeout of a server's, a pooler's or a firewall's is as short."""
PATIENCE_SECONDS, DEAD_SECONDS = 0.5, 5.0
"""How long a holder that is just ending is waited for; the same for one that we have ended ourselves."""
RELEASE_SECONDS = 2.0
FEWEST_CONNECTIONS = 4
"""A backup's own, at most three at once, and the lock's."""
ROOM_SQL = """\
SELECT least(nullif(r.rolconnlimit, -1), nullif(d.datconnlimit, -1))
FROM pg_catalog.pg_roles r, pg_catalog.pg_database d
WHERE r.rolname = SESSION_USER AND d.datname = pg_catalog.current_database() AND NOT r.rolsuper;
"""
"""How many connections may be there at once; empty: any number."""
KEEPALIVE_SQL = """\
SELECT pg_catalog.count(pg_catalog.set_config(name, value, true)) AS kept
FROM (VALUES ('tcp_keepalives_idle', '60'), ('tcp_keepalives_interval', '10'), ('tcp_keepalives_count', '6'))
    AS kept (name, value) \\gset hubbackup_
"""
"""The server notices within two minutes that our host is gone."""
HOLDER_SQL = """\
SELECT pg_catalog.concat_ws('|', may.back_up, coalesce(pg_catalog.host(a.client_addr), ''),
    coalesce(pg_catalog.to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), ''),
    CASE WHEN may.back_up THEN a.application_name ELSE a.usename END)
FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
    JOIN pg_catalog.pg_database d ON d.oid = l.database
    JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
    LEFT JOIN pg_catalog.pg_roles readers ON readers.rolname = 'pg_read_all_data',
    LATERAL (SELECT r.rolsuper OR r.rolname = SESSION_USER OR pg_catalog.pg_has_role(r.oid, d.datdba, 'MEMBER')
        OR coalesce(pg_catalog.pg_has_role(r.oid, readers.oid, 'MEMBER'), false)) AS may (back_up)
WHERE l.locktype = 'advisory' AND l.granted AND l.classid = {key} AND l.objid = {number} AND l.objsubid = 2
  AND d.datname = pg_catalog.current_database()
ORDER BY may.back_up DESC LIMIT 1;
"""
"""Any role that connects can take the lock. Only of one that may read the whole database it is to be believed."""

_TOLD: set[tuple[str, str]] = set()
"""The databases of which this process has said already that there is no lock."""


@dataclass(frozen=True)
class Holder:
    """Who holds the lock, as far as the server tells this role. `stranger`: a role that can't be making backups."""

    application: str = ""
    address: str = ""
    since: str = ""
    stranger: str = ""

    @classmethod
    def of(cls, answer: str) -> Holder | None:
        """Out of HOLDER_SQL's answer."""
        believed, *parts = answer.split("|", 3)
        if len(parts) != 3:
            return None
        address, since, name = parts
        return cls(name, address, since) if believed == "t" else cls("", address, since, name)

    def __str__(self) -> str:
        who = self.application or "a session that does not tell its name"
        where = f", from {self.address}" if self.address else ""
        return f"{who}{where}{f', since {self.since} UTC' if self.since else ''}"

    def is_of(self, run_ids: Sequence[str]) -> bool:
        """Whether it is one of these runs."""
        return any(self.application.startswith(session.application_name(run_id)) for run_id in run_ids)


@dataclass
class RunLock:
    """The lock while it is held. `why_not`: it could not be had, and why."""

    why_not: str = ""
    _ended: threading.Event = field(default_factory=threading.Event)

    def expect_its_end(self) -> None:
        """What comes next ends the lock's session: a swap, or the database's drop."""
        self._ended.set()


NO_LOCK = RunLock("there is no database to lock")


def holder(runner: Runner, connection: Connection, database: str) -> Holder | None:
    """Who is at work on `database`, from wherever; None where nobody holds the lock. Raises HubbackupError."""
    sql = HOLDER_SQL.format(key=KEY, number=RUN)
    found = Holder.of(session.sql(runner, connection, database, sql).strip("\n"))
    return None if found is None or found.stranger else found


def why_not(runner: Runner, connection: Connection, database: str) -> str:
    """Why no run could lock `database`; empty where one could. Tried for real, and in no run's way."""
    try:
        with _locking(runner, connection, database, PROBE):
            return ""
    except LockHeldError:  # by another doctor
        return ""
    except HubbackupError as error:
        return str(error)


@contextmanager
def locked(
    run: Run,
    runner: Runner,
    connection: Connection,
    database: str,
    ended: Sequence[str] = (),
    *,
    shared: bool = False,
) -> Iterator[RunLock]:
    """Hold the lock of `database`, or say once why that can't be, and go on without it. `ended`: the runs whose
    sessions we have just ended. Who has it `shared` keeps out backups, and no other that shares it: restores fill
    databases of their own.

    Raises LockHeldError at once where a run elsewhere holds it. Where its session is lost in the middle, that is
    said, and the run goes on.
    """
    with contextlib.ExitStack() as stack:
        named = replace(connection, run_id=_named(run))
        try:
            talk = stack.enter_context(_locking(runner, named, database, RUN, ended, shared=shared))
        except LockHeldError:
            raise
        except HubbackupError as error:
            run.cancel.check()
            why = str(error)
            if (runner.place, database) not in _TOLD:
                _TOLD.add((runner.place, database))
                run.log.warning(
                    "lock.unavailable",
                    message=f"a run elsewhere would not be noticed, there can be no lock on {database}: {why}",
                    database=database,
                    cause=why,
                    remedy="hubbackup doctor says what to do",
                )
            yield RunLock(why)
            return
        lock = RunLock()

        def lost(error: HubbackupError) -> None:
            if not lock._ended.is_set():
                run.log.warning(
                    "lock.lost",
                    message=f"the lock on {database} was lost, so another run may begin meanwhile; this one goes on:"
                    f" {error}",
                    database=database,
                    cause=str(error),
                )

        stack.enter_context(_kept_alive(talk, lost))
        try:
            yield lock
        finally:
            lock._ended.set()


def _named(run: Run) -> str:
    """What others see of this run in pg_stat_activity, which has 63 bytes for it."""
    longest = 63 - len(session.APPLICATION_PREFIX)
    return f"{run.run_id} {run.kind} on {socket.gethostname()}".encode("ascii", "replace")[:longest].decode()


@contextmanager
def _locking(
    runner: Runner,
    connection: Connection,
    database: str,
    number: int,
    ended: Sequence[str] = (),
    *,
    shared: bool = False,
) -> Iterator[Conversation]:
    """Hold the lock of that number. Raises LockHeldError, or another HubbackupError where it can't be had."""
    with session.open_psql(runner, connection, database) as process:
        talk = Conversation(process, connection.user)
        begin = f"BEGIN ISOLATION LEVEL READ COMMITTED;\n{pins.in_transaction()}"
        # In a transaction of its own, whose locks on the catalogs end with it.
        said = talk.say(f"{begin}SELECT 'room';\n{ROOM_SQL}COMMIT;")
        room = "".join(said[said.index("room") + 1 :])
        if room and int(room) < FEWEST_CONNECTIONS:
            raise HubbackupError(f"the role {connection.user} may have only {room} connections there at once")
        talk.say(f"{begin}{KEEPALIVE_SQL}")
        began = time.monotonic()
        function = f"pg_catalog.pg_try_advisory_xact_lock{'_shared' if shared else ''}"
        while talk.say(f"SELECT {function}({KEY}, {number});")[-1] != "t":
            found = talk.say(HOLDER_SQL.format(key=KEY, number=number))
            by = Holder.of(found[0]) if found else None
            is_dead = by is not None and by.is_of(ended)
            if time.monotonic() - began > (DEAD_SECONDS if is_dead else PATIENCE_SECONDS):
                if by is not None and by.stranger:
                    raise HubbackupError(
                        f"the role {printable(by.stranger)}, which can't be making backups, holds it ({by})",
                        remedy="end that session (pg_terminate_backend), and find out why it took this lock",
                    )
                raise LockHeldError(
                    f"another run of hubbackup is at work on the database {database}: {by or 'it has just ended'}",
                    remedy="wait for it to end; it runs on another host, or with another BACKUP_DIR",
                    elsewhere=True,
                )
            time.sleep(0.05)
        yield talk


@contextmanager
def _kept_alive(talk: Conversation, lost: Callable[[HubbackupError], None]) -> Iterator[None]:
    """Meanwhile, a sign of life now and then; `lost` is called once, where the session is no more."""
    over = threading.Event()

    def beat() -> None:
        try:
            while not over.wait(BEAT_SECONDS):
                talk.say("")
            talk.say("ROLLBACK;")  # the next run need not wait until the server has noticed our end
        except HubbackupError as error:
            if not over.is_set():
                lost(error)

    keeper = threading.Thread(target=beat, name="run-lock", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join(RELEASE_SECONDS)
