"""What would stop a restore half-way, found before anything is touched."""

from __future__ import annotations

from dataclasses import dataclass

from hubbackup import roles
from hubbackup.census import DumpFacts
from hubbackup.databases import Server, free_bytes
from hubbackup.errors import HubbackupError, UsageError
from hubbackup.postgres import major_of
from hubbackup.runners import Runner
from hubbackup.sources import Source

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
    runner: Runner, user: str, server: Server, request: Request, source: Source, facts: DumpFacts
) -> list[str]:
    """Check everything that can be known; returns remarks for the operator.

    Raises UsageError for what the operator can decide otherwise, HubbackupError for what must be mended.
    """
    if not request.replace and request.target in server.databases:
        raise UsageError(f"the database {request.target} exists already", remedy="give --into a name that is free")
    if not server.may_create:
        raise HubbackupError(f"the role {user} may not create databases", remedy=f'ALTER ROLE "{user}" CREATEDB')
    _check_version(server, request, source, facts)
    _check_extensions(server, facts)
    _check_roles(user, server, request, source, facts)
    if not (request.in_place or request.force):
        _check_room(runner, server, request, source, facts)
    if source.manifest is None:
        return ["this file is unproven, it has no manifest: its gzip, header and trailer are right"]
    return []


def _check_version(server: Server, request: Request, source: Source, facts: DumpFacts) -> None:
    if major_of(facts.server_version) > server.major and not request.force:
        raise UsageError(
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


def _check_roles(user: str, server: Server, request: Request, source: Source, facts: DumpFacts) -> None:
    if request.with_globals and not globals_of(source):
        raise UsageError(
            f"{source.name} has no globals", remedy="create the roles by hand, or restore without --globals"
        )
    missing = set(facts.roles) - server.roles
    in_globals = missing & set(roles.for_missing_roles(globals_of(source), server.roles)[1])
    if request.with_globals:
        missing -= in_globals
    if missing and not request.no_owner:
        hint = "--globals creates them from the backup, " if in_globals >= missing else ""
        raise UsageError(
            f"these roles do not exist on this server: {', '.join(sorted(missing))}",
            remedy=f"{hint}--no-owner gives what is theirs to {user}, or create them",
        )


def _check_room(runner: Runner, server: Server, request: Request, source: Source, facts: DumpFacts) -> None:
    live = server.databases.get(request.target)
    known = int(source.manifest.properties.get("size_bytes", 0)) if source.manifest else 0
    wanted = round(ROOM_FACTOR * (known or max(facts.plain_bytes, live.size_bytes if live else 0)))
    free = free_bytes(runner, server)
    if free is not None and free < wanted:
        raise HubbackupError(
            f"the server's data directory has {free:,} bytes free, the restore beside the live database"
            f" needs some {wanted:,}",
            remedy="make room, drop a kept database (hubbackup status names them), or use --in-place",
        )


def globals_of(source: Source) -> str:
    """The roles that the backup holds, as SQL; empty where it holds none."""
    return source.manifest.globals_sql if source.manifest is not None else ""
