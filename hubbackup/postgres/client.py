"""What is PostgreSQL's own: command lines of pg_dump and psql, what a database is like, what its errors mean.

Connection parameters travel in the environment, never in argv: argv is visible in process lists and in Docker
events, and `PGDATABASE` is taken as a name, where `--dbname` would be parsed as a connection string
(https://www.postgresql.org/docs/current/libpq-envars.html).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from hubbackup.errors import HubbackupError, NotProvenError, ToolError
from hubbackup.runners import Runner, run

APPLICATION_PREFIX = "hubbackup-"
CONNECT_SECONDS = 10


@dataclass(frozen=True)
class Connection:
    """How to reach the server. `password` is never shown."""

    user: str
    password: str = field(default="", repr=False)
    host: str = ""
    port: int | None = None
    ssl_mode: str = ""
    run_id: str = ""

    def env(self, database: str) -> dict[str, str]:
        """libpq's variables for a connection to `database`; messages in English, since we read them."""
        values = {
            "PGDATABASE": database,
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGHOST": self.host,
            "PGPORT": str(self.port or ""),
            "PGSSLMODE": self.ssl_mode,
            "PGAPPNAME": f"{APPLICATION_PREFIX}{self.run_id}",
            "PGCONNECT_TIMEOUT": str(CONNECT_SECONDS),
            "LC_ALL": "C",
        }
        return {name: value for name, value in values.items() if value}


@dataclass(frozen=True)
class DatabaseProperties:
    """What a plain dump lacks, and what tells one database from another.

    `catalog_row` is the database's row of pg_database as JSON (names differ between majors), `settings` the
    `ALTER DATABASE/ROLE … SET` entries as (role or empty, "name=value"), `grants` (role or empty for PUBLIC,
    privilege, with grant option), None where they are PostgreSQL's defaults.
    `siblings` are the databases of the server that a restore put aside or left half-filled.
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

    @property
    def server_major(self) -> int:
        """17 for 17.6."""
        return self.server_version_num // 10000


PROPERTIES_SQL = """\
SELECT jsonb_build_object(
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
    'grants', (SELECT jsonb_agg(jsonb_build_array(coalesce(r.rolname, ''), a.privilege_type, a.is_grantable))
               FROM aclexplode(d.datacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee),
    'siblings', (SELECT coalesce(jsonb_agg(datname), '[]') FROM pg_database s
                 WHERE s.datname ~ '_(before|restore)_[0-9]{8}_[0-9]{6}$'),
    'comment', coalesce(shobj_description(d.oid, 'pg_database'), ''))
FROM pg_database d WHERE d.datname = current_database();
"""

END_BACKENDS_SQL = """\
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name LIKE 'hubbackup-%' AND datname = current_database() AND pid <> pg_backend_pid();
"""

EXCLUSIVE_LOCKS_SQL = """\
SELECT DISTINCT c.oid::regclass FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.mode = 'AccessExclusiveLock' AND l.granted AND c.relkind IN ('r', 'p', 'm', 'f', 'S')
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database());
"""


def psql_argv() -> list[str]:
    """psql reading SQL from stdin, printing bare values, ending at the first error with another code than 0."""
    return ["psql", "--no-psqlrc", "--no-password", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]


def globals_argv(*, passwords: bool) -> list[str]:
    """pg_dumpall for what belongs to the server and not to a database: roles, memberships, tablespaces."""
    argv = ["pg_dumpall", "--globals-only", "--no-password"]
    return argv if passwords else [*argv, "--no-role-passwords"]


def query(runner: Runner, connection: Connection, database: str, sql: str) -> str:
    """What psql prints for `sql`, unaligned and without headers. Raises HubbackupError, explained."""
    env = {**connection.env(database), "PGCLIENTENCODING": "UTF8"}
    try:
        return run(runner, psql_argv(), env, input_bytes=sql.encode()).decode()
    except ToolError as error:
        raise explain(error, connection, database) from error


def describe(runner: Runner, connection: Connection, database: str) -> DatabaseProperties:
    """Ask the server what `database` is like: one connection, one query, nothing counted or locked."""
    facts = json.loads(query(runner, connection, database, PROPERTIES_SQL))
    return properties_from_json(facts)


def properties_from_json(facts: dict[str, Any]) -> DatabaseProperties:
    """The properties out of the server's answer, or out of a manifest."""
    settings = tuple((str(role), str(entry)) for role, entry in facts["settings"])
    grants = facts.get("grants")
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
    )


def take_over(runner: Runner, connection: Connection, database: str) -> tuple[int, DatabaseProperties]:
    """End the orphans of a killed run, and describe the database, over one connection; returns (ended, properties).

    Caller's duty: hold the run lock.
    """
    ended, facts = query(runner, connection, database, END_BACKENDS_SQL + PROPERTIES_SQL).split("\n", 1)
    return int(ended), properties_from_json(json.loads(facts))


def end_backends(runner: Runner, connection: Connection, database: str) -> int:
    """End every backend of a hubbackup run in `database`; returns how many.

    A dropped exec connection does not stop pg_dump, so a stop ends its backend, and a start the orphans of a
    process that was killed. Caller's duty: hold the run lock, so that none of them is at work.
    """
    return int(query(runner, connection, database, END_BACKENDS_SQL))


