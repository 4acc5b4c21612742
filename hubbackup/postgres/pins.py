"""The settings that every session of ours is pinned to, and the variables of libpq that must not decide for it.

Settings are pinned twice. psql gets them as SQL before all else, which works for every role, version and pooler. At
connect time (PGOPTIONS) they are needed by pg_dump and pg_dumpall, which have no other way, and against login
triggers, which fire before the first statement. A server or a pooler may refuse some of those, and then the whole
connection: `LADDER` has less and less of them, down to none.
"""

from __future__ import annotations

import re

from hubbackup.runners.environment import secures_the_way

NOTHING_HINDERS = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "standard_conforming_strings": "on",
    "client_min_messages": "warning",
}
"""Settings that every server has and every role may set, under which no work of ours fails."""

NEWER = {"idle_session_timeout": "0", "transaction_timeout": "0"}
"""The same, of PostgreSQL 14 and 17."""

FORMATS = {
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "quote_all_identifiers": "off",
}
"""How values and names are written in answers that we read, and in dumps. A load keeps the database's own."""

LADDER: tuple[dict[str, str] | None, ...] = (
    {"event_triggers": "off", "lc_messages": "C", **NEWER},
    {"session_replication_role": "replica", "lc_messages": "C"},
    NEWER,
    {},
    None,
)
"""At connect time, beside `NOTHING_HINDERS`: what a superuser may have from PostgreSQL 17, and before; what another
role may, from 17, and before; nothing at all, for a pooler that takes no options. `replica` fires no event trigger
but those that are ENABLE ALWAYS; foreign keys that are added are checked all the same."""

KEEP_PATH = (
    "DO 'BEGIN PERFORM pg_catalog.set_config(''hubbackup.path'', pg_catalog.current_setting(''search_path''), false);"
    " PERFORM pg_catalog.set_config(''search_path'', ''pg_catalog'', false); END';\n"
)
OWN_PATH = "PERFORM set_config('search_path', current_setting('hubbackup.path'), false);"
OUR_PATH = "PERFORM pg_catalog.set_config('search_path', 'pg_catalog', false);"
"""In PL/pgSQL of a session with the database's own settings: its search_path for a moment. Whatever plans a query or
gathers statistics looks into functions that its users wrote, and those may need it."""

EVENT_TRIGGERS_SINCE = 17

_LIBPQ = re.compile(r"PG[A-Z]+(?:_[A-Z]+)*|PG_COLORS?")
_OF_THE_SERVER = ("PGDATA", "PGPORT")


def decides(name: str, value: str, *, in_container: bool) -> bool:
    """Whether this variable, found in the environment, would decide where or how a session of ours is.

    In the database's container all of libpq's do, but for a port and a directory of sockets: the server there heeds
    PGPORT too, and over a socket it can't be another host's. In our own environment the operator says by them how
    the way to the server is secured (`secures_the_way`), and that stays.
    """
    if not _LIBPQ.fullmatch(name):
        return False
    if in_container:
        return name not in _OF_THE_SERVER and not (name == "PGHOST" and value.startswith("/"))
    return name != "PGDATA" and not secures_the_way(name)


def first_guess(image_major: str) -> int:
    """The rung to begin with; PostgreSQL's own images tell their major in PG_MAJOR."""
    before = image_major.isdigit() and int(image_major) < EVENT_TRIGGERS_SINCE
    return 1 if before else 0


def options(rung: int, *, formats: bool) -> str:
    """PGOPTIONS of a rung; empty for the last."""
    extra = LADDER[rung]
    if extra is None:
        return ""
    pinned = {**NOTHING_HINDERS, **(FORMATS if formats else {}), **extra}
    return " ".join(f"-c {name}={_escaped(value)}" for name, value in pinned.items())


def is_refusal(stderr: str, rung: int) -> bool:
    """Whether the server, or what stands before it, refused one of the rung's options; in any language."""
    extra = LADDER[rung]
    if extra is None:
        return False
    names = (*NOTHING_HINDERS, *FORMATS, *extra, "startup parameter")
    return any(name in stderr for name in names)


def preamble(*, formats: bool) -> str:
    """What psql is told first: as `options`, and what can only be told to servers that know it.

    One statement that prints nothing: settings that the server doesn't have or the role may not set are left out.
    Its own names are PostgreSQL's, whatever the search_path is.
    """
    return f"{_set(local=False, path='pg_catalog' if formats else '')} \\gset hubbackup_\n\\unset hubbackup_pinned\n"


def in_transaction() -> str:
    """The same, with the formats, until the transaction ends; and a table of a session's own hides no other."""
    return f"{_UTF8}{_set(local=True, path='pg_catalog, pg_temp')};\n"


_UTF8 = """\
SELECT pg_catalog.set_config('client_encoding', CASE WHEN pg_catalog.current_setting('server_encoding')
    OPERATOR(pg_catalog.=) 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END, true);
"""
"""A server that knows no encoding would still refuse what is not UTF-8."""


def _set(*, local: bool, path: str) -> str:
    """The statement, without its end; with the formats where there is a `path`."""
    pinned = {**NOTHING_HINDERS, **NEWER, "event_triggers": "off", "lc_messages": "C"}
    if path:
        pinned |= {**FORMATS, "search_path": path}
    rows = ", ".join(f"('{name}', '{value}')" for name, value in pinned.items())
    return f"""\
SELECT pg_catalog.count(pg_catalog.set_config(known.name, pinned.value, {str(local).lower()})) AS pinned
FROM (VALUES {rows},
    ('session_replication_role', CASE WHEN pg_catalog.current_setting('event_triggers', true) IS NULL
                                 THEN 'replica' ELSE 'origin' END)) AS pinned (name, value)
JOIN pg_catalog.pg_settings AS known ON known.name OPERATOR(pg_catalog.=) pinned.name
WHERE known.context OPERATOR(pg_catalog.=) 'user'
   OR pg_catalog.current_setting('is_superuser') OPERATOR(pg_catalog.=) 'on'"""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
