"""How a role that is not a superuser restores what belongs to others, and what that takes."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from hubbackup.dump.identifiers import literal, quoted
from hubbackup.errors import HubbackupError
from hubbackup.postgres import ddl
from hubbackup.postgres.databases import Databases
from hubbackup.postgres.server import STAND_IN, Server


def stand_in_sql(name: str, attributes: str = "") -> str:
    return f"CREATE ROLE {quoted(name)} NOLOGIN {attributes};\nCOMMENT ON ROLE {quoted(name)} IS {literal(STAND_IN)};"


class Deputies:
    """Two roles of ours, for the time of one restore.

    Whoever owns something in the new database is a member of `_giver`, which may create in every schema there (the
    owner of a table must, and a dump grants that right only later, if ever). We are a member of `_taker`, which is a
    member of those roles that we may grant but not act as. When the two go, all of that goes with them.
    Needless for a superuser, and where nothing belongs to anybody else.
    """

    def __init__(self, databases: Databases, database: str, server: Server, acting: Iterable[str]) -> None:
        """`acting` are the roles that own something, stand-ins included."""
        self._databases = databases
        self._database = database
        self._server = server
        self._acting = {role for role in acting if role != server.rights.user and not role.startswith("pg_")}
        suffix = secrets.token_hex(4)
        self._giver, self._taker = f"hubbackup_giver_{suffix}", f"hubbackup_taker_{suffix}"

    @property
    def are_needless(self) -> bool:
        """Whether we can do it all by ourselves."""
        return self._server.rights.superuser or not self._acting

    @contextmanager
    def at_hand(self) -> Iterator[None]:
        """They exist inside."""
        if self.are_needless:
            yield
            return
        rights = self._server.rights
        existing = sorted(self._acting & self._server.roles)
        lines = [f"{stand_in_sql(name)}\n{self._grant(name, 'CURRENT_USER')}" for name in (self._giver, self._taker)]
        lines += [self._grant(role, quoted(self._taker)) for role in existing if role not in rights.acts_as]
        lines += [self._grant(self._giver, quoted(role)) for role in existing]
        self._databases.sql("BEGIN;\n" + "".join(lines) + "COMMIT;\n", self._database)
        try:
            yield
        finally:
            with contextlib.suppress(HubbackupError):  # the next restore removes what is left
                self._databases.last.sql(f"DROP ROLE {quoted(self._giver)}, {quoted(self._taker)};")

    def joining(self, names: Iterable[str]) -> str:
        """The statements that take in stand-ins."""
        if self.are_needless:
            return ""
        return "".join(
            self._grant(self._giver, quoted(name)) + self._grant(name, quoted(self._taker)) for name in names
        )

    def enter(self) -> None:
        """Let the giver's members create in the new database's schemas, the coming ones as well."""
        if not self.are_needless:
            giver = quoted(self._giver)
            public = ddl.tried(f"GRANT CREATE ON SCHEMA public TO {giver}", "public")  # before 15 everybody may
            later = f"ALTER DEFAULT PRIVILEGES GRANT CREATE ON SCHEMAS TO {giver};"
            self._databases.sql(f"{public}\n{later}\n", self._database)

    def leave(self) -> None:
        """Take those rights back."""
        if not self.are_needless:
            self._databases.sql(f"DROP OWNED BY {quoted(self._giver)};", self._database)

    def _grant(self, role: str, member: str) -> str:
        options = " WITH INHERIT TRUE, SET TRUE" if self._server.major >= 16 else ""
        return f"GRANT {quoted(role)} TO {member}{options};\n"
