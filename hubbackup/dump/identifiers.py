"""Names and strings in SQL: quoted, and out of a dump in another encoding made readable."""

from __future__ import annotations

import re

_ESCAPED = re.compile(r"\\x([89a-f][0-9a-f])")
"""A byte of a name that is not UTF-8, as a manifest has it."""
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_CODECS = {"KOI8R": "koi8_r", "KOI8U": "koi8_u", "SJIS": "cp932"}
"""Python has the others by PostgreSQL's own names, but for WIN; another one of its own by the name SJIS."""
UNREADABLE = frozenset({"SQL_ASCII", "EUC_TW", "MULE_INTERNAL"})
"""Encodings that Python has no codec of, and the first is none: names that are not ASCII stay bytes."""


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """An SQL string, whatever `standard_conforming_strings` says."""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f" E'{escaped}'" if "\\" in text else f"'{escaped}'"


def connection_string(database: str) -> str:
    """What names a database to a tool that would read a bare name as a connection string."""
    escaped = database.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"


def raw_json(expression: str) -> str:
    """The SQL of a jsonb expression as hexadecimal digits of its bytes, which no session's encoding can spoil.

    Catalogs that all databases share hold bytes in the encoding of whichever session wrote them.
    """
    return f"encode(decode(replace(({expression})::text, chr(92), chr(92) || chr(92)), 'escape'), 'hex')"


def decoded(raw: bytes, encoding: str) -> str:
    """JSON in one of PostgreSQL's encodings; bytes that are none in it become replacement characters. Of an encoding
    that is `UNREADABLE` they are written out, as `readable` has them."""
    try:
        return raw.decode(codec_of(encoding), "replace")
    except LookupError:
        text = raw.decode("utf-8", "surrogateescape")
        return _NOT_UTF8.sub(lambda byte: rf"\\x{ord(byte[0]) - 0xDC00:02x}", text)


def encoded(text: str, encoding: str) -> bytes:
    """Text as a session in one of PostgreSQL's encodings sends it; surrogate escapes are bytes as they are."""
    try:
        return text.encode(codec_of(encoding), "surrogateescape")
    except (LookupError, UnicodeError):
        return text.encode("utf-8", "surrogateescape")


def characters(raw: bytes, encoding: str) -> list[bytes]:
    """Each character of a text in one of PostgreSQL's encodings; where it is none in it, each byte."""
    try:
        codec = codec_of(encoding)
        return [character.encode(codec) for character in raw.decode(codec)]
    except (LookupError, UnicodeError):
        return [raw[place : place + 1] for place in range(len(raw))]


def codec_of(encoding: str) -> str:
    """Python's name of one of PostgreSQL's encodings; empty is UTF8."""
    return _CODECS.get(encoding) or re.sub(r"\AWIN", "cp", encoding or "UTF8")


def readable(name: str, encoding: str) -> str:
    """A name out of a dump that is not in UTF-8, as people read it.

    `encoding` is the dump's, by PostgreSQL's name; what can't be decoded has its bytes written out.
    """
    raw = name.encode("utf-8", "surrogateescape")
    try:
        return raw.decode(codec_of(encoding))
    except (LookupError, UnicodeError):
        return raw.decode("utf-8", "backslashreplace")


def unescaped(name: str) -> str:
    """A name as a manifest has it, with surrogate escapes for the bytes that are escaped there."""
    return _ESCAPED.sub(lambda byte: chr(0xDC00 + int(byte[1], 16)), name) if "\\x" in name else name


def plain_name(written: bytes, encoding: str, *, unquoted: bool = True) -> str:
    """A name out of a dump as a session in UTF-8 writes it: decoded from `encoding`, the dump's own, and without its
    quotes. Of a database that knows no encoding (SQL_ASCII) bytes that are not UTF-8 become surrogate escapes."""
    try:
        name = written.decode(codec_of(encoding))
    except (LookupError, UnicodeError):
        name = written.decode("utf-8", "surrogateescape")
    return name[1:-1].replace('""', '"') if unquoted and name.startswith('"') else name
