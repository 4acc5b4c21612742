"""What a database is like, whether pg_dump fits its server, and which of its sessions are our own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hubbackup.dump.identifiers import decoded, literal, raw_json
from hubbackup.dump.versions import major_of
from hubbackup.errors import HubbackupError, NotProvenError, ToolError
from hubbackup.postgres import session
from hubbackup.postgres.extensions import Extension
from hubbackup.postgres.messages import LOCKED, meaning_of
from hubbackup.postgres.session import Connection
from hubbackup.postgres.side_databases import OURS
from hubbackup.runners import Runner


@dataclass(frozen=True)
class DatabaseProperties:
    """What a plain dump lacks, and what tells one database from another.

    `catalog_row` is the database's row of pg_database as JSON (names differ between majors), `settings` the
    `ALTER DATABASE/ROLE … SET` entries as (role or empty, "name=value"), `grants` (role or empty for PUBLIC,
    privilege, with grant option), None where they are PostgreSQL's defaults, which an empty list is not.
    `siblings` are the databases of the server that a restore put aside or left half-filled. `lacks_public`: the
    schema that every new database has was dropped.
    """

    database: str
    server_version: str
    server_version_num: int
    system_identifier: str
    owner: str
    encoding: str
    size_bytes: int
    catalog_row: dict[str, Any]
    settings: tuple[tuple[str, str], ...]
    grants: tuple[tuple[str, str, bool], ...] | None = None
    comment: str = ""
    siblings: tuple[str, ...] = ()
    has_materialized_views: bool = True
    extensions: tuple[Extension, ...] = ()
    lacks_public: bool = False

    @property
    def server_major(self) -> int:
        """17 for 17.6."""
        return self.server_version_num // 10000


_PROPERTIES = f"""\
jsonb_build_object(
    'database', d.datname,
    'server_version', current_setting('server_version'),
    'server_version_num', current_setting('server_version_num')::int,
    'system_identifier', (SELECT system_identifier::text FROM pg_control_system()),
    'owner', pg_get_userbyid(d.datdba),
    'encoding', pg_encoding_to_char(d.encoding),
    'size_bytes', pg_database_size(d.oid),
    'catalog_row', to_jsonb(d) - 'oid' - 'datdba' - 'datfrozenxid' - 'datminmxid' - 'dattablespace',
    'settings', (SELECT coalesce(jsonb_agg(jsonb_build_array(coalesce(r.rolname, ''), entry)), '[]')
                 FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) entry
                 WHERE s.setdatabase = d.oid),
    'grants', CASE WHEN d.datacl IS NOT NULL THEN (SELECT coalesce(jsonb_agg(
                    jsonb_build_array(coalesce(r.rolname, ''), a.privilege_type, a.is_grantable)), '[]')
                FROM aclexplode(d.datacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee) END,
    'siblings', (SELECT coalesce(jsonb_agg(datname), '[]') FROM pg_database s
                 WHERE s.datname ~ {literal(OURS)}),
    'has_materialized_views', EXISTS (SELECT FROM pg_class WHERE relkind = 'm'),
    'extensions', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', extname, 'version', extversion,
                    'schema', nspname) ORDER BY extname), '[]')
                FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace),
    'lacks_public', NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public'),
    'comment', coalesce(shobj_description(d.oid, 'pg_database'), ''))
"""
PROPERTIES_SQL = f"SELECT {raw_json(_PROPERTIES)} FROM pg_database d WHERE d.datname = current_database();\n"

END_SESSIONS_SQL = """\
SELECT CASE WHEN pg_terminate_backend(pid) THEN application_name || ' ' || pid END FROM pg_stat_activity
WHERE pid <> pg_backend_pid()
  AND EXISTS (SELECT FROM unnest(ARRAY[{names}]) own (name) WHERE left(application_name, length(name)) = name);
