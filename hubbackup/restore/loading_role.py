"""Who loads a backup: the role of the settings; in a drill in the live server one of its own, if that can do it.

A load runs the database's own code (CHECK functions, index expressions, casts) with the loader's rights: the owner of
a table becomes superuser where a superuser loads. A role of its own has no rights but to a database that it makes.
It is whoever connects, never SET ROLE, which the same code could take back.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from hubbackup.dump.census import DumpFacts
from hubbackup.dump.identifiers import literal, quoted
from hubbackup.errors import HubbackupError, ToolError
from hubbackup.postgres import ddl, session
from hubbackup.postgres.client import DatabaseProperties, some
from hubbackup.postgres.databases import Databases
from hubbackup.postgres.server import STAND_IN, Server
from hubbackup.postgres.session import Connection
from hubbackup.runners import Runner

LIVES_HOURS = 48
"""A drill that was killed leaves its role until the next one; by then nobody can log in as it any more."""


@dataclass(frozen=True)
class LoadingRole:
    """How to connect, and whether what the dump gives to others is left out."""

    connection: Connection
    without_owners: bool = False
    why: str = ""
    """In words, why it is not a role of its own, where it could be one."""


def needs_of(facts: DumpFacts, server: Server) -> str:
    """What keeps a role without superuser from loading this dump `without_owners`, in words; else nothing."""
    untrusted = sorted(server.rights.untrusted_extensions & set(facts.extensions))
    needs = [*facts.requirements.privileged, *(f"the extension {name}" for name in untrusted)]
    return f"only a superuser may create {some(needs)}" if needs else ""


@contextmanager
def own_role(runner: Runner, connection: Connection, databases: Databases, facts: DumpFacts) -> Iterator[LoadingRole]:
    """A role of its own for the time of one load; `connection` itself where that can't do it, with the reason.

    `connection` must be one that may make roles. Caller's duty: hold a
    claim, since the role looks like one that a killed restore left; and remove what it made before it goes.
    """
    server = databases.look()
    why = needs_of(facts, server)
    if not why and not server.rights.create_roles:
        why = f"{connection.user} may not create roles"
    if why:
        yield LoadingRole(connection, why=why)
        return
    name = f"hubbackup_loader_{secrets.token_hex(4)}"
    own = replace(connection, user=name, password=secrets.token_urlsafe(24))
    databases.sql(_creation(own, server))
    try:
        yield _tried(runner, own, databases.home(), connection)
    finally:
        with contextlib.suppress(HubbackupError):  # the next restore or drill removes what is left
            databases.last.sql(f"DROP OWNED BY {quoted(name)};\nDROP ROLE {quoted(name)};")


def without_owners_of(properties: DatabaseProperties | None) -> DatabaseProperties | None:
    """What of a database's properties its loader may give it: no other owner, no rights, no settings of roles."""
    if properties is None:
        return None
    settings = tuple((role, entry) for role, entry in properties.settings if not role)
    return replace(properties, owner="", grants=None, settings=settings)


def _creation(own: Connection, server: Server) -> str:
    rights, name = server.rights, quoted(own.user)
    bypasses = rights.superuser or (rights.bypasses_row_security and server.major >= 16)
    until = (datetime.now(UTC) + timedelta(hours=LIVES_HOURS)).isoformat(timespec="seconds")
    lines = [
        f"CREATE ROLE {name} LOGIN CREATEDB {'BYPASSRLS' if bypasses else ''}"
        f" PASSWORD {literal(own.password)} VALID UNTIL {literal(until)};",
        f"COMMENT ON ROLE {name} IS {literal(STAND_IN)};",
    ]
    if not rights.superuser:  # so that we may remove what it made
        lines.append(f"GRANT {name} TO CURRENT_USER{' WITH INHERIT TRUE, SET TRUE' if server.major >= 16 else ''};")
    for tablespace in sorted(server.tablespaces - {"pg_default", "pg_global"}):
        lines.append(ddl.tried(f"GRANT CREATE ON TABLESPACE {quoted(tablespace)} TO {name}", tablespace))
    return "\n".join(["BEGIN;", *lines, "COMMIT;"])


def _tried(runner: Runner, own: Connection, home: str, fallback: Connection) -> LoadingRole:
    """The role of its own, or the other one where the server does not let it in (pg_hba.conf)."""
    try:
        session.sql(runner, own, home, "SELECT;")
    except ToolError as error:
        return LoadingRole(fallback, why=f"the server does not let a role of its own in: {error}")
    return LoadingRole(own, without_owners=True)
