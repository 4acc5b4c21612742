"""Make one backup file and pass it through the publish gate, up to the manifest that will make it exist."""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Literal

from hubbackup import package_version
from hubbackup.backup.anomalies import like_with_like, suspicions
from hubbackup.backup.beside import Beside, SharedGlobals, WithGlobals
from hubbackup.backup.dump_methods import dump_methods, dump_options, refuses_method
from hubbackup.backup.leaving_out import NO_PATTERNS, LeavingOut, Patterns, leaving_out
from hubbackup.backup.pipeline import DumpResult, FileOptions, pump
from hubbackup.catalog.backup import Manifest, printable_rows
from hubbackup.catalog.manifests import MANIFEST_MAX_BYTES
from hubbackup.catalog.origin import SigningKey
from hubbackup.dump.identifiers import readable
from hubbackup.dump.schema_text import SchemaText
from hubbackup.errors import HubbackupError, NoDataConnectionError, PassphraseError, ToolError, UsageError
from hubbackup.jobs.run import Run
from hubbackup.postgres import client
from hubbackup.postgres.client import DatabaseProperties
from hubbackup.postgres.messages import explain
from hubbackup.postgres.session import Connection, open_dump
from hubbackup.runners import Runner
from hubbackup.stores.local import LocalDraft
from hubbackup.streams.age import header_of
from hubbackup.streams.age_keys import NO_IDENTITIES, Identities
from hubbackup.verify.index import index_of
from hubbackup.verify.kept import KeptSchema
from hubbackup.verify.reader import Expected, check_file


@dataclass(frozen=True)
class DumpSource:
    """The database, as it was found when the run began. `normal`: the last backup that nothing was wrong with."""

    database: str
    runner: Runner
    connection: Connection
    properties: DatabaseProperties
    normal: Manifest | None
    started_at: datetime
    key: SigningKey | None = None
    """What the manifest is signed with."""
    before: Manifest | None = None
    """The last backup that counts, to say what changed since."""
    begun: frozenset[str] = frozenset()
    """The names that runs of this host had begun before, where no run elsewhere can have one of these at work."""
    shared_globals: SharedGlobals | None = None


@dataclass(frozen=True)
class DumpOptions:
    """How the file is made: what it is, how it is read back, which roles go with it, how long a lock may hold."""

    file: FileOptions = field(default_factory=FileOptions)
    verify: Literal["full", "hash"] = "full"
    with_globals: WithGlobals = "true"
    lock_wait_seconds: float = 300.0
    identities: Identities = NO_IDENTITIES
    """What opens a sealed file again, to read it back."""
    exclude: Patterns = NO_PATTERNS


@dataclass(frozen=True)
class Made:
    """A file that has passed the gate: the manifest to publish, and a sentence for each thing that is lacking."""

    manifest: Manifest
    lacking: tuple[str, ...] = ()
    kept: KeptSchema | None = None
    """Of a sealed one."""
    unmatched: tuple[str, ...] = ()
    """The patterns of tables that match nothing here."""


def make(
    run: Run, source: DumpSource, options: DumpOptions, draft: LocalDraft, schema: SchemaText | None = None
) -> Made:
    """Dump into `draft` and pass every check of the gate; `schema` takes the text of the schema.

    Raises HubbackupError where it is not a good backup.
    """
    run.log.info("backup.started", message="backup started", database=source.database, name=draft.name)
    clock = time.monotonic()
    with run.stage("dump"):
        properties = source.properties
        leaving = leaving_out(
            run, source.runner, source.connection, source.database, properties.encoding, options.exclude
        )
    with (
        Beside(
            source.runner, source.connection, source.properties, options.with_globals, source.shared_globals
        ) as beside,
        run.stage("dump"),
    ):
        result = _dump(run, source, options, draft, beside, schema, leaving)
        draft.sync()
    dump_seconds = time.monotonic() - clock
    with run.stage("verify"):
        client.check_versions(
            pg_dump_version=result.facts.pg_dump_version, server_version=source.properties.server_version
        )
        verified, lacking = _read_back(run, options, draft, result)
    verify_seconds = time.monotonic() - clock - dump_seconds
    globals_sql, problem = beside.globals()
    without = [] if problem is None else [f"no roles in the backup: {problem}"]
    if problem is not None:
        remedy = problem.remedy or "mend what the message names, or BACKUP_GLOBALS=false"
        run.log.warning("globals.failed", message=without[0], remedy=remedy)
    facts = result.facts
    rows = printable_rows(facts.rows)
    manifest = Manifest(
        name=draft.name,
        database=source.database,
        run_id=run.run_id,
        started_at=source.started_at,
        finished_at=datetime.now(UTC),
        dump_seconds=round(dump_seconds, 3),
        verify_seconds=round(verify_seconds, 3),
        plain_bytes=facts.plain_bytes,
        stored_bytes=result.stored_bytes,
        sha256=result.sha256,
        compression=options.file.format.written(options.file.level),
        verified=verified,
        server_version=source.properties.server_version,
        pg_dump_version=facts.pg_dump_version,
        system_identifier=source.properties.system_identifier,
        rows=rows,
        table_count=facts.table_count,
        large_objects=facts.large_objects,
        extensions=facts.extensions,
        roles=tuple(readable(role, source.properties.encoding) for role in facts.roles),
        materialized_views=beside.materialized_views(),
        properties=asdict(source.properties),
        globals_sql=globals_sql,
        schema_digest=facts.schema_digest,
        index=index_of(facts, result.members, _digest_key(source, options)).to_text(),
        left_out=leaving.as_found(run, rows),
        hubbackup_version=package_version(),
    )
    manifest = manifest.model_copy(update={"warnings": _suspicions(run, source, manifest)})
    file = options.file
    published = manifest.sealed(file.recipients) if file.format.sealed else manifest
    if source.key is not None:
        published = published.signed(source.key)
    kept = KeptSchema(manifest, facts, schema) if schema is not None else None
    return Made(published, (*lacking, *without, *_too_large(run, published)), kept, leaving.unmatched)