"""
"""Ends only what the whole WHERE has let through: a condition that ended sessions could be evaluated first."""

EXCLUSIVE_LOCKS_SQL = """\
SELECT DISTINCT c.oid::regclass FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.mode = 'AccessExclusiveLock' AND l.granted AND c.relkind IN ('r', 'p', 'm', 'f', 'S')
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database());
"""


def describe(runner: Runner, connection: Connection, database: str) -> DatabaseProperties:
    """Ask the server what `database` is like: one connection, one query, nothing counted or locked."""
    raw = bytes.fromhex(session.sql(runner, connection, database, PROPERTIES_SQL))
    facts = json.loads(decoded(raw, json.loads(raw.decode("latin-1"))["encoding"]))
    # By the names of databases one connects, and a client sends them in UTF-8.
    facts |= {name: json.loads(decoded(raw, ""))[name] for name in ("database", "siblings")}
    return properties_from_json(facts)


def properties_from_json(facts: dict[str, Any]) -> DatabaseProperties:
    """The properties out of the server's answer, or out of a manifest."""
    settings = tuple((str(role), str(entry)) for role, entry in facts["settings"])
    grants = facts.get("grants")
    if grants is None and facts["catalog_row"].get("datacl") is not None:
        grants = ()  # a manifest from before `{}` was told from NULL
    return DatabaseProperties(
        database=facts["database"],
        server_version=facts["server_version"],
        server_version_num=facts["server_version_num"],
        system_identifier=facts["system_identifier"],
        owner=facts["owner"],
        encoding=facts["encoding"],
        size_bytes=facts["size_bytes"],
        catalog_row=facts["catalog_row"],
        settings=settings,
        grants=None if grants is None else tuple((str(who), str(what), bool(more)) for who, what, more in grants),
        comment=facts.get("comment", ""),
        siblings=tuple(facts.get("siblings", ())),
        has_materialized_views=facts.get("has_materialized_views", True),
        extensions=tuple(Extension(**found) for found in facts.get("extensions", ())),
        lacks_public=facts.get("lacks_public", False),
    )


def end_sessions(runner: Runner, connection: Connection, database: str, run_ids: Sequence[str]) -> list[str]:
    """End the sessions that these runs have on the server of `database`; returns their names.

    A dropped exec connection does not stop pg_dump, so a run that is stopped ends its own, and a later one those of
    a run that was killed. Caller's duty: they are runs of one's own, and over.
    """
    names = ", ".join(literal(session.application_name(run_id)) for run_id in run_ids if run_id)
    if not names:
        return []
    ended = session.sql(runner, connection, database, END_SESSIONS_SQL.format(names=names))
    return [line for line in ended.split("\n") if line]


def exclusively_locked(runner: Runner, connection: Connection, database: str) -> list[str]:
    """The tables that somebody holds an ACCESS EXCLUSIVE lock on."""
    return session.sql(runner, connection, database, EXCLUSIVE_LOCKS_SQL).split("\n")[:-1]


def check_versions(*, pg_dump_version: str, server_version: str) -> None:
    """Raises NotProvenError where pg_dump's major is below the server's: its dump could miss what it doesn't know."""
    if major_of(pg_dump_version) < major_of(server_version):
        raise NotProvenError(
            f"pg_dump {pg_dump_version} is older than the server {server_version}",
            remedy="use pg_dump of the server's major version or newer",
        )


def explain_lock(error: ToolError, runner: Runner, connection: Connection, database: str) -> ToolError:
    """Name the locked tables where `error` is a lock timeout: pg_dump itself lists all that it wanted to lock.

    One that nothing is known of, in another language, is taken for one where pg_dump was locking and a table is
    locked.
    """
    meaning = meaning_of(error.stderr)
    if meaning is not LOCKED and (meaning is not None or "LOCK TABLE" not in error.stderr):
        return error
    try:
        tables = exclusively_locked(runner, connection, database)
    except HubbackupError:
        return error
    if not tables:
        return error
    text = str(error) if meaning is LOCKED else f"{LOCKED.sentence} ({error})"
    return ToolError(
        f"{text}; locked: {some(tables)}",
        remedy=LOCKED.remedy,
        exit_code_of_tool=error.exit_code_of_tool,
        stderr=error.stderr,
    )


def some(names: Sequence[str], shown: int = 5) -> str:
    """The first names, and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")
