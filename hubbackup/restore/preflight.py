"""What would stop a restore half-way, found before anything is touched."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from hubbackup.errors import HubbackupError, UsageError
from hubbackup.postgres import ddl
from hubbackup.postgres.census import DumpFacts
from hubbackup.postgres.client import DatabaseProperties, major_of
from hubbackup.postgres.databases import Server, ServerDatabase, free_bytes
from hubbackup.postgres.identifiers import quoted
from hubbackup.postgres.session import Connection
from hubbackup.postgres.side_databases import derived_time
from hubbackup.restore import roles
from hubbackup.restore.source import Source
from hubbackup.runners import Runner

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
    if not server.may_create:
        raise HubbackupError(
            f"the role {connection.user} may not create databases", remedy=f'ALTER ROLE "{connection.user}" CREATEDB'
        )
    _check_version(server, request, source, facts)
    _check_extensions(server, facts)
    _check_roles(connection.user, server, request, source, set(facts.roles) | ddl.needed_roles(properties))
    if live is not None:
        _check_replaceable(live)
    if not (request.in_place or request.force):
        _check_room(runner, connection, server, request, source, facts)
    notes = []
    if source.manifest is None:
        notes.append("this file is unproven, it has no manifest: its compression, header and trailer are right")
        codec = source.format.codec
        if not codec.always_has_checksum:
            notes.append(
                f"pg_dump's {codec.word} has no checksum of its own: without the manifest a flipped bit is not seen"
            )
    elif source.manifest.warnings:
        notes.append(f"this backup is suspicious: {'; '.join(source.manifest.warnings)}")
    if live is not None and live.slots:
        notes.append(f"the logical replication slots {', '.join(live.slots)} stay with the old database")
    return notes


def _check_version(server: Server, request: Request, source: Source, facts: DumpFacts) -> None:
    if major_of(facts.server_version) > server.major and not request.force:
        raise HubbackupError(
            f"{source.name} comes from PostgreSQL {facts.server_version}, this server is {server.version}:"
            " an older server may lack what the dump uses",
            remedy="restore into the same major version or a newer one, or try with --force",
        )


def _check_extensions(server: Server, facts: DumpFacts) -> None:
    absent = sorted(set(facts.extensions) - server.extensions)
    if absent:
        raise HubbackupError(
            f"the server lacks the extensions {', '.join(absent)}",
            remedy="use an image that has them, or install them; CREATE EXTENSION is not needed",
        )


def _check_roles(user: str, server: Server, request: Request, source: Source, needed: Set[str]) -> None:
    if request.with_globals and not globals_of(source):
        raise UsageError(
            f"{source.name} has no globals", remedy="create the roles by hand, or restore without --globals"
        )
    missing = needed - server.roles
    in_globals = missing & set(roles.for_missing_roles(globals_of(source), server.roles)[1])
    if request.with_globals:
        missing -= in_globals
    if missing and not request.no_owner:
        hint = "--globals creates them from the backup, " if in_globals >= missing else ""
        raise HubbackupError(
            f"these roles do not exist on this server: {', '.join(sorted(missing))}",
            remedy=f"{hint}--no-owner gives what is theirs to {user}, or create them",
        )


def _check_replaceable(live: ServerDatabase) -> None:
    """What a rename would stumble over, hours later."""
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
    free = free_bytes(runner, server) if _sees_the_server(runner, connection) else None
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
