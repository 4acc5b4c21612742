"""What a backup was made without, told to who restores it: what the live database would lose by the swap."""

from __future__ import annotations

import json
from dataclasses import dataclass

from hubbackup.catalog.left_out import LeftOut, shown
from hubbackup.dump.identifiers import decoded, literal, raw_json, unescaped
from hubbackup.errors import HubbackupError
from hubbackup.postgres.databases import Databases
from hubbackup.shown_text import printable
from hubbackup.units import human_bytes

SHOWN = 5
_HELD = raw_json(
    "(SELECT coalesce(jsonb_agg(jsonb_build_array(v.n, greatest(c.reltuples, 0)::int8, pg_relation_size(c.oid))"
    " ORDER BY pg_relation_size(c.oid) DESC, v.n), '[]')"
    " FROM (VALUES {names}) AS v (n, name) JOIN pg_class AS c ON c.oid = to_regclass(v.name)"
    " WHERE c.relkind IN ('r', 'm') AND pg_relation_size(c.oid) > 0)"
)


@dataclass(frozen=True)
class Lost:
    """Tables of the live database that hold rows, and that the backup was made without: SQL names, and in words."""

    tables: tuple[str, ...] = ()
    sentence: str = ""


NOTHING = Lost()


def lost(databases: Databases, live: str, left_out: LeftOut | None, encoding: str) -> Lost:
    """What of it the database `live` holds, by the size of its files. Never raises: it is a warning."""
    names = sorted(left_out.names) if left_out is not None else []
    if not names:
        return NOTHING
    values = ", ".join(f"({number}, {literal(unescaped(name))})" for number, name in enumerate(names))
    try:
        answer = databases.sql(f"SELECT {_HELD.format(names=values)};", live, encoding)
    except HubbackupError as error:
        return Lost((), f"what the live database holds of it could not be asked: {error}")
    found = json.loads(decoded(bytes.fromhex(answer), "UTF8"))
    told = [f"{_shown(names[n], encoding)} ({_rows(rows)}{human_bytes(size)})" for n, rows, size in found]
    more = f" and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
    return Lost(tuple(names[n] for n, _, _ in found), ", ".join(told[:SHOWN]) + more)


def carry_over(tables: tuple[str, ...], aside: str, target: str, encoding: str) -> str:
    """What to do about rows that only the database put aside has now."""
    names = ", ".join(_shown(name, encoding) for name in tables[:SHOWN])
    more = f" and {len(tables) - SHOWN} more" if len(tables) > SHOWN else ""
    return (
        f"the backup was made without {names}{more}: the rows that {target} had there are only in {aside} now;"
        " docs/restore.md says how to carry them over"
    )


def _shown(name: str, encoding: str) -> str:
    return printable(shown(name, encoding))


def _rows(rows: int) -> str:
    return f"some {rows:,} rows, " if rows else ""
