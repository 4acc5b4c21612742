"""What a statement of pg_dump's is about: which relations it names as its own, and what it does to them.

By the statement's first words, which pg_dump always writes in one way. Names come as tuples of their parts, without
quotes; a name that is not UTF-8 has its bytes escaped, as in a manifest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from hubbackup.dump.dump_statements import NAME

Name = tuple[str, ...]
Kind = Literal[
    "table", "view", "materialized view", "sequence", "owned by", "identity", "default", "constraint", "foreign key",
    "index", "trigger", "rule", "policy", "statistics", "partition", "inherit", "owner", "comment", "label", "grant",
    "publication", "property",
]  # fmt: skip
"""`partition` hangs a table or an index below another; `property` is whatever else is set of a relation."""


@dataclass(frozen=True, slots=True)
class Subject:
    """`of`: the relations that the statement is about. `makes`: an index, constraint or sequence that it makes.

    `of` a partition is the part, then the whole.
    """

    kind: Kind
    of: tuple[Name, ...]
    makes: Name = ()
    column: str = ""
    """The one column that it is about."""


_Q = NAME + rb"(?:\." + NAME + rb")?"
_DOTTED = NAME + rb"(?:\." + NAME + rb")*"
_NAMES = NAME + rb"(?:, " + NAME + rb")*"
_EVENT = rb"(?:INSERT|DELETE|TRUNCATE|UPDATE(?: OF " + _NAMES + rb")?)"
_ON_A_TABLE = {
    b"CONSTRAINT": "constraint",
    b"TRIGGER": "trigger",
    b"RULE": "rule",
    b"POLICY": "policy",
}

_CREATE = re.compile(
    rb"CREATE (?:UNLOGGED |FOREIGN )?(?P<kind>TABLE|VIEW|MATERIALIZED VIEW|SEQUENCE) (?P<of>" + _Q + rb")"
)
_PARTITION_OF = re.compile(rb" PARTITION OF (" + _Q + rb")")
_INHERITS = re.compile(rb"\)\nINHERITS \((" + _Q + rb"(?:, " + _Q + rb")*)\)")
_INDEX = re.compile(rb"CREATE (?:UNIQUE )?INDEX (?P<makes>" + NAME + rb") ON (?:ONLY )?(?P<of>" + _Q + rb")\s")
_TRIGGER = re.compile(
    rb"CREATE (?:CONSTRAINT )?TRIGGER " + NAME + rb" (?:BEFORE|AFTER|INSTEAD OF) "
    + _EVENT + rb"(?: OR " + _EVENT + rb")* ON (?P<of>" + _Q + rb")\s"
)  # fmt: skip
_RULE = re.compile(rb"CREATE RULE " + NAME + rb" AS\s+ON [A-Z]+ TO (?P<of>" + _Q + rb")\s")
_POLICY = re.compile(rb"CREATE POLICY " + NAME + rb" ON (?P<of>" + _Q + rb")[\s;]")
_STATISTICS = re.compile(rb"CREATE STATISTICS (?P<makes>" + _Q + rb") .*? FROM (?P<of>" + _Q + rb");\Z", re.DOTALL)
_ALTER = re.compile(
    rb"ALTER (?P<what>(?:FOREIGN )?TABLE|INDEX|SEQUENCE|VIEW|MATERIALIZED VIEW|STATISTICS) (?:ONLY )?(?P<of>" + _Q
    + rb")\s+(?P<rest>.*)", re.DOTALL
)  # fmt: skip
_PUBLICATION = re.compile(rb"ALTER PUBLICATION " + NAME + rb" ADD TABLE (?:ONLY )?(?P<of>" + _Q + rb")[\s;]")
_COMMENT = re.compile(
    rb"(?P<verb>COMMENT|SECURITY LABEL FOR " + NAME + rb") ON (?:"
    rb"(?P<what>TABLE|FOREIGN TABLE|VIEW|MATERIALIZED VIEW|SEQUENCE|INDEX|STATISTICS|COLUMN) (?P<of>"
    + _DOTTED
    + rb")"
    rb"|(?:CONSTRAINT|TRIGGER|RULE|POLICY) " + NAME + rb" ON (?P<on>" + _Q + rb")) IS "
)
_PRIVILEGE = rb"[A-Z ]+(?: ?\(" + NAME + rb"(?:, ?" + NAME + rb")*\))?"
_GRANT = re.compile(
    rb"(?:GRANT|REVOKE) " + _PRIVILEGE + rb"(?:, ?" + _PRIVILEGE + rb")* ON (?:TABLE|SEQUENCE) (?P<of>" + _Q + rb")\s"
)
_ATTACH = re.compile(rb"ATTACH PARTITION (" + _Q + rb")")
_INHERIT = re.compile(rb"INHERIT (" + _Q + rb")")
_OWNED_BY = re.compile(rb"OWNED BY (" + _DOTTED + rb");")
_IDENTITY = re.compile(
    rb"ALTER COLUMN (" + NAME + rb") ADD GENERATED [A-Z ]+ AS IDENTITY \(\s+SEQUENCE NAME (" + _Q + rb")"
)
_DEFAULT = re.compile(rb"ALTER COLUMN (" + NAME + rb") SET DEFAULT ")
_CONSTRAINT = re.compile(rb"ADD (?:CONSTRAINT (" + NAME + rb") )?(CHECK|UNIQUE|PRIMARY|EXCLUDE|FOREIGN|NOT NULL)\b")
_WORDS: tuple[tuple[bytes, Kind], ...] = (
    (b"OWNER TO ", "owner"),
    (b"ENABLE ROW LEVEL SECURITY", "policy"),
    (b"FORCE ROW LEVEL SECURITY", "policy"),
)
_FIRING = re.compile(rb"(?:ENABLE|DISABLE) (?:ALWAYS |REPLICA )?(TRIGGER|RULE) ")
_CREATED: dict[bytes, Kind] = {
    b"TABLE": "table",
    b"VIEW": "view",
    b"MATERIALIZED VIEW": "materialized view",
    b"SEQUENCE": "sequence",
}
_PART = re.compile(r'"((?:[^"]|"")*)"|([^".]+)')


def shown(raw: bytes) -> str:
    """A name's bytes as a manifest has them."""
    return raw.decode("utf-8", "backslashreplace")


