"""The statements that pg_dump writes, told by their first words: all others are refused.

What counts here is what psql's own scanner goes by (`standard_conforming_strings`, `client_encoding`), and what
would run without being part of the schema (`DO`, `CALL`, a `SELECT` of anything). Bodies of functions and views
are not looked at: a dump may hold any code, and whoever restores it runs it.
"""

from __future__ import annotations

import re

MANY, MAYBE = rb"|(?!))*+", rb"|(?!))?+"
"""Close a group `(?:…` that is repeated, or may be absent, and is not given back for anything that follows.

Before 3.11.5 (Debian 12 has 3.11.2) Python went on behind what the last try of such a group had matched in part
(gh-106052). The alternative that never matches is tried last, and begins where the group does.
"""
WORD = rb"[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*+"
"""An unquoted name, as psql's scanner reads it."""
NAME = rb'(?:"(?:[^"]|""' + MANY + rb'"|' + WORD + rb")"

SERVER_ENCODINGS = frozenset(
    b"SQL_ASCII EUC_JP EUC_CN EUC_KR EUC_TW EUC_JIS_2004 UTF8 MULE_INTERNAL LATIN1 LATIN2 LATIN3 LATIN4 LATIN5 LATIN6"
    b" LATIN7 LATIN8 LATIN9 LATIN10 WIN1250 WIN1251 WIN1252 WIN1253 WIN1254 WIN1255 WIN1256 WIN1257 WIN1258 WIN866"
    b" WIN874 KOI8R KOI8U ISO_8859_5 ISO_8859_6 ISO_8859_7 ISO_8859_8".split()
)
"""Those that a database can have. In the others (SJIS, GBK, BIG5 …) a quote or a backslash can be half a letter."""

COPY = re.compile(
    rb"COPY ("
    + NAME
    + rb"\."
    + NAME
    + rb"|"
    + NAME
    + rb") (?:\("
    + NAME
    + rb"(?:, "
    + NAME
    + MANY
    + rb"\))? ?FROM stdin"
)
"""pg_dump's only form, whole; the group is the table's name."""

_VERBS = frozenset(
    b"ALTER BEGIN COMMENT COMMIT COPY CREATE DROP GRANT INSERT REFRESH RESET REVOKE SECURITY SELECT SET"
    b" UPDATE".split()
)
_WHOLE = {
    b"BEGIN": re.compile(rb"BEGIN"),
    b"COMMIT": re.compile(rb"COMMIT"),
    b"RESET": re.compile(rb"RESET SESSION AUTHORIZATION"),
}
_PRIVILEGE = rb"[A-Z]+(?: PRIVILEGES| SYSTEM)?(?: ?\(" + NAME + rb"(?:, ?" + NAME + MANY + rb"\))?"
_PRIVILEGES = _PRIVILEGE + rb"(?:, ?" + _PRIVILEGE + MANY + rb" ON "
_STARTS = {
    b"COMMENT": re.compile(rb"COMMENT ON "),
    b"GRANT": re.compile(rb"GRANT " + _PRIVILEGES),
    b"INSERT": re.compile(rb"INSERT INTO "),
    b"REFRESH": re.compile(rb"REFRESH MATERIALIZED VIEW "),
    b"REVOKE": re.compile(rb"REVOKE (?:GRANT OPTION FOR )?" + _PRIVILEGES),
    b"SECURITY": re.compile(rb"SECURITY LABEL "),
    b"SELECT": re.compile(
        rb"SELECT (?:pg_catalog\.(?:setval|lo_create|lo_open|lowrite|lo_close|lo_unlink)\("
        rb"|\* FROM pg_catalog\.pg_(?:restore|clear)_(?:relation|attribute|extended)_stats\()"
    ),
    b"SET": re.compile(rb"SET (?:[a-z_]+(?:\.[a-z_]+)? = |SESSION AUTHORIZATION |ROLE )"),
    b"UPDATE": re.compile(rb"UPDATE pg_catalog\.pg_database SET datistemplate = "),
}
_OBJECT = (
    rb"(?:(?:CREATE|ALTER|DROP|COMMENT ON|SECURITY LABEL (?:FOR " + NAME + rb" )?ON) "
    rb"|(?:GRANT|REVOKE(?: GRANT OPTION FOR)?) " + _PRIVILEGES + rb")"
)
_SERVER_WIDE = re.compile(_OBJECT + rb"(?:SYSTEM|ROLE|GROUP|TABLESPACE|PARAMETER|USER(?! MAPPING))\s")
_OF_DATABASE = re.compile(_OBJECT + rb"DATABASE\s|UPDATE ")
_SCANNER_SETTING = re.compile(rb"SET (?:standard_conforming_strings|client_encoding) ")
_SEARCH_PATH = b"SELECT pg_catalog.set_config('', '', false)"


def standard_strings(statement: bytes) -> bool | None:
    """Whether a backslash is a plain character in strings from now on; None where the statement does not say."""
    return {
        b"SET standard_conforming_strings = on": True,
        b"SET standard_conforming_strings = off": False,
    }.get(statement)


def misreads(statement: bytes, first_string: bytes) -> str:
    """What in it would make psql read on in another way than the lexer; empty where nothing would.

    `statement` has its strings emptied, `first_string` is what stood in the first of them.
    """
    verb = _verb(statement).upper()
    if verb == b"SELECT" and b"set_config" in statement.lower():
        allowed = statement == _SEARCH_PATH and first_string == b"search_path"
        return "" if allowed else "it calls set_config in another way than pg_dump does"
    if verb not in (b"SET", b"RESET", b"DISCARD") or standard_strings(statement) is not None:
        return ""
    if statement == b"SET client_encoding = ''":
        if first_string in SERVER_ENCODINGS:
            return ""
        return (
            f"it is written in {first_string.decode('ascii', 'replace') or 'an unknown encoding'},"
            " which no database can have, and which psql can read otherwise than it was meant"
        )
    if not is_of_pg_dump(statement) or _SCANNER_SETTING.match(statement):
        return "it has a SET or RESET that pg_dump does not write"
    return ""


def is_of_pg_dump(statement: bytes) -> bool:
    """Whether pg_dump writes statements that begin so. What psql must read rightly is for `misreads` to say."""
    verb = _verb(statement)
    if verb not in _VERBS or _SERVER_WIDE.match(statement):
        return False
    if whole := _WHOLE.get(verb):
        return whole.fullmatch(statement) is not None
    start = _STARTS.get(verb)
    return start is None or start.match(statement) is not None or statement == _SEARCH_PATH


def is_of_a_database(statement: bytes) -> bool:
    """Whether it makes, changes or removes a database: only `pg_dump --create` writes such."""
    return _OF_DATABASE.match(statement) is not None


def _verb(statement: bytes) -> bytes:
    return statement.split(None, 1)[0] if statement else b""
