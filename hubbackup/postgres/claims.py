"""A claim on a database that is being made or filled: nobody else may take it for one that a killed run left.

It is an advisory lock of the server, which ends with its session, whatever ends that: the run, its host, its network.
So a run on another host, or with another BACKUP_DIR, sees that one is alive; a lock file would not tell it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hubbackup.dump.identifiers import literal
from hubbackup.errors import HubbackupError
from hubbackup.postgres import session
from hubbackup.postgres.session import Connection
from hubbackup.runners import Runner, tool_error

KEY = 0x68756262
"""The first half of each lock's number; the second is the hash of the database's name."""


def claimed(name: str) -> str:
    """SQL: whether somebody holds a claim on the database of that name; `name` is SQL, too."""
    return (
        f"EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = {KEY}"
        f" AND objid = hashtext({name})::oid)"
    )


def claimed_by_others(name: str) -> str:
    """SQL: whether there is a claim on any other database than the one of that name, which is text."""
    return (
        f"EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = {KEY}"
        f" AND objid <> hashtext({literal(name)})::oid)"
    )


@contextmanager
def claim(runner: Runner, connection: Connection, home: str, name: str) -> Iterator[None]:
    """Hold the claim on `name` inside, over a session in the database `home`. Raises HubbackupError."""
    with session.open_psql(runner, connection, home) as process:
        # The bytes are hashed, as they are of the names in pg_database.
        lock = f"SELECT pg_try_advisory_lock({KEY}, hashtext({literal(name)}));"
        process.write(f"SET client_encoding = 'SQL_ASCII';\n{lock}\n".encode())
        answer = b""
        for chunk in process.chunks():
            answer += bytes(chunk)
            if answer.endswith(b"\n"):
                break
        else:
            raise tool_error("psql", process.wait())
        if answer.strip() != b"t":
            raise HubbackupError(
                f"another restore is at work on the database {name}", remedy="wait for it to end, and try again"
            )
        yield
