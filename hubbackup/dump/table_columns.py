"""The columns of a CREATE TABLE as pg_dump writes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hubbackup.dump.dump_statements import MANY, NAME
from hubbackup.dump.statement_subjects import parts, shown

_TOKEN = re.compile(
    rb"(?P<name>\"(?:[^\"]|\"\"" + MANY + rb"\")"
    rb"|(?P<escaped>[eE]'(?:[^'\\]|''|\\." + MANY + rb"')|(?P<string>'(?:[^']|''" + MANY + rb"')"
    rb"|(?P<word>[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*+)|(?P<blank>\s++)|(?P<mark>.)",
    re.DOTALL,
)
_HEAD = re.compile(rb"CREATE (?:UNLOGGED |FOREIGN )?TABLE " + NAME + rb"(?:\." + NAME + rb")? (?=\()")
_NO_COLUMN = re.compile(rb"(?:CONSTRAINT|CHECK|UNIQUE|PRIMARY|EXCLUDE|FOREIGN|LIKE|NOT NULL)\b")
_COLUMN = re.compile(rb"(" + NAME + rb")(?: (.*))?\Z", re.DOTALL)
_ENDS_TYPE = frozenset((b"COLLATE", b"CONSTRAINT", b"DEFAULT", b"GENERATED", b"NOT", b"NULL", b"OPTIONS", b"CHECK"))


@dataclass(frozen=True)
class Column:
    """A column: its type, and whatever else stands behind it (`NOT NULL`, `DEFAULT …`), as the dump has them."""

    name: str
    type: str
    rest: str = ""


def columns_of(create_table: bytes) -> tuple[Column, ...]:
    """The columns that the statement itself names, in their order."""
    head = _HEAD.match(create_table)
    if head is None:
        return ()
    found = []
    for element in _elements(create_table, head.end()):
        column = _COLUMN.match(element)
        if column is None or _NO_COLUMN.match(element):
            continue
        kind, rest = _split(column[2] or b"")
        found.append(Column(parts(shown(column[1]))[0], shown(kind), shown(rest)))
    return tuple(found)


def _elements(text: bytes, start: int) -> Iterator[bytes]:
    """What stands between the commas of the parentheses that open at `start`."""
    depth, begun = 0, start + 1
    for token in _TOKEN.finditer(text, start):
        mark = token["mark"]
        if mark in (b"(", b"["):
            depth += 1
        elif mark in (b")", b"]"):
            depth -= 1
        if (mark == b"," and depth == 1) or (mark == b")" and depth == 0):
            element = text[begun : token.start()].strip()
            if element:
                yield element
            begun = token.end()
        if depth == 0:
            return


def _split(text: bytes) -> tuple[bytes, bytes]:
    """The type, and what follows it."""
    depth = 0
    for token in _TOKEN.finditer(text):
        if token["mark"] == b"(":
            depth += 1
        elif token["mark"] == b")":
            depth -= 1
        elif depth == 0 and token["word"] in _ENDS_TYPE:
            return text[: token.start()].rstrip(), text[token.start() :]
    return text, b""
