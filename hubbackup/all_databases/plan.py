"""What a restore of every database will do, decided before anything is touched: from the listings, the manifests and
the server as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import quote

from hubbackup.catalog.backup import Manifest
from hubbackup.catalog.restored import Restored
from hubbackup.dump.versions import major_of
from hubbackup.errors import HubbackupError, UsageError
from hubbackup.jobs.results import DatabaseEnding
from hubbackup.postgres import ddl
from hubbackup.postgres.client import properties_from_json, some
from hubbackup.postgres.server import Server
from hubbackup.postgres.side_databases import check_target, derived_kind
from hubbackup.restore import roles
from hubbackup.restore.preflight import ROOM_FACTOR, Request
from hubbackup.verify.choice import Choice

BESIDE = ("postgres", "template0", "template1")
"""What every server begins with."""
BY_NAME = "hubbackup list shows its backups; to restore one all the same: hubbackup restore NAME --database"


@dataclass(frozen=True)
class Planned:
    """One database, and what will become of it: it is restored, unless `why_not` or `present_from` say otherwise."""

    choice: Choice
    manifest: Manifest | None = None
    """Of the backup that is chosen, what was sealed in it to be read."""
    needed_roles: frozenset[str] = frozenset()
    """Those that its objects belong to, or that have a right on them."""
    why_not: str = ""
    """Why it is left out."""
    remedy: str = ""
    present_from: str = ""
    """The backup from which a restore of ours made the database that is there: it stays as it is."""
    exists: bool = False

    @property
    def database(self) -> str:
        """Its name."""
        return self.choice.database

    @property
    def is_restored(self) -> bool:
        """Whether it is to be restored."""
        return not self.why_not and not self.present_from

    @property
    def name(self) -> str:
        """The backup's; empty where there is none."""
        return str(self.choice.backup.name) if self.choice.backup is not None else ""

    @property
    def size_bytes(self) -> int:
        """Of the database, as it was at the backup."""
        return int(self.manifest.properties.get("size_bytes", 0)) if self.manifest is not None else 0

    @property
    def globals_sql(self) -> str:
        """The roles that came with the backup."""
        return self.manifest.globals_sql if self.manifest is not None else ""

    def with_manifest(self, manifest: Manifest) -> Planned:
        """The same, to be restored as this manifest has it."""
        try:
            properties = properties_from_json(manifest.properties)
        except (KeyError, TypeError, ValueError) as error:
            why = f"the manifest of {manifest.name} does not tell what its database was like: {error!r}"
            return replace(self, why_not=why, remedy="restore an older one, by its name")
        needed = frozenset(manifest.roles) | ddl.needed_roles(properties)
        if properties.encoding not in ("UTF8", "SQL_ASCII"):
            # Another name to every encoding: its own restore looks for them, in its own.
            needed = frozenset(name for name in needed if name.isascii())
        return replace(self, manifest=manifest, needed_roles=needed)

    def ending(self) -> DatabaseEnding:
        """What becomes of one that is not restored."""
        if self.present_from:
            return DatabaseEnding(self.database, "present", name=self.present_from)
        return DatabaseEnding(self.database, "left out", name=self.name, cause=self.why_not, remedy=self.remedy)


@dataclass(frozen=True)
class ServerPlan:
    """All of it. `databases` come in the order of the restore, the newest backup first: its roles are the latest."""

    server: Server
    databases: tuple[Planned, ...]
    roles: roles.RolePlan = roles.NOTHING
    """What `--globals` makes."""
    notes: tuple[str, ...] = ()
    not_listed: tuple[str, ...] = ()
    """The stores that could not be listed: what they alone have is not here."""

    @property
    def restored(self) -> list[Planned]:
        """Those that are to be restored."""
        return [one for one in self.databases if one.is_restored]

    @property
    def others(self) -> list[Planned]:
        """Those that are not."""
        return [one for one in self.databases if not one.is_restored]


def made_plan(
    choices: Sequence[Planned],
    server: Server,
    request: Request,
    occupied: Mapping[str, str],
    restored: Restored,
    user: str,
) -> ServerPlan:
    """What to do with each. `occupied` says what is in those databases of the server that are not empty.

    Raises UsageError for what was asked wrongly, HubbackupError for what must be mended or decided; then nothing is
    done.
    """
    ordered = sorted(choices, key=lambda one: (-_moment(one), one.database))
    present = [_found(one, server, restored) for one in ordered]
    _check_empty(present, occupied)
    judged = [_judged(one, server, request) for one in present]
    wanted = [one for one in judged if one.is_restored]
    made = roles.NOTHING
    if wanted:
        made, judged = _with_roles(judged, server, request, user)
    notes = [*(made.remarks if request.with_globals else ()), *_notes(judged, server)]
    return ServerPlan(server, tuple(judged), made, tuple(dict.fromkeys(notes)))


def check_room(plan: ServerPlan, free_bytes: int | None, *, force: bool) -> None:
    """Raises HubbackupError where the server has no room for all of them."""
    wanted = round(ROOM_FACTOR * sum(one.size_bytes for one in plan.restored))
    if free_bytes is not None and free_bytes < wanted and not force:
        raise HubbackupError(
            f"the server's data directory has {free_bytes:,} bytes free, these {len(plan.restored)} databases need"
            f" some {wanted:,}",
            remedy="make room, restore some of them (hubbackup restore --latest --database D), or --force",
        )


