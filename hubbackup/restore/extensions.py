"""What some extensions want done before and after their part of a dump is loaded; and what is known beforehand.

A restore fills a database under another name than it will have. pg_cron can't be made there: it is bound to one name,
and to one that its own tests use. So the new, empty database has that one for a moment, and the dump's own
`CREATE EXTENSION IF NOT EXISTS` finds it made. The live database is not touched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from hubbackup.dump.census import DumpFacts
from hubbackup.dump.identifiers import literal, quoted
from hubbackup.errors import HubbackupError, UnrestorableError
from hubbackup.postgres.client import DatabaseProperties
from hubbackup.postgres.databases import Databases
from hubbackup.postgres.extensions import (
    BOUND,
    BRACKETED,
    PRELOADED,
    SAME_VERSION,
    TEMPLATE_SCHEMAS,
    Bound,
    Extension,
)
from hubbackup.postgres.server import Server

IS_BACK = "EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = {worker})"
COMES_BACK = f"""
BEGIN
    FOR i IN 1..40 LOOP
        EXIT WHEN {IS_BACK};
        PERFORM pg_sleep(0.1);
        PERFORM pg_stat_clear_snapshot();
    END LOOP;
END
"""
"""Those that come back do so after a second. pg_cron before 1.6 does not."""


def check(server: Server, facts: DumpFacts, properties: DatabaseProperties | None, target: str) -> list[str]:
    """Remarks for the operator. Raises HubbackupError where an extension of the dump can't be made on this server."""
    wanted = set(facts.extensions)
    absent = sorted(wanted - server.extensions.keys())
    if absent:
        raise UnrestorableError(
            f"the server lacks the extensions {', '.join(absent)}",
            remedy="use an image that has them, or install them; CREATE EXTENSION is not needed",
        )
    if server.preloaded is not None and (unloaded := sorted(wanted & PRELOADED - server.preloaded)):
        raise HubbackupError(
            f"the server has not loaded {', '.join(unloaded)}, without which the extensions can't be made",
            remedy=f"set shared_preload_libraries = '{', '.join([*sorted(server.preloaded - {''}), *unloaded])}',"
            " and restart the server",
        )
    notes = []
    for name in sorted(wanted & server.homes.keys()):
        if BOUND[name].stage in server.databases:
            raise HubbackupError(
                f"{name} can only be made in a database named {BOUND[name].stage}, and there is one already",
                remedy=f"if nobody needs it, DROP DATABASE {BOUND[name].stage}; or rename it meanwhile",
            )
        if server.homes[name] != target:
            notes.append(
                f"{name} works in the database {server.homes[name]} only ({BOUND[name].home}): what it holds is"
                f" restored, and does nothing in {target}"
            )
    return notes + _other_versions(server, properties)


def _other_versions(server: Server, properties: DatabaseProperties | None) -> list[str]:
    notes = []
    for found in properties.extensions if properties is not None else ():
        here = server.extensions.get(found.name, found.version)
        if here == found.version:
            continue
        if found.name in SAME_VERSION:
            raise HubbackupError(
                f"the backup's {found.name} is {found.version}, this server makes {here}: its rows fit one version",
                remedy=f"use an image with {found.name} {found.version}, restore, then update the extension",
            )
        notes.append(f"the extension {found.name} was {found.version}, and will be {here} here")
    return notes


def prepare(
    databases: Databases, database: str, facts: DumpFacts, properties: DatabaseProperties | None, server: Server
) -> None:
    """Make in the new, empty `database` what the dump's own statements could not. Raises HubbackupError."""
    if properties is not None and properties.lacks_public:
        databases.sql("DROP SCHEMA public;", database)
    known = {found.name: found for found in properties.extensions} if properties is not None else {}
    for name in facts.extensions:
        extension = known.get(name, Extension(name, ""))
        if name in server.homes:
            with _staged(databases, database, BOUND[name]) as stage:
                schema = extension.schema if extension.schema in TEMPLATE_SCHEMAS else "pg_catalog"
                databases.sql(_creation(extension, schema), stage)
        elif name in BRACKETED and extension.schema in TEMPLATE_SCHEMAS:
            made = f"{quoted(extension.schema)}.{BRACKETED[name].before}"
            databases.sql(f"{_creation(extension, extension.schema)}\nSELECT {made}();", database)


def conclude(
    databases: Databases, database: str, facts: DumpFacts, properties: DatabaseProperties | None
) -> list[str]:
    """Tell the extensions that all is loaded; a sentence for each one that refused."""
    known = {found.name: found for found in properties.extensions} if properties is not None else {}
    remarks = []
    for name in facts.extensions:
        schema = known.get(name, Extension(name, "")).schema
        if name in BRACKETED and schema in TEMPLATE_SCHEMAS:
            call = f"SELECT {quoted(schema)}.{BRACKETED[name].after}();"
            try:
                databases.sql(call, database)
            except HubbackupError as error:
                remarks.append(f"{name} has not been told that the restore is over, run {call} by hand: {error}")
    return remarks


def after_swap(databases: Databases, server: Server, target: str) -> list[str]:
    """A sentence for each extension whose worker was ended with the sessions in `target`, and does not come back."""
    remarks = []
    for name in sorted(name for name, home in server.homes.items() if home == target):
        worker = literal(BOUND[name].worker)
        try:
            answer = databases.sql(
                f"DO {literal(COMES_BACK.format(worker=worker))};\nSELECT {IS_BACK.format(worker=worker)};"
            )
        except HubbackupError:
            continue  # it is not worth a restore
        if answer.strip() == "f":
            remarks.append(f"{name} has stopped with the old database: restart the server, and its jobs run again")
    return remarks


@contextlib.contextmanager
def _staged(databases: Databases, database: str, bound: Bound) -> Iterator[str]:
    """`database`, for a moment under the name that the extension's own tests have."""
    rename = "ALTER DATABASE {} RENAME TO {};"
    databases.sql(rename.format(quoted(database), quoted(bound.stage)))
    try:
        yield bound.stage
    finally:
        databases.sql(rename.format(quoted(bound.stage), quoted(database)))


def _creation(extension: Extension, schema: str) -> str:
    return f"CREATE EXTENSION IF NOT EXISTS {quoted(extension.name)} WITH SCHEMA {quoted(schema)};"
