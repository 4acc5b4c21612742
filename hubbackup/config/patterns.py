"""Lists of pg_dump's patterns of tables: divided at commas, and refused where pg_dump would take them for another."""

from __future__ import annotations

import re

_PIECE = re.compile(r'"(?:[^"]|"")*"|\{[0-9]*,?[0-9]*\}|\[[^\]]*\]|[^,]', re.DOTALL)
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


def table_patterns(value: str) -> tuple[str, ...]:
    """`log_*, archive.*, "Odd, Name"`, one by one. Raises ValueError with what is wrong, as the end of a sentence."""
    found: list[str] = [""]
    position = 0
    while position < len(value):
        piece = _PIECE.match(value, position)
        if piece is None:
            found.append("")
            position += 1
            continue
        found[-1] += piece[0]
        position = piece.end()
    patterns = tuple(text for one in found if (text := one.strip()))
    for text in patterns:
        bare = _QUOTED.sub("x", text)
        if '"' in bare:
            raise ValueError(f"has a quote without its other one, in {text}")
        if bare.count(".") > 1:
            raise ValueError(f"has a pattern of more than schema.table: {text}")
        if bare.startswith(".") or bare.endswith("."):
            raise ValueError(f"has a pattern with an empty name: {text}")
        if not text.isprintable():
            raise ValueError("has a character that can't be printed")
    return patterns
