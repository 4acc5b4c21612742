"""What pg_dump's statements make, read from the statements alone: a comment above one can be forged by a name.

Heads are read, in the one form that pg_dump gives them; no expression is looked into. What is not in that form is no
known statement, and then nothing is assumed of it.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

from hubbackup.dump.dump_statements import MANY, NAME

QUALIFIED = NAME + rb"\." + NAME
_SCHEMA = re.compile(rb"(" + NAME + rb")\.")
NAMES = NAME + rb"(?:, " + NAME + MANY

_TABLE = re.compile(rb"CREATE (?P<how>UNLOGGED |FOREIGN |)TABLE (?P<table>" + QUALIFIED + rb")\s")
_PARTITIONED = re.compile(rb"^PARTITION BY ", re.MULTILINE)
_ATTACHED = re.compile(
    rb"ALTER TABLE (?:ONLY )?(?P<parent>" + QUALIFIED + rb") ATTACH PARTITION (?P<child>" + QUALIFIED + rb")[\s;]"
)
_INDEX_ATTACHED = re.compile(
    rb"ALTER INDEX (?P<parent>" + QUALIFIED + rb") ATTACH PARTITION (?P<child>" + QUALIFIED + rb")[\s;]"
)
_INDEX = re.compile(
    rb"CREATE (?P<unique>UNIQUE )?INDEX (?P<name>" + NAME + rb") ON (?P<only>ONLY )?(?P<table>" + QUALIFIED + rb")"
    rb" USING (?P<method>" + NAME + rb") \("
)
_CONSTRAINT = re.compile(
    rb"ALTER TABLE (?P<only>ONLY )?(?P<table>" + QUALIFIED + rb")\s+ADD CONSTRAINT (?P<name>" + NAME + rb")"
    rb" (?P<kind>PRIMARY KEY|UNIQUE|EXCLUDE|FOREIGN KEY|CHECK|NOT NULL)\s"
)
_KEY_BODY = re.compile(
    rb"(?P<columns>\(" + NAMES + rb"\))(?P<include> INCLUDE \(" + NAMES + rb"\))?(?P<options> WITH \([^()\"]*\))?;"
)
"""Of a key in which nothing special stands."""
_REFERENCES = re.compile(
    rb"\((?:PERIOD )?"
    + NAME
    + rb"(?:, (?:PERIOD )?"
    + NAME
    + MANY
    + rb"\) REFERENCES (?P<other>"
    + QUALIFIED
    + rb")[(\s;]"
)
_UNCHECKED = re.compile(rb"(?: NOT VALID| NOT ENFORCED);\s*\Z")
_TRIGGER = re.compile(
    rb"CREATE (?:CONSTRAINT )?TRIGGER (?P<name>" + NAME + rb") (?:BEFORE|AFTER|INSTEAD OF) "
    rb"(?:[^\"]|\"(?:[^\"]|\"\"" + MANY + rb"\")*? ON (?P<table>" + QUALIFIED + rb")\s"
)
_CODE = re.compile(
    rb"CREATE (?P<kind>FUNCTION|PROCEDURE|DOMAIN|TYPE|VIEW|MATERIALIZED VIEW|OPERATOR CLASS|OPERATOR FAMILY|OPERATOR"
    rb"|AGGREGATE|CAST) (?P<name>" + QUALIFIED + rb")?"
)


@dataclass(frozen=True, slots=True)
class Table:
    """CREATE TABLE."""

    table: str
    foreign: bool
    partitioned: bool


@dataclass(frozen=True, slots=True)
class Attached:
    """A table or an index that becomes a partition of another one."""

    parent: str
    child: str
    of_index: bool


@dataclass(frozen=True, slots=True)
class Index:
    """CREATE INDEX; its place in the text from which on expressions may stand is `body`."""

    table: str
    name: str
    unique: bool
    only: bool
    method: str
    body: int


@dataclass(frozen=True, slots=True)
class Constraint:
    """ALTER TABLE … ADD CONSTRAINT; what follows its kind begins at `body`. `other`: whom a foreign key refers to."""

    table: str
    name: str
    kind: str
    """PRIMARY KEY, UNIQUE, EXCLUDE, FOREIGN KEY, CHECK or NOT NULL."""
    only: bool
    valid: bool
    """Whether it is to hold for the rows that are there, and is checked for them."""
    body: int
    other: str = ""


@dataclass(frozen=True, slots=True)
class Trigger:
    """CREATE TRIGGER."""

    table: str
    name: str


@dataclass(frozen=True, slots=True)
class Code:
    """What the database's own expressions may call or be of: functions, types, domains, operators, casts."""

    kind: str
    name: str


