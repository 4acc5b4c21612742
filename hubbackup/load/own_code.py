"""What of a dump runs the database's own code over other tables, as far as its text shows.

A CHECK, a generated column or an index may call a function that looks into another table, though PostgreSQL's manual
forbids it. In a dump's own order that works or fails as it always did; with several sessions it could find that table
empty. So the functions are looked at: one that reads nothing is harmless, any other makes those that name it wait.
Functions of extensions are trusted: their tables are loaded first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from hubbackup.dump.dump_statements import NAME
from hubbackup.dump.statement_kinds import QUALIFIED, Code
from hubbackup.load.dump_text import DumpText, TableText, Text

_NOT_READING = re.compile(
    rb"\bDISTINCT\s+FROM\b|\b(?:EXTRACT|TRIM|SUBSTRING|OVERLAY)\s*\([^()]*\bFROM\b", re.IGNORECASE
)
_READING = re.compile(
    rb"\b(?:FROM|JOIN|TABLE|EXECUTE|INSERT|UPDATE|DELETE|MERGE|CALL|nextval|currval|lastval|setval|lo_\w+|loread"
    rb"|dblink\w*|\w+_to_xml\w*)\b",
    re.IGNORECASE,
)
_LANGUAGE = re.compile(rb"\bLANGUAGE\s+\"?(?:sql|plpgsql|internal)\b", re.IGNORECASE)
_MENTIONED = re.compile(QUALIFIED)
_IDENTIFIER = re.compile(NAME)
_DEFAULT = re.compile(rb"^(    (?!CONSTRAINT )[^\n]*?) DEFAULT [^\n]*$", re.MULTILINE)
"""Of a column: COPY names each column, so that none is computed."""
_PLAIN_TYPE = re.compile(rb"CREATE TYPE [^\n]* AS (?:ENUM )?\(")
_ROUTINES = ("FUNCTION", "PROCEDURE")
_TYPES = ("DOMAIN", "TYPE")


class OwnCode:
    """The names, as pg_dump writes them, of functions and types of this dump that may look into tables."""

    def __init__(
        self,
        text: DumpText,
        codes: Iterable[tuple[Code, Text]],
        tables: Mapping[str, TableText],
        parents: Mapping[str, str],
    ) -> None:
        self._text = text
        self.names: set[str] = set()
        self.everywhere = ""
        """An operator, cast or type of whose calls no statement tells; empty where there is none."""
        codes = list(codes)
        self._find_routines([each for each in codes if each[0].kind in _ROUTINES])
        if not self.names:
            return
        for code, at in codes:
            if code.kind in _ROUTINES or "VIEW" in code.kind or not self.mentions(statement := text.read(at)):
                continue
            if code.kind == "DOMAIN" or _PLAIN_TYPE.match(statement):
                self.names.add(code.name)
            else:
                self.everywhere = self.everywhere or f"{code.kind} {code.name}".strip()
        self._find_tables(tables, parents)

    def mentions(self, statement: bytes) -> bool:
        """Whether one of the names stands in it, with its schema as pg_dump writes it."""
        if not self.names:
            return False
        return any(found.decode("utf-8", "surrogateescape") in self.names for found in _MENTIONED.findall(statement))

    def _find_routines(self, routines: list[tuple[Code, Text]]) -> None:
        """Those whose text reads, and those that call them, by whatever part of their name."""
        waiting: dict[str, frozenset[str]] = {}
        found: set[str] = set()
        for code, at in routines:
            body = self._text.read(at)
            if may_read(body):
                found.add(code.name)
            else:
                waiting[code.name] = waiting.get(code.name, frozenset()) | _identifiers(body)
        while found:
            self.names |= found
            calls = {_last_name(name) for name in found}
            found = {
                name
                for name, words in waiting.items()
                if name not in self.names and not calls.isdisjoint(words - {_last_name(name)})
            }

    def _find_tables(self, tables: Mapping[str, TableText], parents: Mapping[str, str]) -> None:
        """Those whose columns, constraints or bounds name one of these, and those that inherit from such a one."""
        for name, table in tables.items():  # a parent comes before its children
            statement = self._text.read(table.text)
            past = statement.find(b"(")
            named = past >= 0 and self.mentions(_DEFAULT.sub(rb"\1", statement[past:]))
            if named or parents.get(name) in self.names:
                self.names.add(name)


def may_read(routine: bytes) -> bool:
    """Whether a CREATE FUNCTION may look into a table or a sequence, by its text alone; in doubt it may."""
    if _LANGUAGE.search(routine) is None:
        return True
    return _READING.search(_NOT_READING.sub(b" ", routine)) is not None


def _identifiers(text: bytes) -> frozenset[str]:
    return frozenset(_folded(found) for found in _IDENTIFIER.findall(text))


def _last_name(name: str) -> str:
    return _folded(_IDENTIFIER.findall(name.encode("utf-8", "surrogateescape"))[-1])


def _folded(name: bytes) -> str:
    """A name as the server knows it."""
    text = name.decode("utf-8", "surrogateescape")
    return text[1:-1].replace('""', '"') if text.startswith('"') else text.lower()