def exclusively_locked(runner: Runner, connection: Connection, database: str) -> list[str]:
    """The tables that somebody holds an ACCESS EXCLUSIVE lock on."""
    return query(runner, connection, database, EXCLUSIVE_LOCKS_SQL).split("\n")[:-1]


def check_versions(*, pg_dump_version: str, server_version: str) -> None:
    """Raises NotProvenError where pg_dump's major is below the server's: its dump could miss what it doesn't know."""
    if major_of(pg_dump_version) < major_of(server_version):
        raise NotProvenError(
            f"pg_dump {pg_dump_version} is older than the server {server_version}",
            remedy="use pg_dump of the server's major version or newer",
        )


def major_of(version: str) -> int:
    """17 for `17.6 (Debian 17.6-1)` and for `17devel`."""
    found = re.match(r"\d+", version)
    return int(found.group()) if found else 0


@dataclass(frozen=True)
class _Meaning:
    """A pattern in a tool's stderr, the sentence it stands for, and the remedy; both may use the groups."""

    pattern: re.Pattern[str]
    sentence: str
    remedy: str


def _meaning(pattern: str, sentence: str, remedy: str) -> _Meaning:
    return _Meaning(re.compile(pattern), sentence, remedy)


MEANINGS = (
    _meaning(
        r"password authentication failed|no password supplied",
        "the server refuses the password of the role {user}",
        "check POSTGRES_USER and POSTGRES_PASSWORD",
    ),
    _meaning(
        r'role "(?P<name>.*)" does not exist', "the role {name} does not exist on the server", "check POSTGRES_USER"
    ),
    _meaning(
        r'database "(?P<name>(?:.|\n)*)" does not exist',
        "the database {name} does not exist on the server",
        "check POSTGRES_DB; `psql -l` lists the databases",
    ),
    _meaning(
        r"permission denied for (?P<name>\S+ \S+)",
        "the role {user} may not read {name}",
        "as a superuser: GRANT pg_read_all_data TO the role, or use the tables' owner",
    ),
    _meaning(
        r"canceling statement due to lock timeout",
        "a table stayed locked for longer than pg_dump waits",
        "end what holds the lock (pg_stat_activity, pg_locks), or move BACKUP_SCHEDULE",
    ),
    _meaning(
        r"server version: (?P<server>\S+).*; pg_dump version: (?P<tool>\S+)",
        "pg_dump {tool} is older than the server {server}",
        "use pg_dump of the server's major version or newer",
    ),
    _meaning(
        r"terminating connection due to|server closed the connection|connection to server was lost",
        "the server ended the connection in the middle of the work",
        "look into the database's log for the reason; the next run starts afresh",
    ),
    _meaning(
        r"Connection refused|No such file or directory\s+Is the server running|could not translate host name"
        r"|timeout expired|the database system is (?:starting up|shutting down|in recovery)",
        "the server does not accept connections",
        "check that the database is up (docker compose ps), and PGHOST and PGPORT with BACKUP_SOURCE=direct",
    ),
    _meaning(
        r"executable file not found|no such file or directory: unknown|exec: \S+: not found|failed to run command",
        "the database's container has no {tool_name}",
        "use an image with PostgreSQL's client tools, or BACKUP_SOURCE=direct",
    ),
)


def explain(error: ToolError, connection: Connection, database: str) -> ToolError:
    """The same error in a sentence that names what is wrong, with the remedy; the tool's own words follow."""
    own_words = _own_words(error.stderr)
    for meaning in MEANINGS:
        found = meaning.pattern.search(error.stderr)
        if found is None:
            continue
        names = {"user": connection.user, "tool_name": str(error).split(" ", 1)[0], **found.groupdict()}
        text = f"database {database}: {meaning.sentence.format(**names)} ({own_words})"
        return ToolError(text, remedy=meaning.remedy, exit_code_of_tool=error.exit_code_of_tool, stderr=error.stderr)
    return ToolError(
        f"database {database}: {error}" if own_words in str(error) else f"database {database}: {error} ({own_words})",
        exit_code_of_tool=error.exit_code_of_tool,
        stderr=error.stderr,
    )


def explain_lock(error: ToolError, runner: Runner, connection: Connection, database: str) -> ToolError:
    """Name the locked tables where `error` is a lock timeout: pg_dump itself lists all that it wanted to lock."""
    if "lock timeout" not in error.stderr:
        return error
    try:
        tables = exclusively_locked(runner, connection, database)
    except HubbackupError:
        return error
    names = f"; locked: {', '.join(tables)}" if tables else ""
    return ToolError(
        f"{error}{names}", remedy=error.remedy, exit_code_of_tool=error.exit_code_of_tool, stderr=error.stderr
    )


def _own_words(stderr: str) -> str:
    """The line in which the tool says what went wrong, rather than the query that follows it."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"error:|ERROR:|FATAL:", line)]
    return (telling or lines or ["no message"])[0]