Statement = Table | Attached | Index | Constraint | Trigger | Code


def read(text: bytes) -> Statement | None:
    """What a whole statement makes, with its semicolon; None for all other kinds."""
    if text.startswith(b"CREATE "):
        return _created(text)
    if text.startswith(b"ALTER TABLE "):
        return _constraint(text) or _attached(_ATTACHED, text)
    if text.startswith(b"ALTER INDEX "):
        return _attached(_INDEX_ATTACHED, text)
    return None


def unique_index(text: bytes, found: Constraint) -> tuple[bytes, bytes] | None:
    """A key as CREATE UNIQUE INDEX and the ADD CONSTRAINT that takes it; None where anything special stands in it."""
    key = _KEY_BODY.fullmatch(text.rstrip(), found.body) if found.kind in ("PRIMARY KEY", "UNIQUE") else None
    if key is None:
        return None
    name, table, kind = raw(found.name), raw(found.table), found.kind.encode()
    rest = key["columns"] + (key["include"] or b"") + (key["options"] or b"")
    return (
        b"CREATE UNIQUE INDEX %s ON %s USING btree %s;\n" % (name, table, rest),
        b"ALTER TABLE ONLY %s ADD CONSTRAINT %s %s USING INDEX %s;\n" % (table, name, kind, name),
    )


def raw(name: str) -> bytes:
    """A name as the dump has it."""
    return name.encode("utf-8", "surrogateescape")


def plain(name: str) -> str:
    """One name without its quotes."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def beside(table: str, name: str) -> str:
    """A name in the table's schema, as an index has one."""
    schema = _SCHEMA.match(raw(table))
    assert schema is not None  # noqa: S101 - all tables here are QUALIFIED
    return f"{_text(schema[1])}.{name}"


def _created(text: bytes) -> Statement | None:
    if found := _INDEX.match(text):
        is_unique, is_only = found["unique"] is not None, found["only"] is not None
        return Index(
            _text(found["table"]), _text(found["name"]), is_unique, is_only, _text(found["method"]), found.end() - 1
        )
    if found := _TABLE.match(text):
        is_partitioned = _PARTITIONED.search(text) is not None
        return Table(_text(found["table"]), found["how"] == b"FOREIGN ", is_partitioned)
    if found := _TRIGGER.match(text):
        return Trigger(_text(found["table"]), _text(found["name"]))
    if found := _CODE.match(text.replace(b"OR REPLACE ", b"", 1) if text.startswith(b"CREATE OR ") else text):
        return Code(_text(found["kind"]), _text(found["name"] or b""))
    return None


def _constraint(text: bytes) -> Constraint | None:
    found = _CONSTRAINT.match(text)
    if found is None:
        return None
    kind = _text(found["kind"])
    references = _REFERENCES.match(text, found.end()) if kind == "FOREIGN KEY" else None
    return Constraint(
        _text(found["table"]),
        _text(found["name"]),
        kind,
        found["only"] is not None,
        _UNCHECKED.search(text) is None,
        found.end(),
        _text(references["other"]) if references else "",
    )


def _attached(pattern: re.Pattern[bytes], text: bytes) -> Attached | None:
    found = pattern.match(text)
    return Attached(_text(found["parent"]), _text(found["child"]), pattern is _INDEX_ATTACHED) if found else None


def _text(name: bytes) -> str:
    """Held once, however often it is met: a table's name stands in each of its statements."""
    return sys.intern(name.decode("utf-8", "surrogateescape"))
