"""What two databases are compared by: all that a backup has to bring back, small enough to keep and to read.

`fingerprint.sql` asks the server; this module reads its lines and tells the differences.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from pathlib import Path

from tests.support import Psql

SCRIPT = Path(__file__).with_suffix(".sql")


@dataclass(frozen=True)
class Rows:
    """The content of one table, whatever the order of its rows."""

    count: int
    digest: str

    def __str__(self) -> str:
        return f"{self.count} rows, digest {self.digest}"


@dataclass(frozen=True)
class Fingerprint:
    """A database as `fingerprint` found it; two are equal when a restore could not have done better.

    Each mapping goes from a name as SQL writes it (`public.chantiers`, `index public."Index d'expression"`)
    to what there is to say of it. `database` is what a plain dump lacks: owner, encoding, grants, settings.
    """

    database: Mapping[str, str] = field(default_factory=dict)
    schema: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, Rows] = field(default_factory=dict)
    sequences: Mapping[str, str] = field(default_factory=dict)
    large_objects: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """One sha256 over everything, for a log line or a manifest."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def row_counts(self) -> dict[str, int]:
        """Rows per table, the materialized views included."""
        return {name: rows.count for name, rows in self.rows.items()}


def fingerprint(psql: Psql, database: str) -> Fingerprint:
    """Read a whole database, every row of it, and return its fingerprint. Nothing in it is changed."""
    sections: dict[str, dict[str, str]] = {}
    output = psql(SCRIPT.read_text(encoding="utf-8"), database=database)
    for line in output.split("\n"):  # splitlines() would split at U+2028, too
        entry = json.loads(line)
        section = sections.setdefault(entry["section"], {})
        if entry["name"] in section:
            raise AssertionError(f"two entries named {entry['name']!r} in the fingerprint of {database!r}")
        section[entry["name"]] = entry["value"]
    contents = {name: value.split(" ") for name, value in sections.get("rows", {}).items()}
    return Fingerprint(
        database=sections.get("database", {}),
        schema=sections.get("schema", {}),
        rows={name: Rows(count=int(count), digest=digest) for name, (count, digest) in contents.items()},
        sequences=sections.get("sequences", {}),
        large_objects=sections.get("large objects", {}),
    )


def diff(expected: Fingerprint, found: Fingerprint, *, properties: bool = True) -> list[str]:
    """One line for each difference, none when the two are alike.

    `properties=False` passes over the database's own owner, encoding, grants and settings, which a plain dump
    restored by psql alone cannot bring back.
    """
    return [
        *(_differences("database", expected.database, found.database) if properties else ()),
        *_differences("schema", expected.schema, found.schema),
        *_differences("rows", expected.rows, found.rows),
        *_differences("sequence", expected.sequences, found.sequences),
        *_differences("large object", expected.large_objects, found.large_objects),
    ]


def _differences(section: str, expected: Mapping[str, object], found: Mapping[str, object]) -> Iterator[str]:
    for name in sorted(expected.keys() | found.keys()):
        where = f"{section}: {name}"
        if name not in found:
            yield f"{where}: missing, was {_short(str(expected[name]))}"
        elif name not in expected:
            yield f"{where}: not expected, is {_short(str(found[name]))}"
        elif expected[name] != found[name]:
            was, now = _parts_that_differ(str(expected[name]), str(found[name]))
            yield f"{where}: was {was}, is {now}"


def _parts_that_differ(one: str, other: str, context: int = 40) -> tuple[str, str]:
    """The two texts without what they begin and end with alike, but for some characters of context."""
    if len(one) + len(other) <= 4 * context:
        return _short(one), _short(other)
    head = _length_in_common(one, other)
    tail = _length_in_common(one[head:][::-1], other[head:][::-1])
    start = max(0, head - context)
    ends = (len(one) - tail + context, len(other) - tail + context)
    return _short(one[start : ends[0]]), _short(other[start : ends[1]])


def _length_in_common(one: str, other: str) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _short(text: str, limit: int = 240) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= limit else f"{text[:limit]}…")
