"""Roles: which ones a dump needs, making the missing ones from a globals backup, or doing without them.

No role that exists is ever altered: it belongs to the server, not to the backup.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from hubbackup.databases import Databases, literal, quoted

TEMPORARY = "hubbackup: stands in for a missing role during a restore"
NAME = r'(?:"(?:[^"]|"")+"|[^\s";]+)'
STATEMENT = re.compile(rf"^(?P<verb>CREATE|ALTER) ROLE (?P<role>{NAME})(?P<rest>.*);$", re.DOTALL)
MEMBERSHIP = re.compile(rf"^GRANT (?P<role>{NAME}) TO (?P<member>{NAME})(?P<rest>.*);$", re.DOTALL)


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


def for_missing_roles(globals_sql: str, existing: Iterable[str]) -> tuple[list[str], list[str]]:
    """(statements, names) that make the roles which are in the globals and not in `existing`."""
    known = set(existing)
    made: list[str] = []
    chosen: list[str] = []
    for statement in statements(globals_sql):
        found = STATEMENT.match(statement)
        if found and _plain(found["role"]) not in known:
            if found["verb"] == "CREATE":
                made.append(_plain(found["role"]))
            chosen.append(statement)
            continue
        membership = MEMBERSHIP.match(statement)
        if membership and _plain(membership["member"]) in made:
            chosen.append(statement)
    return chosen, made


def create_missing(databases: Databases, globals_sql: str, existing: Iterable[str]) -> list[str]:
    """Make the roles that are missing, all or none; returns their names. Raises HubbackupError's kinds."""
    chosen, made = for_missing_roles(globals_sql, existing)
    if made:
        databases.sql("BEGIN;\n" + "\n".join(chosen) + "\nCOMMIT;\n")
    return made


@contextmanager
def stand_ins(databases: Databases, database: str, missing: Iterable[str]) -> Iterator[None]:
    """`--no-owner`: roles that are missing exist inside, without any right, and what they own falls to us.

    Made for the restore and removed after it, so that nothing but the new database ever refers to them.
    """
    names = sorted(missing)
    if not names:
        yield
        return
    lines = [f"CREATE ROLE {quoted(n)} NOLOGIN;\nCOMMENT ON ROLE {quoted(n)} IS {literal(TEMPORARY)};" for n in names]
    databases.sql("BEGIN;\n" + "\n".join(lines) + "\nCOMMIT;\n")
    try:
        yield
        owned = ", ".join(quoted(name) for name in names)
        databases.sql(f"REASSIGN OWNED BY {owned} TO CURRENT_USER;\nDROP OWNED BY {owned};\n", database)
    except BaseException:
        databases.drop(database)  # a role can't go while something refers to it
        raise
    finally:
        databases.sql("\n".join(f"DROP ROLE {quoted(name)};" for name in names))


def remove_stand_ins(databases: Databases) -> None:
    """Remove the stand-ins that a killed restore left. Caller's duty: its database has been dropped."""
    names = databases.sql(
        "SELECT quote_ident(rolname) FROM pg_roles r"
        f" WHERE shobj_description(r.oid, 'pg_authid') = {literal(TEMPORARY)};"
    ).splitlines()
    if names:
        databases.sql("\n".join(f"DROP ROLE {name};" for name in names))


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
