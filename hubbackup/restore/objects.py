"""What a dump makes behind its rows, asked for in the restored database: each index, constraint and trigger by name.

psql ended without an error, so that all of it was made. This says so of the result: whatever loaded it, in whichever
order, and whatever code of the database's own has run meanwhile.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence

from hubbackup.dump.identifiers import literal, readable
from hubbackup.dump.statement_kinds import Attached, Constraint, Index, Trigger, beside, plain
from hubbackup.errors import NotProvenError
from hubbackup.load.dump_text import DumpReading
from hubbackup.postgres.databases import Databases

BATCH = 500
SHOWN = 5
_INDEXES = """\
SELECT coalesce(jsonb_agg(jsonb_build_array(v.n, CASE WHEN i.indexrelid IS NULL THEN 'is missing'
                                             ELSE 'is not valid' END)), '[]')
FROM (VALUES {}) AS v (n, name, other, whole)
LEFT JOIN pg_index AS i ON i.indexrelid = to_regclass(v.name) AND i.indrelid = to_regclass(v.other)
WHERE i.indexrelid IS NULL OR v.whole AND NOT (i.indisvalid AND i.indisready AND i.indislive);
"""
_CONSTRAINTS = """\
SELECT coalesce(jsonb_agg(jsonb_build_array(v.n, CASE WHEN k.oid IS NULL THEN 'is missing'
    WHEN i.indexrelid IS NOT NULL THEN 'has an index that is not valid'
    WHEN k.convalidated THEN 'is validated, and was not' ELSE 'is not validated' END)), '[]')
FROM (VALUES {}) AS v (n, name, other, whole, kind)
LEFT JOIN pg_constraint AS k ON k.conrelid = to_regclass(v.other) AND k.conname = v.name::name AND k.contype = v.kind
LEFT JOIN pg_index AS i ON i.indexrelid = k.conindid AND k.contype <> 'f' AND NOT i.indisvalid
    AND (SELECT relkind FROM pg_class WHERE oid = i.indexrelid) <> 'I'
WHERE k.oid IS NULL OR i.indexrelid IS NOT NULL OR k.convalidated <> v.whole;
"""
_TRIGGERS = """\
SELECT coalesce(jsonb_agg(jsonb_build_array(v.n, 'is missing')), '[]')
FROM (VALUES {}) AS v (n, name, other, whole)
WHERE NOT EXISTS (SELECT FROM pg_trigger AS t
                  WHERE t.tgrelid = to_regclass(v.other) AND t.tgname = v.name::name AND NOT t.tgisinternal);
"""
_ATTACHED = """\
SELECT coalesce(jsonb_agg(jsonb_build_array(v.n, 'is not attached')), '[]')
FROM (VALUES {}) AS v (n, name, other, whole)
WHERE NOT EXISTS (SELECT FROM pg_inherits AS a
                  WHERE a.inhrelid = to_regclass(v.name) AND a.inhparent = to_regclass(v.other));
"""
_LETTERS = {"PRIMARY KEY": "p", "UNIQUE": "u", "EXCLUDE": "x", "FOREIGN KEY": "f", "CHECK": "c", "NOT NULL": "n"}

Object = Index | Constraint | Trigger | Attached


def check_objects(databases: Databases, database: str, reading: DumpReading, encoding: str = "") -> dict[str, int]:
    """Demand that all of them are there and valid; returns how many there are of each kind.

    Raises NotProvenError naming the first that are not.
    """
    wanted = [post.made for post in reading.post if isinstance(post.made, Index | Constraint | Trigger | Attached)]
    asked: list[tuple[str, Sequence[Object]]] = []
    for query, kind in ((_INDEXES, Index), (_CONSTRAINTS, Constraint), (_TRIGGERS, Trigger), (_ATTACHED, Attached)):
        of_kind = [made for made in wanted if isinstance(made, kind)]
        asked += ((query, of_kind[start : start + BATCH]) for start in range(0, len(of_kind), BATCH))
    if not asked:
        return {}
    answer = databases.sql("".join(_filled(*each) for each in asked), database, encoding)  # one session for all
    problems = [
        problem
        for (_, made), line in zip(asked, answer.splitlines(), strict=True)
        for problem in _wrong(made, line, encoding)
    ]
    if problems:
        more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise NotProvenError(
            f"not all that the dump makes is in the restored database: {'; '.join(problems[:SHOWN])}{more}",
            remedy="look into the database's log for what removed it; the live database is as it was",
        )
    return dict(Counter(_title(made) for made in wanted))


def _filled(query: str, wanted: Sequence[Object]) -> str:
    return query.format(", ".join(f"({number}, {_columns(made)})" for number, made in enumerate(wanted)))


def _wrong(wanted: Sequence[Object], line: str, encoding: str) -> Iterator[str]:
    """A few words for each one that is not as the dump has it."""
    for number, problem in sorted(json.loads(line)):
        made = wanted[number]
        name = made.child if isinstance(made, Attached) else made.name
        where = made.parent if isinstance(made, Attached) else made.table
        yield readable(f"{_title(made)} {name} of {where} {problem}", encoding)


def _columns(made: Object) -> str:
    """Of a row of VALUES: its name, whom it belongs to, whether it is to be valid, and a constraint's kind."""
    if isinstance(made, Attached):
        return f"{literal(made.child)}, {literal(made.parent)}, true"
    if isinstance(made, Index):
        # A partitioned index is valid once all its parts are attached, which the dump's own may not have been.
        return f"{literal(beside(made.table, made.name))}, {literal(made.table)}, {str(not made.only).lower()}"
    name = f"{literal(plain(made.name))}, {literal(made.table)}"
    if isinstance(made, Trigger):
        return f"{name}, true"
    return f"{name}, {str(made.valid).lower()}, '{_LETTERS[made.kind]}'"


def _title(made: Object) -> str:
    if isinstance(made, Constraint):
        return "constraint" if made.kind in ("CHECK", "NOT NULL") else made.kind.lower()
    if isinstance(made, Attached):
        return "part of an index" if made.of_index else "partition"
    return "index" if isinstance(made, Index) else "trigger"
