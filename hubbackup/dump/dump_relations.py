"""What a dump's schema makes that people take for a table: its kind, and which partitions belong to which table.

From pg_dump's own statements, one at a time. Names are as the keys of `DumpFacts.rows` are, bytes that are not UTF-8
as surrogate escapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hubbackup.dump.dump_statements import NAME

_TABLE = NAME + rb"(?:\." + NAME + rb")?"
_CREATE = re.compile(rb"CREATE (?:UNLOGGED )?(TABLE|VIEW|FOREIGN TABLE|MATERIALIZED VIEW) (" + _TABLE + rb")[ \n]")
_ATTACH = re.compile(rb"ALTER TABLE ONLY (" + _TABLE + rb") ATTACH PARTITION (" + _TABLE + rb") ")
_PARTITIONED = re.compile(rb"\)\nPARTITION BY [^\n]*;\s*\Z")
KINDS = {
    b"TABLE": "table",
    b"VIEW": "view",
    b"FOREIGN TABLE": "foreign table",
    b"MATERIALIZED VIEW": "materialized view",
}


class Relations:
    """Takes the statements of a schema. `kinds` has `partitioned table` beside those above."""

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}
        self._partitions: dict[str, list[str]] = {}

    def add(self, statement: bytes) -> None:
        """One statement, with its semicolon."""
        if made := _CREATE.match(statement):
            partitioned = made[1] == b"TABLE" and _PARTITIONED.search(statement, max(0, len(statement) - 4096))
            self.kinds[_text(made[2])] = "partitioned table" if partitioned else KINDS[made[1]]
        elif attached := _ATTACH.match(statement):
            self.kinds[_text(attached[1])] = "partitioned table"
            self._partitions.setdefault(_text(attached[1]), []).append(_text(attached[2]))

    def with_leaves(self, table: str) -> Iterator[str]:
        """The table itself, and below a partitioned one its partitions, theirs, and so on."""
        yield table
        for partition in self._partitions.get(table, ()):
            yield from self.with_leaves(partition)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