def _moment(one: Planned) -> float:
    return one.choice.backup.started_at.timestamp() if one.choice.backup is not None else 0.0


def _found(one: Planned, server: Server, restored: Restored) -> Planned:
    """With what is known of the database of that name that is there; one of ours may be empty, as its backup is."""
    live = server.databases.get(one.database)
    if live is None:
        return one
    return replace(one, exists=True, present_from=restored.whence(one.database, server.place_of(live.oid)))


def _check_empty(found: Sequence[Planned], occupied: Mapping[str, str]) -> None:
    """Raises UsageError where there is something that a restore of ours has not made."""
    taken = [one.database for one in found if one.database in occupied and not one.present_from]
    if taken:
        content = "; ".join(f"{name} {occupied[name]}" for name in taken)
        raise UsageError(
            f"--all is for an empty server, and on this one {content}",
            remedy="to replace one, and keep what is there beside it: hubbackup restore --latest --database"
            f" {quote(taken[0])}; then --all goes on with the others. Or drop it, if it is of no use",
        )


def _judged(one: Planned, server: Server, request: Request) -> Planned:
    """Left out where it is known already that it can't be restored here."""
    if not one.is_restored:
        return one
    try:
        check_target(one.database)
    except UsageError as error:
        return replace(one, why_not=str(error), remedy=error.remedy)
    manifest = one.manifest
    if manifest is None:
        return replace(
            one,
            why_not=f"there is no good backup of it: {one.choice.why_none}",
            remedy=f"{BY_NAME} {quote(one.database)}",
        )
    if major_of(manifest.server_version) > server.major and not request.force:
        return replace(
            one,
            why_not=f"{one.name} comes from PostgreSQL {manifest.server_version}, this server is {server.version}",
            remedy="restore into the same major version or a newer one, or try with --force",
        )
    if lacks := sorted(set(manifest.extensions) - server.extensions.keys()):
        return replace(
            one,
            why_not=f"the server lacks the extensions {some(lacks)}",
            remedy="use an image that has them",
        )
    return one


def _with_roles(
    judged: Sequence[Planned], server: Server, request: Request, user: str
) -> tuple[roles.RolePlan, list[Planned]]:
    """The roles that the first backup that has any brings; left out are those that would lack a role all the same.

    Raises HubbackupError where roles are missing and nobody has said what to do, UsageError where there are none to
    make.
    """
    wanted = [one for one in judged if one.is_restored]
    source = next((one for one in wanted if one.globals_sql), None)
    if request.with_globals and source is None:
        raise UsageError(
            "none of these backups has globals", remedy="create the roles by hand, or restore without --globals"
        )
    every: set[str] = set().union(*(one.needed_roles for one in wanted))
    plan = roles.plan_roles(source.globals_sql, server, every) if source is not None else roles.NOTHING
    missing = {one.database: one.needed_roles - server.roles for one in wanted}
    lacking: set[str] = set().union(*missing.values())
    if lacking and not request.with_globals and not request.no_owner:
        made = set(plan.made).union(*(_made(one, server) for one in wanted))
        hint = "--globals creates them from the backups, " if made >= lacking else ""
        raise HubbackupError(
            f"these roles do not exist on this server: {', '.join(sorted(lacking))}",
            remedy=f"{hint}--no-owner gives what is theirs to {user}, or create them",
        )
    if request.no_owner:
        return plan if request.with_globals else roles.NOTHING, list(judged)
    done = []
    for one in judged:
        absent: frozenset[str] = missing.get(one.database, frozenset()) - set(plan.made)
        absent -= _made(one, server) if absent else set()
        if absent:
            why = f"these roles do not exist on this server, nor in its backup: {', '.join(sorted(absent))}"
            done.append(
                replace(one, why_not=why, remedy=f"create them; or --no-owner gives what is theirs to {user}")
            )
        else:
            done.append(one)
    return plan, done


def _made(one: Planned, server: Server) -> set[str]:
    """The roles that its own backup can make."""
    return set(roles.plan_roles(one.globals_sql, server, one.needed_roles).made) if one.globals_sql else set()


def _notes(judged: Sequence[Planned], server: Server) -> Iterator[str]:
    newest = max((_moment(one) for one in judged if one.is_restored), default=0.0)
    for one in judged:
        if one.is_restored and newest - _moment(one) > 2 * 86400:
            days = round((newest - _moment(one)) / 86400)
            yield f"the newest good backup of {one.database} is {days} days older than the newest of the others"
        if one.present_from and one.name and one.present_from != one.name:
            yield (
                f"{one.database} is there from {one.present_from}, and its newest good backup is {one.name}:"
                f" to take that, hubbackup restore --latest --database {quote(one.database)}"
            )
    known = {one.database for one in judged}
    staying = [name for name in sorted(server.databases) if name not in known | {*BESIDE} and not derived_kind(name)]
    if staying:
        yield f"no backup of it is here, and it stays as it is: {some(staying)}"
