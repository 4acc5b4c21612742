"""The table that somebody means: a name as typed for psql, among those that a dump or a database has."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from hubbackup.dump.identifiers import quoted
from hubbackup.errors import UsageError

_FOREIGN = r"[^\x00-\x7f]"
"""Beside ASCII every letter may stand in a name."""
_NAME = rf'"(?:[^"]|"")+"|(?:[A-Za-z_]|{_FOREIGN})(?:[A-Za-z0-9_$]|{_FOREIGN})*'
_QUALIFIED = re.compile(rf"\s*(?:({_NAME})\s*\.\s*)?({_NAME})\s*", re.DOTALL)
_LIST = re.compile(rf"\s*({_NAME})\s*(?:,|\Z)", re.DOTALL)
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
NEAREST = 5


def parts(name: str) -> tuple[str, str] | None:
    """The schema (empty where none is named) and the table of `public.chantiers` or `"a.b"`, without quotes, folded
    as the server does; None where it is not one name."""
    found = _QUALIFIED.fullmatch(name)
    if found is None:
        return None
    return _identifier(found[1] or ""), _identifier(found[2])


def columns(typed: str) -> list[str]:
    """The names of a list such as `id, "Other one"`. Raises UsageError."""
    names, position = [], 0
    while found := _LIST.match(typed, position):
        names.append(_identifier(found[1]))
        position = found.end()
        if position == len(typed) and not typed.rstrip().endswith(","):
            return names
    raise UsageError(f"{typed} is not a list of columns", remedy='write it as for psql: id, "Other one"')


def qualified(schema: str, table: str) -> str:
    """Both, with quotes where they are needed, for people; what people may type."""
    return ".".join(name if _PLAIN.fullmatch(name) else quoted(name) for name in (schema, table))


def find_table(typed: str, tables: Iterable[str], where: str) -> str:
    """The one of `tables` (`public.chantiers`, quoted as pg_dump does) that `typed` means: with its schema or
    without, in psql's spelling, or where that finds none, exactly as it stands there, without quotes.

    Raises UsageError, with the nearest names, where `where` has none of that name or several.
    """
    known = {name: parts(name) or ("", name) for name in tables}
    meant = parts(typed)
    found = [name for name, (schema, table) in known.items() if meant in ((schema, table), ("", table))]
    found = found or [name for name, (schema, table) in known.items() if typed in (table, f"{schema}.{table}", name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(
            f"{where} has several tables {typed}", remedy=f"name one of them: {', '.join(sorted(found))}"
        )
    near = _nearest(typed, known)
    raise UsageError(
        f"there is no table {typed} in {where}",
        remedy=f"the nearest names there: {', '.join(near)}" if near else "hubbackup show NAME lists its tables",
    )


def _nearest(typed: str, known: dict[str, tuple[str, str]]) -> list[str]:
    """The names that look most like it."""
    wanted = typed.replace('"', "").lower()
    by_text: dict[str, str] = {}
    for name, (schema, table) in known.items():
        by_text.setdefault(table.lower(), name)
        by_text.setdefault(f"{schema}.{table}".lower(), name)
    return list(dict.fromkeys(by_text[text] for text in difflib.get_close_matches(wanted, by_text, NEAREST, 0.5)))


def _identifier(written: str) -> str:
    if written.startswith('"'):
        return written[1:-1].replace('""', '"')
    return re.sub(r"[A-Z]+", lambda upper: upper[0].lower(), written)
