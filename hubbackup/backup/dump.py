"""Make one backup file and pass it through the publish gate, up to the manifest that will make it exist."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Literal

from hubbackup import package_version
from hubbackup.backup.anomalies import Figures, suspicions
from hubbackup.backup.dump_methods import dump_argv, dump_ways, refuses_way
from hubbackup.backup.pipeline import AtRest, Pumped, pump
from hubbackup.catalog.backup import Manifest, printable_rows
from hubbackup.errors import HubbackupError, NoDataConnectionError, StoreError, ToolError
from hubbackup.jobs.run import Run
from hubbackup.postgres import client as postgres
from hubbackup.postgres.client import Connection, DatabaseProperties
from hubbackup.postgres.identifiers import readable
from hubbackup.runners import Runner
from hubbackup.runners import run as run_tool
from hubbackup.stores.local import LocalDraft
from hubbackup.streams.codecs import Compression
from hubbackup.verify.reader import Expected, read_through


@dataclass(frozen=True)
class Origin:
    """The database, as it was found when the run began. `normal`: the last backup that nothing was wrong with."""

    database: str
    runner: Runner
    connection: Connection
    properties: DatabaseProperties
    normal: Manifest | None
    started_at: datetime


@dataclass(frozen=True)
class Recipe:
    """How the file is made: what it is, how it is read back, which roles go with it, how long a lock may hold."""

    at_rest: AtRest = field(default_factory=AtRest)
    verify: Literal["full", "hash"] = "full"
    with_globals: Literal["true", "false", "with-passwords"] = "true"
    lock_wait_seconds: float = 300.0


def make(run: Run, origin: Origin, recipe: Recipe, draft: LocalDraft) -> tuple[Manifest, list[str]]:
    """Dump into `draft` and pass every check of the gate; returns the manifest to publish, and what is lacking.

    Raises HubbackupError's kinds where it is no good backup.
    """
    run.log.info("backup.started", message="Backup demarre", database=origin.database, name=draft.name)
    clock = time.monotonic()
    with ThreadPoolExecutor(1, thread_name_prefix="globals") as pool:
        globals_read = pool.submit(_read_globals, origin, recipe)  # beside the dump, so that it costs no time
        with run.stage("dump"):
            pumped = _dump(run, origin, recipe, draft)
            draft.sync()
    dump_seconds = time.monotonic() - clock
    with run.stage("verify"):
        postgres.check_versions(
            pg_dump_version=pumped.facts.pg_dump_version, server_version=origin.properties.server_version
        )
        _read_back(run, recipe, draft, pumped)
    verify_seconds = time.monotonic() - clock - dump_seconds
    globals_sql, lacking = globals_read.result()
    for problem in lacking:
        run.log.warning(
            "globals.failed", message=problem, remedy="let POSTGRES_USER read pg_roles, or BACKUP_GLOBALS=false"
        )
    facts = pumped.facts
    rows = printable_rows(facts.rows)
    manifest = Manifest(
        name=draft.name,
        database=origin.database,
        run_id=run.run_id,
        started_at=origin.started_at,
        finished_at=datetime.now(UTC),
        dump_seconds=round(dump_seconds, 3),
        verify_seconds=round(verify_seconds, 3),
        plain_bytes=facts.plain_bytes,
        stored_bytes=pumped.stored_bytes,
        sha256=pumped.sha256,
        compression=f"{recipe.at_rest.compression}:{recipe.at_rest.level}",
        verified=recipe.verify,
        server_version=origin.properties.server_version,
        pg_dump_version=facts.pg_dump_version,
        system_identifier=origin.properties.system_identifier,
        rows=rows,
        table_count=facts.table_count,
        large_objects=facts.large_objects,
        extensions=facts.extensions,
        roles=tuple(readable(role, origin.properties.encoding) for role in facts.roles),
        properties=asdict(origin.properties),
        globals_sql=globals_sql,
        hubbackup_version=package_version(),
        warnings=_suspicions(run, origin, pumped, rows, draft.name),
    )
    return manifest, lacking


def _dump(run: Run, origin: Origin, recipe: Recipe, draft: LocalDraft) -> Pumped:
    """pg_dump into `draft`, in the best way that this pg_dump has. Raises HubbackupError's kinds."""
    runner, connection, database = origin.runner, origin.connection, origin.database
    total_bytes = origin.normal.plain_bytes if origin.normal else 0
    at_rest = recipe.at_rest
    ways = dump_ways(at_rest.level if at_rest.compression is Compression.ZSTD else 1)
    while ways:
        way = ways.pop(0)
        argv = dump_argv(way, lock_wait_seconds=recipe.lock_wait_seconds)
        try:
            with (
                runner.start(argv, connection.env(database), bulk=way.bulk) as process,
                run.progress("dump", total_bytes) as progress,
            ):
                return pump(process, draft, at_rest, keep=way.kept, cancel=run.cancel, progress=progress)
        except NoDataConnectionError as error:
            run.log.info("dump.relayed", message=f"Sauvegarde par le moteur Docker, plus lente: {error}")
            ways = [other for other in ways if not other.bulk]
        except ToolError as error:
            untouched = draft.size_bytes == 0  # where bytes came already, that was no refusal
            if untouched and refuses_way(error) and ways:
                ways = [other for other in ways if other.method != way.method]
                continue
            explained = postgres.explain(error, connection, database)
            raise postgres.explain_lock(explained, runner, connection, database) from error
        except HubbackupError:
            # pg_dump may still run: a dropped connection does not stop it, the end of its backend does.
            with contextlib.suppress(HubbackupError):
                postgres.end_backends(runner.detached(), connection, database)
            raise
    raise StoreError("unreachable: the last way always returns or raises")


def _read_globals(origin: Origin, recipe: Recipe) -> tuple[str, list[str]]:
    """The server's roles and memberships; where they can't be read the backup is good without, and says so."""
    if recipe.with_globals == "false":
        return "", []
    argv = postgres.globals_argv(passwords=recipe.with_globals == "with-passwords")
    try:
        return run_tool(origin.runner, argv, origin.connection.env(origin.database)).decode(), []
    except (HubbackupError, UnicodeDecodeError) as error:
        return "", [f"no roles in the backup: {error}"]


def _read_back(run: Run, recipe: Recipe, draft: LocalDraft, pumped: Pumped) -> None:
    plain_bytes = pumped.facts.plain_bytes if recipe.verify == "full" else None
    expected = Expected(pumped.stored_bytes, pumped.sha256, plain_bytes)
    with draft.path.open("rb", buffering=0) as stream, run.progress("verify", pumped.stored_bytes) as progress:
        read_through(stream, expected, name=draft.name, cancel=run.cancel, progress=progress)


def _suspicions(run: Run, origin: Origin, pumped: Pumped, rows: dict[str, int], name: str) -> tuple[str, ...]:
    """Why this backup may not be what it should be, measured by the last normal one; told in the log."""
    normal = origin.normal
    if normal is None:
        return ()
    facts = pumped.facts
    figures = Figures(facts.plain_bytes, facts.table_count, rows, origin.properties.system_identifier)
    found = suspicions(figures, Figures.of(normal), normal.name)
    if found:
        run.log.warning(
            "backup.suspicious",
            message=f"Backup suspect, rotation suspendue: {'; '.join(found)}",
            name=name,
            warnings=found,
            remedy=f"look into the database; if this is right: hubbackup accept {name}",
        )
    return tuple(found)
