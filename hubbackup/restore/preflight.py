"""What would stop a restore half-way, found before anything is touched."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from hubbackup.dump.census import DumpFacts
from hubbackup.dump.identifiers import quoted, readable
from hubbackup.dump.versions import major_of
from hubbackup.errors import HubbackupError, NotProvenError, UsageError
from hubbackup.postgres import ddl
from hubbackup.postgres.client import DatabaseProperties, some
from hubbackup.postgres.databases import free_bytes
from hubbackup.postgres.globals_text import parsed
from hubbackup.postgres.server import Server, ServerDatabase
from hubbackup.postgres.session import Connection
from hubbackup.postgres.side_databases import derived_time
from hubbackup.restore import extensions, roles
from hubbackup.runners import Runner
from hubbackup.verify.source import Source

INDEX_FACTOR = 2.0
"""Rows of a dump take this much in a database, with their indexes."""
ROOM_FACTOR = 1.2
"""A restored database takes about as much room as the live one; indexes are built with room to sort."""


@dataclass(frozen=True)
class Request:
    """What is asked for. `target` is the name that the restored database gets."""

    target: str
    replace: bool
    """True: swap with a live database of that name. False (`--into`): the name must be free."""
    in_place: bool = False
    no_owner: bool = False
    with_globals: bool = False
    force: bool = False
    untried: bool = False
    """With `in_place`: also where nothing has shown that the schema restores."""
    tables: tuple[str, ...] = ()
    """Those whose rows are restored, as typed; none: all."""
    needed_roles_only: bool = False
    """With `with_globals`: only those roles that this backup needs."""
    schema_only: bool = False
    """All but the rows, to see whether a server takes it."""
    jobs: int = 1
    """How many sessions load at once; 0: as many as fit the server."""


def preflight(
    runner: Runner,
    connection: Connection,
    server: Server,
    request: Request,
    source: Source,
    facts: DumpFacts,
    properties: DatabaseProperties | None,
) -> list[str]:
    """Check everything that can be known; returns remarks for the operator. Nothing is changed.

    Raises UsageError for what was asked wrongly, HubbackupError for what must be mended or decided.
    """
    live = server.databases.get(request.target)
    if not request.replace and live is not None:
        raise UsageError(f"the database {request.target} exists already", remedy="give --into a name that is free")
    check_server(server, connection.user, request.target)
    _check_version(server, request, source, facts)
    notes = extensions.check(server, facts, properties, request.target)
    _check_tablespaces(server, facts)
    _check_icu(server, facts, properties)
    plan = _check_roles(connection.user, server, request, source, set(facts.roles) | ddl.needed_roles(properties))
    _check_rights(server, request, facts, properties, plan)
    if live is not None:
        _check_replaceable(live, in_place=request.in_place)
    if not (request.in_place or request.force or request.schema_only):
        _check_room(runner, connection, server, request, source, facts)
    notes += plan.remarks if request.with_globals else ()
    if source.manifest is None:
        notes.append("this file is unproven, it has no manifest: its compression, header and trailer are right")
        codec = source.format.codec
        if not codec.always_has_checksum:
            notes.append(
                f"pg_dump's {codec.word} has no checksum of its own: without the manifest a flipped bit is not seen"
            )
    if source.foreign:
        notes.append(f"{source.doubt}; whoever can write to {source.where} can put such a file there")
    if source.manifest is not None and source.manifest.warnings:
        notes.append(f"this backup is suspicious: {'; '.join(source.manifest.warnings)}")
    if source.unrestorable:
        notes.append(f"this backup is unrestorable, as a drill of its schema has shown: {source.unrestorable}")
    if live is not None and live.sessions and not (server.rights.superuser or server.rights.ends_sessions):
        notes.append(
            f"{connection.user} may not end the sessions of other roles, and they would hinder the swap:"
            f" GRANT pg_signal_backend TO {quoted(connection.user)}, or stop the application first"
        )
    if live is not None and live.slots:
        notes.append(f"the logical replication slots {', '.join(live.slots)} stay with the old database")
    return notes


def check_server(server: Server, user: str, database: str = "") -> None:
    """Raises HubbackupError where no database can be made there at all."""
    if server.in_recovery:
        whose = f"the server of {database}" if database else "the server"
        raise HubbackupError(
            f"{whose} is a standby, or being recovered: it only lets read",
            remedy="restore on the primary server; its standbys follow by themselves",
        )
    if not server.may_create:
        raise HubbackupError(
            f"the role {user} may not create databases", remedy=f"ALTER ROLE {quoted(user)} CREATEDB"
        )


def _check_version(server: Server, request: Request, source: Source, facts: DumpFacts) -> None:
    if major_of(facts.server_version) > server.major and not request.force:
        raise HubbackupError(
            f"{source.name} comes from PostgreSQL {facts.server_version}, this server is {server.version}:"
            " an older server may lack what the dump uses",
            remedy="restore into the same major version or a newer one, or try with --force",
        )


def _check_icu(server: Server, facts: DumpFacts, properties: DatabaseProperties | None) -> None:
    needs = [f"the collation {name}" for name in sorted(facts.requirements.icu_collations)]
    if properties is not None and properties.catalog_row.get("datlocprovider") == "i":
        needs.insert(0, "the database's locale")
    if needs and not server.has_icu:
        raise HubbackupError(
            f"the server was built without ICU, which sorts text for {some(needs)}",
            remedy="use an image that has ICU: PostgreSQL's own images have",
        )


def _check_tablespaces(server: Server, facts: DumpFacts) -> None:
    absent = sorted(facts.requirements.tablespaces - server.tablespaces)
    if absent:
        raise HubbackupError(
            f"the server lacks the tablespaces {', '.join(absent)}",
            remedy="CREATE TABLESPACE name LOCATION 'an empty directory of the server', for each of them",
        )


def _check_roles(user: str, server: Server, request: Request, source: Source, needed: Set[str]) -> roles.RolePlan:
    if request.with_globals and not globals_of(source):
        raise UsageError(
            f"{source.name} has no globals", remedy="create the roles by hand, or restore without --globals"
        )
    missing = needed - server.roles
    try:
        plan = roles.plan_roles(
            roles_of(source, server, needed), server, needed, only_needed=request.needed_roles_only
        )
    except NotProvenError:
        if request.with_globals:
            raise
        plan = roles.NOTHING
    in_globals = missing & set(plan.made)
    if request.with_globals:
        missing -= in_globals
    if missing and not request.no_owner:
        hint = "--globals creates them from the backup, " if in_globals >= missing else ""
        raise HubbackupError(
            f"these roles do not exist on this server: {', '.join(sorted(missing))}",
            remedy=f"{hint}--no-owner gives what is theirs to {user}, or create them",
        )
    return plan


def _check_rights(
    server: Server,
    request: Request,
    facts: DumpFacts,
    properties: DatabaseProperties | None,
    plan: roles.RolePlan,
) -> None:
    """What this restore takes and a role that is not a superuser may lack."""
    rights, asked = server.rights, facts.requirements
    if rights.superuser:
        return
    others = acting_roles(facts, properties, server, request) - {rights.user}
    made = set(plan.made) if request.with_globals else set()
    foreign = {role for role in others & server.roles - rights.acts_as - rights.may_join if role[:3] != "pg_"}
    untrusted = sorted(rights.untrusted_extensions & set(facts.extensions))
    granted = [f"a privilege that {role} granted" for role in sorted(asked.granters)]
    privileged = [*asked.privileged, *granted, *(f"the extension {name}" for name in untrusted)]
    powers = {role: plan.powers[role] for role in made & plan.powers.keys()}
    me = quoted(rights.user)
    takes = []
    if privileged or powers:
        what = [*privileged, *(f"the role {role} ({', '.join(power)})" for role, power in sorted(powers.items()))]
        takes.append((f"only a superuser may create {', '.join(what)}", f"ALTER ROLE {me} SUPERUSER"))
    elif (others or made) and not rights.create_roles:
        takes.append(("objects of other roles take CREATEROLE", f"ALTER ROLE {me} CREATEROLE"))
    if foreign and not privileged:
        names = ", ".join(sorted(foreign))
        takes.append((f"it can't act as {names}", f"GRANT {', '.join(map(quoted, sorted(foreign)))} TO {me}"))
    if asked.forced_row_security and not rights.bypasses_row_security:
        takes.append(("FORCE ROW LEVEL SECURITY hides rows from their owner", f"ALTER ROLE {me} BYPASSRLS"))
    if takes:
        raise HubbackupError(
            f"the role {rights.user} is not a superuser, and this restore takes more than it may:"
            f" {'; '.join(problem for problem, _ in takes)}",
            remedy=f"as a superuser: {'; '.join(sql for _, sql in takes)}; or make POSTGRES_USER a superuser's name",
        )


def acting_roles(
    facts: DumpFacts, properties: DatabaseProperties | None, server: Server, request: Request
) -> set[str]:
    """The roles whose objects a restore makes or replaces; of missing ones those that get a stand-in."""
    live = server.databases.get(request.target)
    owners = {properties.owner if properties else "", live.owner if live else ""} & server.roles
    return owners | (facts.requirements.acting if request.no_owner else facts.requirements.acting & server.roles)


def _check_replaceable(live: ServerDatabase, *, in_place: bool) -> None:
    """What a rename would stumble over, hours later, or a drop."""
    if in_place and live.holders:
        raise HubbackupError(
            f"--in-place can't drop the database {live.name}: it is held by {', '.join(live.holders)}",
            remedy="restore beside the live database, without --in-place; or remove what holds it",
        )
    if live.prepared:
        raise HubbackupError(
            f"the database {live.name} is held by prepared transactions: {', '.join(live.prepared)}",
            remedy="COMMIT PREPARED or ROLLBACK PREPARED them, in that database",
        )
    if live.is_template:
        raise HubbackupError(
            f"the database {live.name} is a template",
            remedy=f"ALTER DATABASE {quoted(live.name)} IS_TEMPLATE false",
        )


def _check_room(
    runner: Runner, connection: Connection, server: Server, request: Request, source: Source, facts: DumpFacts
) -> None:
    live = server.databases.get(request.target)
    known = int(source.manifest.properties.get("size_bytes", 0)) if source.manifest else 0
    wanted = round(ROOM_FACTOR * (known or max(facts.plain_bytes, live.size_bytes if live else 0)))
    if request.tables:
        wanted = round(ROOM_FACTOR * INDEX_FACTOR * sum(block.row_bytes for block in facts.blocks))
    free = free_on_server(runner, connection, server)
    if free is None:
        return
    # What a killed restore of this database left is removed before the new one is made.
    leftovers = [found for found in server.of_kind("restore") if derived_time(found.name, request.target, "restore")]
    free += sum(found.size_bytes for found in leftovers)
    if free < wanted:
        raise HubbackupError(
            f"the server's data directory has {free:,} bytes free, the restore beside the live database"
            f" needs some {wanted:,}",
            remedy="make room, drop a kept database (hubbackup status names them), use --in-place, or --force",
        )


def free_on_server(runner: Runner, connection: Connection, server: Server) -> int | None:
    """What is free on the server's data directory; None where it can't be known from here."""
    return free_bytes(runner, server) if _sees_the_server(runner, connection) else None


def _sees_the_server(runner: Runner, connection: Connection) -> bool:
    """Whether a path on the runner's side is the same on the server's."""
    return (
        runner.name == "docker"
        or connection.host in ("", "localhost", "127.0.0.1", "::1")
        or (connection.host.startswith("/"))
    )


def globals_of(source: Source) -> str:
    """The roles that the backup holds, as SQL; empty where it holds none."""
    return source.manifest.globals_sql if source.manifest is not None else ""


def roles_of(source: Source, server: Server, needed: Set[str]) -> str:
    """The same, by the names that its own database has for them.

    A name is bytes in the encoding of the session that wrote it. pg_dumpall has read them out of `postgres`, mostly
    in UTF-8, or, where it could not, out of the database itself. Which one, `needed` tells by a name that is not
    ASCII; where there is none, they are made so that this server's own `postgres` reads them as they stand there.
    """
    text = globals_of(source)
    encoding = str(source.manifest.properties.get("encoding", "UTF8")) if source.manifest is not None else "UTF8"
    if text.isascii() or encoding in ("UTF8", "SQL_ASCII"):
        return text
    odd = {name for name in needed if not name.isascii()}
    as_they_stand = not odd.isdisjoint(found.role for found in parsed(text).statements)
    return text if as_they_stand or (not odd and server.home_encoding != "UTF8") else readable(text, encoding)
