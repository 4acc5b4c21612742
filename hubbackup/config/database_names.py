"""BACKUP_DATABASES and BACKUP_EXCLUDE_DATABASES: which databases are backed up, in the operator's own words.

Names stand between commas. One with a comma, a double quote, a `*`, a `?`, or a blank at an end stands in double
quotes, a quote in it doubled, as in SQL. Nothing is folded to lower case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

EVERY = "*"
NAME_BYTES = 63
"""More bytes PostgreSQL does not take, and cuts."""
_ENTRY = re.compile(r'\s*(?:"(?P<quoted>(?:[^"]|"")*)"|(?P<bare>[^",]*?))\s*(?P<end>,|\Z)')


@dataclass(frozen=True)
class DatabaseNames:
    """The databases that are named; or, of a server, `every` one but the `excluded`."""

    names: tuple[str, ...] = ()
    every: bool = False
    excluded: tuple[DatabasePattern, ...] = ()

    @property
    def only(self) -> str | None:
        """The one database, where there is just one by its name; None where there are several."""
        return self.names[0] if len(self.names) == 1 and not self.every else None

    def excludes(self, name: str) -> bool:
        """Whether BACKUP_EXCLUDE_DATABASES leaves it out."""
        return any(pattern.matches(name) for pattern in self.excluded)


@dataclass(frozen=True)
class DatabasePattern:
    """A name in which `*` stands for anything and `?` for one character, unless it is `quoted`."""

    text: str
    quoted: bool = False

    def matches(self, name: str) -> bool:
        """Whether the whole name is like this."""
        if self.quoted:
            return name == self.text
        pattern = "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in self.text)
        return re.fullmatch(pattern, name, re.DOTALL) is not None


def parse_names(text: str) -> DatabaseNames:
    """BACKUP_DATABASES. Raises ValueError with what is wrong."""
    entries = _entries(text)
    if EVERY in [entry.text for entry in entries if not entry.quoted]:
        if len(entries) > 1:
            raise ValueError("has * and names: * is every database, and stands alone")
        return DatabaseNames(every=True)
    for entry in entries:
        if not entry.quoted and re.search(r"[*?]", entry.text):
            raise ValueError(
                f"has {entry.text}: patterns are for BACKUP_EXCLUDE_DATABASES; * alone is every database, and a name"
                " with such a character is written in double quotes"
            )
    return DatabaseNames(tuple(dict.fromkeys(entry.text for entry in entries)))


def written(names: Iterable[str]) -> str:
    """The names as `parse_names` takes them, each in quotes that needs them. No name may be empty."""
    return ",".join(
        '"' + name.replace('"', '""') + '"' if name != name.strip() or re.search(r'[",*?]', name) else name
        for name in names
    )


def parse_patterns(text: str) -> tuple[DatabasePattern, ...]:
    """BACKUP_EXCLUDE_DATABASES. Raises ValueError with what is wrong."""
    return tuple(_entries(text))


def _entries(text: str) -> list[DatabasePattern]:
    found: list[DatabasePattern] = []
    place = 0
    while place < len(text):
        entry = _ENTRY.match(text, place)
        if entry is None:
            raise ValueError(
                'has a double quote that is not closed, or not followed by a comma: write "a,b", and "" in it'
            )
        quoted = entry["quoted"]
        name = entry["bare"] if quoted is None else quoted.replace('""', '"')
        if not name:
            raise ValueError("has an empty name: two commas follow each other, or one stands at an end")
        if len(name.encode(errors="surrogateescape")) > NAME_BYTES:
            raise ValueError(f"has {name}, which is longer than the {NAME_BYTES} bytes that PostgreSQL takes")
        found.append(DatabasePattern(name, quoted is not None))
        place = entry.end()
    if text.rstrip().endswith(","):
        raise ValueError("has an empty name: two commas follow each other, or one stands at an end")
    return found
