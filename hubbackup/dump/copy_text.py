r"""The text format of COPY: rows of fields, as pg_dump writes them between `COPY … FROM stdin;` and `\.`.

A newline always ends a row, and a tab a field: inside of a value both are written with a backslash. All of it holds
for each encoding that a database can have, since in none of them one of these three bytes is part of a letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

NULL = b"\\N"
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(.)|\Z)", re.DOTALL)
_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_ESCAPED = re.compile(rb"[\b\f\n\r\t\v\\]")
_WRITTEN = {ord(byte): b"\\" + letter for letter, byte in _LETTERS.items()} | {ord(b"\\"): b"\\\\"}


def rows(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The rows, without their newlines, of a block's bytes that come in chunks of any size."""
    begun: list[bytes] = []  # of a row that goes on: joined once, since a row may have a gigabyte
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        begun.append(first)
        if others:
            yield b"".join(begun)
            yield from others[:-1]
            begun = [others[-1]]
    if any(begun):
        yield b"".join(begun)


def fields(row: bytes) -> list[bytes | None]:
    """The values of a row, None for NULL. A table without columns has rows of one empty value."""
    if b"\\" not in row:
        return list(row.split(b"\t"))
    return [value(field) for field in row.split(b"\t")]


def value(field: bytes) -> bytes | None:
    """What a field stands for, as the server reads it; None for NULL."""
    if field == NULL:
        return None
    if b"\\" not in field:
        return field
    return _ESCAPE.sub(_unescaped, field)


def field(value: bytes | None) -> bytes:
    """A value as COPY writes it."""
    if value is None:
        return NULL
    return _ESCAPED.sub(lambda found: _WRITTEN[found[0][0]], value)


def _unescaped(escape: re.Match[bytes]) -> bytes:
    octal, hexadecimal, other = escape.groups()
    if octal is not None:
        return bytes([int(octal, 8) & 0xFF])
    if hexadecimal is not None:
        return bytes([int(hexadecimal, 16)])
    return _LETTERS.get(other, other) if other is not None else b"\\"
