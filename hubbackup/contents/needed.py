"""What a table's DDL names and does not make: types, functions, sequences, collations, extensions, schemas."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hubbackup.dump.dump_statements import NAME
from hubbackup.dump.statement_subjects import Name, parts, shown

_MAKES = re.compile(
    rb"CREATE (?:OR REPLACE )?(?:TYPE|DOMAIN|SEQUENCE|FUNCTION|PROCEDURE|AGGREGATE|COLLATION) ("
    + NAME + rb"\." + NAME + rb")"
)  # fmt: skip
_SCHEMA = re.compile(rb"CREATE SCHEMA (" + NAME + rb");\Z")
_EXTENSION = re.compile(rb"CREATE EXTENSION (?:IF NOT EXISTS )?(" + NAME + rb")(?: WITH SCHEMA (" + NAME + rb"))?")
_NAMED = re.compile(NAME + rb"\." + NAME)
_PUBLIC = "public"


@dataclass(frozen=True)
class Needed:
    """The `statements` that must come first, in the dump's order, what they make, and remarks on what is a guess."""

    statements: tuple[bytes, ...]
    makes: frozenset[Name] = frozenset()
    remarks: tuple[str, ...] = ()


def needed_by(ddl: Iterable[bytes], pre_data: Sequence[bytes], own: set[Name]) -> Needed:
    """What must be there before `ddl` can be run; `own` are the names that it makes itself.

    In a dump every name that is not the server's own has its schema before it, also in the text of a function.
    """
    made, schemas, extensions = _made(pre_data)
    wanted: set[Name] = set()
    unknown: set[Name] = set()
    waiting = list(ddl)
    while waiting:
        for name in _names(waiting.pop()):
            if name in wanted or name in own or name[0] not in schemas:
                continue
            if name in made:
                wanted.add(name)
                waiting += [pre_data[place] for place in made[name]]
            else:
                unknown.add(name)
    places = sorted(place for name in wanted for place in made[name])
    of_extensions = [(name, text) for name, schema, text in extensions if schema in {name[0] for name in unknown}]
    used = {name[0] for name in wanted | unknown | own} - {_PUBLIC}
    statements = [text for schema, text in schemas.items() if schema in used]
    statements += [text for _, text in of_extensions] + [pre_data[place] for place in places]
    return Needed(tuple(statements), frozenset(wanted), tuple(_remarks(unknown, [name for name, _ in of_extensions])))


def _made(pre_data: Sequence[bytes]) -> tuple[dict[Name, list[int]], dict[str, bytes], list[tuple[str, str, bytes]]]:
    """Where the objects are made that a table can need; the schemas; name, schema and statement of the extensions."""
    made: dict[Name, list[int]] = {}
    schemas: dict[str, bytes] = {_PUBLIC: b""}
    extensions = []
    for place, statement in enumerate(pre_data):
        if found := _MAKES.match(statement):
            made.setdefault(parts(shown(found[1])), []).append(place)
        elif found := _SCHEMA.match(statement):
            schemas[parts(shown(found[1]))[0]] = b"CREATE SCHEMA IF NOT EXISTS " + found[1] + b";"
        elif found := _EXTENSION.match(statement):
            schema = parts(shown(found[2]))[0] if found[2] else ""
            extensions.append((parts(shown(found[1]))[0], schema, statement))
    return made, schemas, extensions


def _names(statement: bytes) -> Iterable[Name]:
    return {parts(shown(found[0])) for found in _NAMED.finditer(statement)}


def _remarks(unknown: set[Name], extensions: Sequence[str]) -> Iterable[str]:
    if unknown:
        names = ", ".join(sorted(".".join(name) for name in unknown))
        where = f"; taken to be of the extensions {', '.join(extensions)}" if extensions else ""
        yield f"Needed, and not made here: {names}{where}"
