"""Roles: which ones a dump needs, making the missing ones from a globals backup, or doing without them.

No role that exists is ever altered: it belongs to the server, not to the backup.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from hubbackup.errors import HubbackupError, NotProvenError
from hubbackup.postgres.databases import STAND_IN, Databases
from hubbackup.postgres.dump_lexer import Lexer
from hubbackup.postgres.identifiers import literal, quoted

NAME = r'(?:"(?:[^"]|"")+"|[^\s";]+)'
STATEMENT = re.compile(rf"^(?P<verb>CREATE|ALTER) ROLE (?P<role>{NAME})(?P<rest>.*);$", re.DOTALL)
COMMENT = re.compile(rf"^COMMENT ON ROLE (?P<role>{NAME}) IS .*;$", re.DOTALL)
MEMBERSHIP = re.compile(
    rf"^GRANT (?P<role>{NAME}) TO (?P<member>{NAME})(?: WITH (?P<options>.*?))?(?: GRANTED BY {NAME})?;$", re.DOTALL
)
ADMIN = re.compile(r"ADMIN (?:OPTION|TRUE)")


def statements(globals_sql: str) -> Iterator[str]:
    """The statements of a `pg_dumpall --globals-only`, one by one; a value may hold a line break."""
    gathered = ""
    for line in globals_sql.splitlines():
        if not gathered and (not line.strip() or line.startswith(("--", "\\"))):
            continue
        gathered += ("\n" if gathered else "") + line
        if gathered.endswith(";") and gathered.count("'") % 2 == 0 and gathered.count('"') % 2 == 0:
            yield gathered
            gathered = ""


def for_missing_roles(
    globals_sql: str, existing: Iterable[str], server_major: int = 99
) -> tuple[list[str], list[str]]:
    """(statements, names) that make the roles which are in the globals and not in `existing`.

    Raises NotProvenError where the text holds a command for psql itself, which no pg_dumpall writes.
    """
    known = set(existing)
    made: list[str] = []
    chosen: list[str] = []
    for statement in statements(globals_sql):
        found = STATEMENT.match(statement) or COMMENT.match(statement)
        if found and _plain(found["role"]) not in known:
            if statement.startswith("CREATE"):
                made.append(_plain(found["role"]))
            chosen.append(statement)
            continue
        membership = MEMBERSHIP.match(statement)
        if membership and _plain(membership["member"]) in made:
            chosen.append(_granted(membership, server_major))
    _refuse_commands(chosen)
    return chosen, made


def _granted(membership: re.Match[str], server_major: int) -> str:
    """The membership, granted by ourselves: who granted it there may not do so here. INHERIT and SET came with 16."""
    options = membership["options"] or ""
    if server_major < 16:
        options = "ADMIN OPTION" if ADMIN.search(options) else ""
    return f"GRANT {membership['role']} TO {membership['member']}{' WITH ' if options else ''}{options};"


class _Commands:
    """Listens to the lexer for what psql itself would carry out."""

    def __init__(self) -> None:
        self.found: list[bytes] = []

    def on_statement(self, start: bytes, end: bytes) -> str:
        return ""

    def on_meta_command(self, command: bytes) -> None:
        self.found.append(command)

    def on_rows(self, rows: int) -> None: ...


def _refuse_commands(chosen: Iterable[str]) -> None:
    commands = _Commands()
    lexer = Lexer(commands)
    lexer.feed(("\n".join(chosen) + "\n").encode())
    if commands.found or lexer.inside or lexer.fault:
        raise NotProvenError(
            "the roles in the manifest hold more than pg_dumpall writes",
            remedy="do not use --globals; find out who made this manifest",
        )


def create_missing(databases: Databases, globals_sql: str, existing: Iterable[str], server_major: int) -> list[str]:
    """Make the roles that are missing, all or none; returns their names. Raises HubbackupError."""
    chosen, made = for_missing_roles(globals_sql, existing, server_major)
    if made:
        databases.sql("BEGIN;\n" + "\n".join(chosen) + "\nCOMMIT;\n")
    return made


@contextmanager
def stand_ins(databases: Databases, database: str, missing: Iterable[str], last: Databases) -> Iterator[None]:
    """`--no-owner`: roles that are missing exist inside, without any right, and what they own falls to us.

    Made for the restore and removed after it, so that nothing but the new database ever refers to them. After a
    failure the new database goes first, over `last`, which a stop of the run does not hinder: a role can't go while
    something refers to it. What can't be removed then, the next restore removes.
    """
    names = sorted(missing)
    if not names:
        yield
        return
    lines = [f"CREATE ROLE {quoted(n)} NOLOGIN;\nCOMMENT ON ROLE {quoted(n)} IS {literal(STAND_IN)};" for n in names]
    remove = "\n".join(f"DROP ROLE {quoted(name)};" for name in names)
    databases.sql("BEGIN;\n" + "\n".join(lines) + "\nCOMMIT;\n")
    try:
        yield
        owned = ", ".join(quoted(name) for name in names)
        databases.sql(f"REASSIGN OWNED BY {owned} TO CURRENT_USER;\nDROP OWNED BY {owned};\n", database)
        databases.sql(remove)
    except BaseException:
        with contextlib.suppress(HubbackupError):
            last.drop(database)
            last.sql(remove)
        raise


def remove_leftovers(databases: Databases) -> list[str]:
    """Remove the stand-ins that a killed restore left, but for those that a half-filled database still needs.

    Returns their names.
    """
    found = databases.sql(
        "SELECT coalesce(jsonb_agg(rolname), '[]') FROM pg_roles r"
        f" WHERE shobj_description(r.oid, 'pg_authid') = {literal(STAND_IN)} AND NOT EXISTS"
        " (SELECT FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = r.oid);"
    )
    names: list[str] = json.loads(found)
    databases.sql("".join(f"DROP ROLE {quoted(name)};\n" for name in names))
    return names


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
