"""Which databases a server has, and which of them somebody would want in a backup."""

from __future__ import annotations

import json
from dataclasses import dataclass

from hubbackup.dump.identifiers import raw_json
from hubbackup.postgres.databases import Databases
from hubbackup.postgres.side_databases import is_side_database

_NAMES = """\
SELECT coalesce(jsonb_agg(jsonb_build_array(datname,
    datallowconn AND NOT datistemplate AND datconnlimit <> -2) ORDER BY datname), '[]') FROM pg_database"""
"""With a connection limit of -2 the removal of a database was interrupted, and nobody can connect."""
LISTED_SQL = f"SELECT {raw_json(_NAMES)};\n"


@dataclass(frozen=True)
class ListedDatabase:
    """One database. `usual`: it allows connections, is not a template, and not one that hubbackup has put aside."""

    name: str
    usual: bool = True
    readable: bool = True
    """Its name is UTF-8; `name` has escapes in it where it is not."""


def listed(databases: Databases) -> list[ListedDatabase]:
    """Every database of the server, in order of their names. Raises HubbackupError."""
    answer = bytes.fromhex(databases.sql(LISTED_SQL))
    found = []
    for name, usual in json.loads(answer.decode("utf-8", "surrogateescape")):
        raw = name.encode("utf-8", "surrogateescape")
        shown = raw.decode("utf-8", "backslashreplace")
        found.append(ListedDatabase(shown, usual and not is_side_database(name), shown == name))
    return sorted(found, key=lambda one: one.name)