@lru_cache(maxsize=1 << 14)
def parts(name: str) -> Name:
    """A name as pg_dump writes it, in its parts, without quotes."""
    return tuple(found[2] if found[2] is not None else found[1].replace('""', '"') for found in _PART.finditer(name))


def subject_of(statement: bytes) -> Subject | None:
    """What a whole statement is about; None where it is about no relation."""
    verb = statement[:3]
    if verb == b"CRE":
        return _of_create(statement)
    if verb == b"ALT":
        return _of_alter(statement)
    if verb in (b"GRA", b"REV"):
        granted = _GRANT.match(statement)
        return Subject("grant", (_name(granted["of"]),)) if granted else None
    if verb in (b"COM", b"SEC"):
        return _of_comment(statement)
    return None


def _of_create(statement: bytes) -> Subject | None:
    if created := _CREATE.match(statement):
        name = _name(created["of"])
        kind = _CREATED[created["kind"]]
        if kind == "sequence":
            return Subject(kind, (name,), makes=name)
        whole = _PARTITION_OF.match(statement, created.end())
        inherits = _INHERITS.search(statement) if kind == "table" and whole is None else None
        above = re.findall(_Q, inherits[1]) if inherits else [whole[1]] if whole else []
        return Subject(kind, (name, *map(_name, above)))
    if index := _INDEX.match(statement):
        of = _name(index["of"])
        return Subject("index", (of,), makes=(*of[:-1], *_name(index["makes"])))
    for kind, pattern in _MADE:
        if found := pattern.match(statement):
            makes = found.groupdict().get("makes")
            return Subject(kind, (_name(found["of"]),), makes=_name(makes) if makes else ())
    return None


_MADE: tuple[tuple[Kind, re.Pattern[bytes]], ...] = (
    ("trigger", _TRIGGER),
    ("rule", _RULE),
    ("policy", _POLICY),
    ("statistics", _STATISTICS),
)


def _of_alter(statement: bytes) -> Subject | None:
    if published := _PUBLICATION.match(statement):
        return Subject("publication", (_name(published["of"]),))
    altered = _ALTER.match(statement)
    if altered is None:
        return None
    name, rest = _name(altered["of"]), altered["rest"]
    for pattern, kind in ((_ATTACH, "partition"), (_INHERIT, "inherit")):
        if below := pattern.match(rest):
            other = _name(below[1])
            return Subject("partition", (other, name)) if kind == "partition" else Subject("inherit", (name, other))
    if owned := _OWNED_BY.match(rest):
        *table, column = _name(owned[1])
        return Subject("owned by", (tuple(table),), makes=name, column=column)
    if identity := _IDENTITY.match(rest):
        return Subject("identity", (name,), makes=_name(identity[2]), column=_name(identity[1])[0])
    if default := _DEFAULT.match(rest):
        return Subject("default", (name,), column=_name(default[1])[0])
    if added := _CONSTRAINT.match(rest):
        makes = (*name[:-1], *_name(added[1])) if added[1] else ()
        return Subject("foreign key" if added[2] == b"FOREIGN" else "constraint", (name,), makes=makes)
    if firing := _FIRING.match(rest):
        return Subject("trigger" if firing[1] == b"TRIGGER" else "rule", (name,))
    return Subject(next((kind for words, kind in _WORDS if rest.startswith(words)), "property"), (name,))


def _of_comment(statement: bytes) -> Subject | None:
    found = _COMMENT.match(statement)
    if found is None:
        return None
    kind: Kind = "comment" if found["verb"] == b"COMMENT" else "label"
    if found["on"]:
        return Subject(kind, (_name(found["on"]),))
    name = _name(found["of"])
    if found["what"] == b"COLUMN":
        return Subject(kind, (name[:-1],), column=name[-1])
    return Subject(kind, (name,))


def _name(raw: bytes) -> Name:
    return parts(shown(raw))
