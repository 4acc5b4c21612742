"""Databases as wholes: what is on a server, making one like another, and the swap that a restore ends with.

Each change that can leave users without their database is one transaction. Names are quoted here, once, and the
SQL goes to psql over stdin: no name is ever part of an argv.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hubbackup.errors import HubbackupError, ToolError
from hubbackup.postgres import Connection, DatabaseProperties, query
from hubbackup.runners import Runner, run
from hubbackup.stream import Cancel

NAME_BYTES = 63
"""NAMEDATALEN - 1: longer names are cut by the server, silently."""
TIME_FORMAT = "%Y%m%d_%H%M%S"
SWAP_ATTEMPTS = 10
COUNT_BATCH = 200


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """An SQL string, whatever `standard_conforming_strings` says."""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f" E'{escaped}'" if "\\" in text else f"'{escaped}'"


def derived_name(database: str, word: str, moment: datetime) -> str:
    """`hub_chantier_before_20260208_030000`, in UTC: the database's name, cut where the whole would be too long."""
    suffix = f"_{word}_{moment.astimezone(UTC).strftime(TIME_FORMAT)}"
    return _cut(database, NAME_BYTES - len(suffix)) + suffix


def _cut(text: str, length_bytes: int) -> str:
    return text.encode()[:length_bytes].decode(errors="ignore")


def derived_time(name: str, database: str, word: str) -> str:
    """The time in a derived name of `database`, as `20260208_030000`, or an empty string where it is none."""
    suffix_bytes = len(f"_{word}_20260208_030000")
    stem = re.escape(_cut(database, NAME_BYTES - suffix_bytes))
    found = re.fullmatch(rf"{stem}_{word}_(\d{{8}}_\d{{6}})", name, re.DOTALL)
    return found.group(1) if found else ""


def expired_names(names: Iterable[str], database: str, keep_days: int, now: datetime) -> list[str]:
    """Which of `names` are databases put aside by a restore of `database` more than `keep_days` ago (0: none)."""
    if not keep_days:
        return []
    limit = (now - timedelta(days=keep_days)).astimezone(UTC).strftime(TIME_FORMAT)
    return [name for name in names if "" < derived_time(name, database, "before") < limit]


@dataclass(frozen=True)
class ServerDatabase:
    """One database of the server: its size on disk, and how many other sessions are in it."""

    name: str
    size_bytes: int
    sessions: int


@dataclass(frozen=True)
class Server:
    """What a restore must know of the server before it touches anything."""

    version: str
    version_num: int
    data_directory: str
    databases: dict[str, ServerDatabase]
    roles: frozenset[str]
    extensions: frozenset[str]
    may_create: bool

    @property
    def major(self) -> int:
        """17 for 17.6."""
        return self.version_num // 10000


SERVER_SQL = """\
SELECT jsonb_build_object(
    'version', current_setting('server_version'),
    'version_num', current_setting('server_version_num')::int,
    'data_directory', (SELECT setting FROM pg_settings WHERE name = 'data_directory'),
    'databases', (SELECT jsonb_agg(jsonb_build_array(datname,
            CASE WHEN has_database_privilege(oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')
                 THEN pg_database_size(oid) ELSE 0 END,
            (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid AND a.pid <> pg_backend_pid())))
        FROM pg_database d WHERE NOT datistemplate),
    'roles', (SELECT jsonb_agg(rolname) FROM pg_roles),
    'extensions', (SELECT jsonb_agg(name) FROM pg_available_extensions),
    'may_create', (SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user));
"""


