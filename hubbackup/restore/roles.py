"""Roles: which ones a dump needs, making the missing ones from a globals backup, or doing without them.

No role that exists is ever altered: it belongs to the server, not to the backup. What the backup says of such a role
and the server doesn't have is reported, and left to its operator.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from hubbackup.dump.identifiers import literal, quoted
from hubbackup.errors import HubbackupError, NotProvenError
from hubbackup.postgres import ddl
from hubbackup.postgres.claims import claimed_by_others
from hubbackup.postgres.databases import Databases
from hubbackup.postgres.globals_text import GlobalStatement, parsed
from hubbackup.postgres.server import STAND_IN, Server
from hubbackup.restore.deputies import Deputies, stand_in_sql

_REQUIRED = ("create", "attributes")
"""What a role can't be without; all else is worth a remark, not the restore."""


@dataclass(frozen=True)
class RolePlan:
    """What `--globals` does on one server. `made` are the roles; `powers` which attributes take a superuser, by role.

    `remarks` say what stands in the backup and is not carried out.
    """

    made: tuple[str, ...]
    statements: tuple[GlobalStatement, ...]
    powers: dict[str, tuple[str, ...]]
    remarks: tuple[str, ...]


NOTHING = RolePlan((), (), {}, ())


def plan_roles(
    globals_sql: str, server: Server, needed: Iterable[str] = (), *, only_needed: bool = False
) -> RolePlan:
    """How to make the roles that are in the globals and not on the server; or `only_needed` ones, and then nothing is
    said of the others.

    Where we are not a superuser, a role with a superuser's attributes is made only if it is `needed`.
    Raises NotProvenError where the text holds a command for psql itself, which no pg_dumpall writes.
    """
    text = parsed(globals_sql)
    if text.has_commands:
        raise NotProvenError(
            "the roles in the manifest hold more than pg_dumpall writes",
            remedy="do not use --globals; find out who made this manifest",
        )
    created = [found.role for found in text.statements if found.kind == "create" and found.role not in server.roles]
    if only_needed:
        created = [role for role in created if role in set(needed)]
    powers = {found.role: found.powers for found in text.statements if found.powers and found.role in created}
    beyond = set() if server.rights.superuser else set(powers) - set(needed)
    made = tuple(role for role in created if role not in beyond)
    chosen = tuple(found for found in text.statements if found.role in made and found.sql)
    remarks = [f"the role {role} ({', '.join(powers[role])}) is not made, it takes a superuser" for role in beyond]
    if only_needed:
        return RolePlan(made, chosen, {role: powers[role] for role in powers if role in made}, tuple(remarks))
    remarks += _not_carried_out(text.statements, server)
    absent = sorted(set(text.tablespaces) - server.tablespaces)
    remarks += [f"the tablespace {name} does not exist here and is not made" for name in absent]
    remarks += [f"not understood in the roles of the backup, and left out: {words} …" for words in text.others]
    return RolePlan(made, chosen, {role: powers[role] for role in powers if role in made}, tuple(remarks))


def _not_carried_out(statements: Iterable[GlobalStatement], server: Server) -> Iterator[str]:
    """What the backup says of roles that exist here."""
    for found in statements:
        if found.role not in server.roles and found.role != "public":
            continue
        if found.kind == "membership" and (found.group, found.role) not in server.memberships:
            yield f"{found.role} exists and is not a member of {found.group}, as in the backup: {found.sql}"
        elif found.kind == "parameter":
            yield f"{found.role} exists, so this is left to you: {found.sql}"


def create_missing(databases: Databases, database: str, plan: RolePlan, server_major: int) -> list[str]:
    """Make the planned roles, all or none, named in the encoding of `database`; returns what the server refused to
    say of them. Raises HubbackupError."""
    if not plan.made:
        return []
    lines = []
    for found in plan.statements:
        sql = found.admin_only if found.admin_only and server_major < 16 else found.sql
        lines.append(sql if found.kind in _REQUIRED else ddl.tried(sql, found.what))
    return [f"the server refused {line}" for line in databases.tried(["BEGIN;", *lines, "COMMIT;"], database)]


@contextmanager
def stand_ins(
    databases: Databases,
    database: str,
    missing: Iterable[str],
    superusers: Iterable[str],
    deputies: Deputies,
    *,
    keep: bool = False,
) -> Iterator[None]:
    """`--no-owner`: roles that are missing exist inside, without any right, and what they own falls to us.

    Those of `superusers` are superusers, since what they own may belong to none but such; nobody can log in as one.
    Made for the restore and removed after it, so that nothing but the new database ever refers to them. After a
    failure the new database goes first, also after a stop of the run: a role can't
    go while something refers to it. What can't be removed then, the next restore removes. With `keep` the new
    database stays, and what they own in it falls to us there and then.
    """
    names = sorted(missing)
    powerful = set(superusers) if deputies.are_needless else set()
    remove = "\n".join(f"DROP ROLE {quoted(name)};" for name in names)
    owned = ", ".join(quoted(name) for name in names)
    disown = f"REASSIGN OWNED BY {owned} TO CURRENT_USER;\nDROP OWNED BY {owned};\n"
    if names:
        lines = [stand_in_sql(name, "SUPERUSER" if name in powerful else "") for name in names]
        databases.sql("BEGIN;\n" + "\n".join(lines) + deputies.joining(names) + "\nCOMMIT;\n", database)
    try:
        deputies.enter()
        yield
        if names:
            databases.sql(disown, database)
        deputies.leave()
        if names:
            databases.sql(remove, database)
    except BaseException:
        if names:
            with contextlib.suppress(HubbackupError):
                if keep:
                    databases.last.sql(disown, database)
                else:
                    databases.last.discard(database)
                remove_leftovers(databases.last, database)
        raise


_FOUND = "hubbackup.removed"
_REMOVAL = """
DECLARE
    stand_in name;
BEGIN
    FOR stand_in IN SELECT rolname FROM pg_roles r WHERE shobj_description(oid, 'pg_authid') = {comment}
        AND NOT {others}
        AND NOT EXISTS (SELECT FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = r.oid)
    LOOP
        EXECUTE format('DROP ROLE %I', stand_in);
        PERFORM set_config('{found}', current_setting('{found}')
            || encode(convert_to(stand_in, getdatabaseencoding()), 'hex') || ' ', false);
    END LOOP;
END
"""


def remove_leftovers(databases: Databases, ours: str = "") -> list[str]:
    """Remove the stand-ins that a killed restore left, but for those that a half-filled database still needs; none
    while a restore is at work but that of the database `ours`.

    Returns their names. All on the server: no session in another encoding can name some of them.
    """
    body = _REMOVAL.format(comment=literal(STAND_IN), found=_FOUND, others=claimed_by_others(ours))
    answer = databases.sql(f"SET {_FOUND} = '';\nDO {literal(body)};\nSELECT current_setting('{_FOUND}');")
    return [bytes.fromhex(name).decode("utf-8", "replace") for name in answer.split()]
