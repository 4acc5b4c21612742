"""Names and strings in SQL: quoted, and out of a dump in another encoding made readable."""

from __future__ import annotations

import re


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """An SQL string, whatever `standard_conforming_strings` says."""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f" E'{escaped}'" if "\\" in text else f"'{escaped}'"


def readable(name: str, encoding: str) -> str:
    """A name out of a dump that is not in UTF-8, as people read it.

    `encoding` is the dump's, by PostgreSQL's name; what can't be decoded has its bytes written out.
    """
    raw = name.encode("utf-8", "surrogateescape")
    try:
        return raw.decode(re.sub(r"\AWIN", "cp", encoding or "UTF8"))
    except (LookupError, UnicodeError):
        return raw.decode("utf-8", "backslashreplace")
