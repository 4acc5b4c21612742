"""What the errors of PostgreSQL's tools mean: a sentence that names what is wrong, and what to do about it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hubbackup.errors import ToolError
from hubbackup.runners.stderr import reason


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


def explain(error: ToolError, user: str, database: str = "") -> ToolError:
    """The same error in a sentence that names what is wrong, with the remedy; the tool's own words follow.

    The sentence begins with the `database` where one is given.
    """
    where = f"database {database}: " if database else ""
    own_words = reason(error.stderr)
    text, remedy = str(error), ""
    for meaning in MEANINGS:
        found = meaning.pattern.search(error.stderr)
        if found is not None:
            names = {"user": user, "tool_name": text.split(" ", 1)[0], **found.groupdict()}
            text, remedy = meaning.sentence.format(**names), meaning.remedy
            break
    said = "" if own_words in text else f" ({own_words})"
    return ToolError(
        f"{where}{text}{said}", remedy=remedy, exit_code_of_tool=error.exit_code_of_tool, stderr=error.stderr
    )
