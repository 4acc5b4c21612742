"""The tokens of a short SQL text that is held whole: names, strings, numbers and marks, as PostgreSQL reads them.

For text of a known maker, a few kilobytes at most: the head of a statement, the globals of `pg_dumpall`. A dump is
read by `dump_lexer`, which never holds more than a chunk.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

_TOKEN = re.compile(
    r"(?P<blank>(?:[ \t\n\r\f\v]|--[^\n\r]*)+|(?m:^)\\(?:un)?restrict [0-9A-Za-z]+(?m:$))"
    r'|(?P<quoted>"(?:[^"\0]|"")+")'
    r"|(?P<escaped>[eE]'(?:[^'\\\0]|''|\\[^\0])*')"
    r"|(?P<string>'(?:[^'\0]|'')*')"
    r"|(?P<word>[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]*)"
    r"|(?P<number>[0-9]+(?:\.[0-9]+)?)"
    r"|(?P<mark>[^\0])",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)|''", re.DOTALL)


class Token(NamedTuple):
    """One token. `text` is its value: a name without its quotes, a string as it is meant; a word as it is written."""

    kind: Literal["word", "name", "string", "number", "mark"]
    text: str

    def is_word(self, *words: str) -> bool:
        """Whether it is one of these keywords (in capitals). A quoted name never is one."""
        return self.kind == "word" and self.text.upper() in words

    @property
    def identifier(self) -> str:
        """The name that it stands for, folded as the server does; empty for what is not a name."""
        if self.kind == "word":
            return re.sub(r"[A-Z]+", lambda upper: upper[0].lower(), self.text)
        return self.text if self.kind == "name" else ""


def tokens(text: str) -> list[Token]:
    """The tokens of `text`; what is cut at its end comes as single marks. Blanks, comments and the lines
    `\\restrict KEY` and `\\unrestrict KEY`, which pg_dumpall brackets its text with, are none.

    A backslash in an E'' string is undone only for `\\\\` and `\\'`, which is all that PostgreSQL's own tools write.
    """
    found: list[Token] = []
    for match in _TOKEN.finditer(text):
        kind, raw = match.lastgroup, match[0]
        if kind == "quoted":
            found.append(Token("name", raw[1:-1].replace('""', '"')))
        elif kind == "escaped":
            found.append(Token("string", _ESCAPE.sub(lambda escape: escape[1] or "'", raw[2:-1])))
        elif kind == "string":
            found.append(Token("string", raw[1:-1].replace("''", "'")))
        elif kind == "word":
            found.append(Token("word", raw))
        elif kind == "number":
            found.append(Token("number", raw))
        elif kind == "mark":
            found.append(Token("mark", raw))
    return found


def statements(text: str) -> list[list[Token]]:
    """The tokens of each statement, without its semicolon; what follows the last semicolon is one, too."""
    found: list[list[Token]] = [[]]
    for token in tokens(text):
        if token == Token("mark", ";"):
            found.append([])
        else:
            found[-1].append(token)
    return [statement for statement in found if statement]
