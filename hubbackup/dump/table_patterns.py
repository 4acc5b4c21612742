"""pg_dump's patterns of tables, as the regular expressions that pg_dump itself makes of them (patternToSQLRegex)."""

from __future__ import annotations

from dataclasses import dataclass

from hubbackup.dump.identifiers import characters, quoted

_SPECIAL = "|*+?()[]{}.^$\\"


@dataclass(frozen=True)
class TablePattern:
    """Regular expressions of the server's. Without a `schema` those tables are meant that the search_path shows."""

    schema: str | None
    name: str


def table_pattern(text: str) -> TablePattern:
    """Letters are folded, `*` and `?` stand for any, a dot divides, and nothing of that in double quotes."""
    parts = [""]
    in_quotes = False
    position = 0
    while position < len(text):
        character = text[position]
        following = text[position + 1 : position + 2]
        position += 1
        if character == '"':
            if in_quotes and following == '"':
                parts[-1] += '"'
                position += 1
            else:
                in_quotes = not in_quotes
        elif in_quotes:
            parts[-1] += f"\\{character}" if character in _SPECIAL else character
        elif character == "*":
            parts[-1] += ".*"
        elif character == "?":
            parts[-1] += "."
        elif character == ".":
            parts.append("")
        elif character == "$" or (character == "[" and following == "]"):
            parts[-1] += f"\\{character}"
        else:
            parts[-1] += character.lower() if character.isascii() else character
    whole = [f"^({part})$" for part in parts]
    return TablePattern(whole[-2] if len(whole) > 1 else None, whole[-1])


def pattern_of(schema: bytes, name: bytes, encoding: str) -> str:
    """The pattern that this one table matches, in a command line; the names are bytes of the database's `encoding`.

    pg_dump takes its command line to be in that encoding, which it is in UTF-8 alone: all other letters beyond ASCII
    are written by their numbers.
    """
    return ".".join(_exactly(part, encoding) for part in (schema, name))


def _exactly(name: bytes, encoding: str) -> str:
    if encoding == "UTF8":
        return quoted(name.decode("utf-8", "surrogateescape"))
    return '"' + "".join(map(_written, characters(name, encoding))) + '"'


def _written(character: bytes) -> str:
    if character.isascii():
        return '""' if character == b'"' else character.decode("ascii")
    return f'"[\\x{character.hex()}]"'
