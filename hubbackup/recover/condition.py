"""`--where`: one SQL expression of the operator's, with his rights; that it is no more than that is seen to here.

It is put between parentheses. What could leave them (a parenthesis too many, a semicolon, a comment, a string without
an end) is refused here; then the server reads it, as one statement, before it is run.
"""

from __future__ import annotations

import re

from hubbackup.dump.identifiers import literal
from hubbackup.errors import UsageError

_TOKEN = re.compile(
    r"""(?P<blank>[ \t\n\r\f\v]+)"""
    r"""|(?P<comment>--|/\*)"""
    r"""|[eE]'(?:[^'\\]|''|\\.)*'"""
    r"""|'(?:[^']|'')*'"""
    r'''|"(?:[^"]|"")*"'''
    r"""|[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]*"""
    r"""|\$(?P<tag>(?:[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_\u0080-\U0010ffff]*)?)\$.*?\$(?P=tag)\$"""
    r"""|[0-9][0-9A-Za-z_.$]*"""
    r"""|(?P<mark>.)""",
    re.DOTALL,
)
_OPEN = {"'": "a string", "$": "a string", '"': "a quoted name"}
REMEDY = "write it as after WHERE in psql, such as: --where \"id > 100 AND nom LIKE 'A%'\""


def check(condition: str) -> str:
    """`condition`, if it can stand between parentheses. Raises UsageError."""
    depth = 0
    for token in _TOKEN.finditer(condition):
        mark = token["mark"] or ""
        depth += {"(": 1, ")": -1}.get(mark, 0)
        if token["comment"] or mark in ("\0", ";") or mark in _OPEN or depth < 0:
            raise _refused(condition, _why(token["comment"] or mark))
    if depth:
        raise _refused(condition, "a parenthesis is not closed")
    if not condition.strip():
        raise _refused(condition, "it is empty")
    return condition


def validation(*queries: str) -> str:
    """SQL that has the server read each query as one statement that returns rows, and run none."""
    lines = [f"OPEN one FOR EXECUTE {literal(query)}; CLOSE one;" for query in queries]
    return f"DO {literal('DECLARE one refcursor; BEGIN ' + ' '.join(lines) + ' END')};"


def _why(mark: str) -> str:
    if mark in _OPEN:
        return f"{_OPEN[mark]} in it has no end"
    known = {";": "a semicolon", ")": "a parenthesis that it has not opened", "\0": "a NUL"}
    return f"it has {known.get(mark, 'a comment')}"


def _refused(condition: str, why: str) -> UsageError:
    return UsageError(f"--where {condition} is not one condition: {why}", remedy=REMEDY)