class Databases:
    """The server's databases, seen from a database that no restore touches."""

    def __init__(self, runner: Runner, connection: Connection, target: str) -> None:
        """`target` is the database to be restored: orders go out from another one."""
        self._runner = runner
        self._connection = connection
        self._home = "template1" if target == "postgres" else "postgres"

    def sql(self, text: str, database: str = "") -> str:
        """What psql prints. Raises HubbackupError's kinds."""
        return query(self._runner, self._connection, database or self._home, text)

    def look(self) -> Server:
        """Ask the server what is there."""
        facts = json.loads(self.sql(SERVER_SQL))
        databases = {name: ServerDatabase(name, size, sessions) for name, size, sessions in facts["databases"]}
        return Server(
            version=facts["version"],
            version_num=facts["version_num"],
            data_directory=facts["data_directory"] or "",
            databases=databases,
            roles=frozenset(facts["roles"]),
            extensions=frozenset(facts["extensions"] or ()),
            may_create=facts["may_create"],
        )

    def create(self, name: str, like: DatabaseProperties | None, server: Server) -> None:
        """A new, empty database with the owner, encoding and locale of `like`."""
        words = [f"CREATE DATABASE {quoted(name)} TEMPLATE template0"]
        if like is not None:
            words += _create_options(like, server)
        self.sql(" ".join(words) + ";")

    def dress(self, name: str, like: DatabaseProperties, server: Server) -> None:
        """Give `name` what a plain dump lacks: settings, grants, connection limit and comment of `like`."""
        database = quoted(name)
        lines = []
        for role, entry in like.settings:
            parameter, _, value = entry.partition("=")
            if role and role not in server.roles:
                continue
            subject = f"ALTER ROLE {quoted(role)} IN DATABASE {database}" if role else f"ALTER DATABASE {database}"
            lines.append(f"{subject} SET {_setting(parameter, value)};")
        if like.grants is not None:
            lines.append(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC;")
            for role, privilege, with_grant in like.grants:
                if role and role not in server.roles:
                    continue
                grantee = quoted(role) if role else "PUBLIC"
                option = " WITH GRANT OPTION" if with_grant and role else ""
                lines.append(f"GRANT {privilege} ON DATABASE {database} TO {grantee}{option};")
        limit = like.catalog_row.get("datconnlimit", -1)
        if isinstance(limit, int) and limit >= 0:
            lines.append(f"ALTER DATABASE {database} CONNECTION LIMIT {limit};")
        if like.comment:
            lines.append(f"COMMENT ON DATABASE {database} IS {literal(like.comment)};")
        if lines:
            self.sql("BEGIN;\n" + "\n".join(lines) + "\nCOMMIT;\n")

    def drop(self, name: str) -> None:
        """Remove a database and end the sessions in it; one that is gone already is no error."""
        self.sql(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE);")

    def swap(self, *, live: str, aside: str, new: str, cancel: Cancel) -> None:
        """`live` becomes `aside` and `new` becomes `live`, in one transaction; without a `live`, only the last.

        The first rename locks the database against new sessions until the transaction ends, so there is no
        moment at which it is closed and not yet replaced, whatever dies meanwhile. A session that came in
        between the terminations and that lock makes the attempt fail, and the next one ends it.
        """
        renames = [f"ALTER DATABASE {quoted(new)} RENAME TO {quoted(live)};"]
        exists = live in self.look().databases
        if exists:
            renames.insert(0, f"ALTER DATABASE {quoted(live)} RENAME TO {quoted(aside)};")
        names = ", ".join(literal(name) for name in (live, new))
        sql = (
            f"SELECT count(pg_terminate_backend(pid, 2000)) FROM pg_stat_activity WHERE datname IN ({names})"
            f" AND pid <> pg_backend_pid();\nBEGIN;\n{chr(10).join(renames)}\nCOMMIT;\n"
        )
        if self.look().version_num < 140000:  # the timeout argument came with 14
            sql = sql.replace("(pid, 2000)", "(pid)")
        for attempt in range(1, SWAP_ATTEMPTS + 1):
            cancel.check()
            try:
                self.sql(sql)
                return
            except ToolError as error:
                if "is being accessed by other users" not in error.stderr or attempt == SWAP_ATTEMPTS:
                    raise
                time.sleep(0.2)

    def count_rows(self, database: str, tables: Iterable[str]) -> dict[str, tuple[int, bool]]:
        """(rows, whether an extension owns it) of each table alone (ONLY), by its name quoted as pg_dump does."""
        wanted = list(tables)
        counts: dict[str, tuple[int, bool]] = {}
        for start in range(0, len(wanted), COUNT_BATCH):
            batch = wanted[start : start + COUNT_BATCH]
            selects = [
                f"SELECT {index}, (SELECT count(*) FROM ONLY {table}), EXISTS (SELECT FROM pg_depend WHERE"
                f" classid = 'pg_class'::regclass AND deptype = 'e' AND objid = {literal(table)}::regclass)"
                for index, table in enumerate(batch)
            ]
            union = "\nUNION ALL\n".join(selects)
            answer = self.sql(f"SELECT jsonb_agg(jsonb_build_array(i, n, e)) FROM (\n{union}) c (i, n, e);", database)
            counts |= {batch[index]: (count, of_extension) for index, count, of_extension in json.loads(answer)}
        return counts

    def count_large_objects(self, database: str) -> int:
        """How many large objects there are."""
        return int(self.sql("SELECT count(*) FROM pg_largeobject_metadata;", database))


def _create_options(like: DatabaseProperties, server: Server) -> list[str]:
    row = like.catalog_row
    options = [f"ENCODING {literal(like.encoding)}"]
    if like.owner in server.roles:
        options.append(f"OWNER {quoted(like.owner)}")
    for column, word in (("datcollate", "LC_COLLATE"), ("datctype", "LC_CTYPE")):
        if row.get(column):
            options.append(f"{word} {literal(str(row[column]))}")
    provider = {"i": "icu", "b": "builtin"}.get(str(row.get("datlocprovider", "c")))
    locale = row.get("datlocale") or row.get("daticulocale")  # renamed in 17
    if provider and locale and server.major >= 15:
        word = "ICU_LOCALE" if provider == "icu" else "BUILTIN_LOCALE"
        options += [f"LOCALE_PROVIDER {provider}", f"{word} {literal(str(locale))}"]
        if row.get("daticurules"):
            options.append(f"ICU_RULES {literal(str(row['daticurules']))}")
    return options


def _setting(parameter: str, value: str) -> str:
    """`name TO value`; of settings that are lists, each element by itself, as pg_dump does."""
    if parameter in ("search_path", "session_preload_libraries", "local_preload_libraries", "temp_tablespaces"):
        elements = [part.strip() for part in value.split(",")]
        shown = ", ".join(literal(part.strip('"')) for part in elements) or "''"
        return f"{quoted(parameter)} TO {shown}"
    name = ".".join(quoted(part) for part in parameter.split("."))
    return f"{name} TO {literal(value)}"


def free_bytes(runner: Runner, server: Server) -> int | None:
    """What is free on the server's data directory; None where it can't be read (a remote server, no `df`)."""
    if not server.data_directory:
        return None
    try:
        answer = run(runner, ["df", "-Pk", server.data_directory], {"LC_ALL": "C"}).decode()
        return int(answer.splitlines()[1].split()[3]) * 1024
    except (HubbackupError, IndexError, ValueError):
        return None