def _digest_key(source: DumpSource, options: DumpOptions) -> bytes | None:
    """Under which the digests of a sealed backup's rows tell nothing to who can read its manifest."""
    if not options.file.format.sealed:
        return None
    return source.key.for_digests if source.key is not None else secrets.token_bytes(32)


def _too_large(run: Run, manifest: Manifest) -> list[str]:
    """What to say of a manifest that no bucket's listing takes."""
    size = len(manifest.to_json())
    if size <= MANIFEST_MAX_BYTES:
        return []
    problem = (
        f"the manifest has {size:,} bytes, for {manifest.table_count:,} tables: in a bucket more than"
        f" {MANIFEST_MAX_BYTES:,} are not read, so only the copy on the disk counts"
    )
    run.log.warning("manifest.large", message=problem, remedy="put schemas that change seldom into another database")
    return [problem]


def _dump(
    run: Run,
    source: DumpSource,
    options: DumpOptions,
    draft: LocalDraft,
    beside: Beside,
    schema: SchemaText | None,
    leaving: LeavingOut,
) -> DumpResult:
    """pg_dump into `draft`, by the best method that this pg_dump has, and `beside` it. Raises HubbackupError."""
    runner, connection, database = source.runner, source.connection, source.database
    total_bytes = source.normal.plain_bytes if source.normal else 0
    file = options.file
    methods = dump_methods()
    while True:
        method = methods.pop(0)
        pg_options = dump_options(method, lock_wait_seconds=options.lock_wait_seconds) + list(leaving.options)
        try:
            with (
                open_dump(
                    runner,
                    connection,
                    database,
                    pg_options,
                    encoding=source.properties.encoding,
                    bulk=method.bulk,
                ) as process,
                run.progress("dump", total_bytes) as progress,
            ):
                beside.start()
                on_schema = schema.add if schema is not None else None
                return pump(process, draft, file, cancel=run.cancel, progress=progress, on_schema=on_schema)
        except NoDataConnectionError as error:
            run.log.info(
                "dump.relayed", message=f"the dump comes through the Docker engine, which is slower: {error}"
            )
            methods = [other for other in methods if not other.bulk]
        except ToolError as error:
            refused = draft.size_bytes == 0 and refuses_method(error)  # where bytes came already, it was not
            methods = [other for other in methods if other.codec != method.codec] if refused else []
            if not methods:
                explained = explain(error, connection.user, database)
                raise client.explain_lock(explained, runner, connection, database) from error
        except HubbackupError:
            # pg_dump may still run: a dropped connection does not stop it, the end of its backend does.
            try:
                client.end_sessions(runner.detached(), connection, database, [run.run_id])
            except HubbackupError:
                run.dead_runs.note(run.run_id)  # what can't be ended now, the next backup ends
            raise


def _read_back(
    run: Run, options: DumpOptions, draft: LocalDraft, result: DumpResult
) -> tuple[Literal["full", "hash"], list[str]]:
    """Returns how it was read, and what is to be said of that. Raises NotProvenError."""
    expected = Expected(result.stored_bytes, result.sha256, result.facts.plain_bytes)
    decode = options.verify == "full"
    lacking: list[str] = []
    if decode and options.file.format.sealed:
        decode, lacking = _opens(run, options, draft)
    decoder = options.file.format.decoder(options.identities) if decode else None
    with draft.path.open("rb", buffering=0) as stream, run.progress("verify", result.stored_bytes) as progress:
        check_file(stream, expected, decoder, name=draft.name, cancel=run.cancel, progress=progress)
    return "full" if decode else "hash", lacking


def _opens(run: Run, options: DumpOptions, draft: LocalDraft) -> tuple[bool, list[str]]:
    """Whether the sealed file can be opened here. A key that should open it and does not is a problem."""
    identities, problem = options.identities, ""
    why = "there is no private key here (BACKUP_IDENTITY_FILE)"
    if identities.named:
        try:
            with draft.path.open("rb") as stream:
                identities.demand(draft.name, header_of(stream), [one.fingerprint for one in options.file.recipients])
            return True, []
        except PassphraseError as error:
            why = str(error)
        except UsageError as error:
            why = problem = str(error)
    message = f"the sealed file is compared by its sha256 and not decoded: {why}"
    if problem:
        run.log.warning("verify.sealed", message=message, remedy="set BACKUP_IDENTITY_FILE to the key of a recipient")
        return False, [message]
    run.log.info("verify.sealed", message=message)
    return False, []


def _suspicions(run: Run, source: DumpSource, made: Manifest) -> tuple[str, ...]:
    """Why this backup may not be what it should be, measured by the last normal one; reported in the log."""
    normal = source.normal
    if normal is None:
        return ()
    found = suspicions(*like_with_like(made, normal), normal.name)
    if found:
        run.log.warning(
            "backup.suspicious",
            message=f"suspicious backup, nothing is pruned: {'; '.join(found)}",
            name=made.name,
            warnings=found,
            remedy=f"look into the database; if this is right: hubbackup accept {made.name}",
        )
    return tuple(found)
