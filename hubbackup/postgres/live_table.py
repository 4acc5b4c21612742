"""A table as the live database has it now: its columns, and what tells its rows from one another."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hubbackup.dump.identifiers import literal, quoted


@dataclass(frozen=True)
class Column:
    """A column; `is_generated` from others, `identity` as pg_attribute has it (`a`: always)."""

    name: str
    is_generated: bool = False
    identity: str = ""


@dataclass(frozen=True)
class KeyColumn:
    """A column of a key, and the operator (`OPERATOR(pg_catalog.=)`) by which the key holds two values for one."""

    name: str
    equals: str = "OPERATOR(pg_catalog.=)"


@dataclass(frozen=True)
class Key:
    """Columns that tell rows apart. `is_sure`: the server sees to it that no two rows have the same."""

    columns: tuple[KeyColumn, ...]
    title: str
    is_sure: bool = True


@dataclass(frozen=True)
class FillingSequence:
    """A sequence that fills a column by default. `problem`: why we may not set it."""

    column: str
    name: str
    increment: int
    may_set: bool


@dataclass(frozen=True)
class LiveTable:
    """`kind` is in words; `sql` names it in a query, with ONLY unless its partitions belong to it."""

    schema: str
    name: str
    kind: str
    columns: tuple[Column, ...]
    keys: tuple[Key, ...]
    sequences: tuple[FillingSequence, ...]
    may_make_temporary: bool
    in_recovery: bool

    @property
    def sql(self) -> str:
        """For FROM and UPDATE."""
        return f"{'' if self.kind == 'partitioned table' else 'ONLY '}{self.into}"

    @property
    def into(self) -> str:
        """For INSERT INTO."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    def column(self, name: str) -> Column | None:
        """The one of that name."""
        return next((column for column in self.columns if column.name == name), None)


KINDS = {
    "r": "table",
    "p": "partitioned table",
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
    "S": "sequence",
    "c": "composite type",
}

_QUERY = """\
SELECT jsonb_build_object('kind', c.relkind,
    'may_make_temporary', has_database_privilege(current_database(), 'TEMPORARY'),
    'in_recovery', pg_is_in_recovery(),
    'columns', (SELECT coalesce(jsonb_agg(jsonb_build_array(attname, attgenerated <> '', attidentity)
                                ORDER BY attnum), '[]')
                FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
    'keys', (SELECT coalesce(jsonb_agg(jsonb_build_object('title', CASE WHEN i.indisprimary THEN 'the primary key'
            ELSE 'the unique index ' || ic.relname END, 'columns', (
                SELECT jsonb_agg(jsonb_build_array(a.attname, n.nspname, o.oprname) ORDER BY k.place)
                FROM unnest(i.indkey::int2[], i.indclass::oid[]) WITH ORDINALITY k (attnum, opclass, place)
                JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
                JOIN pg_opclass oc ON oc.oid = k.opclass
                JOIN pg_amop am ON am.amopfamily = oc.opcfamily AND am.amopstrategy = 3
                    AND am.amoplefttype = oc.opcintype AND am.amoprighttype = oc.opcintype
                JOIN pg_operator o ON o.oid = am.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace
                WHERE k.place <= i.indnkeyatts)) ORDER BY i.indisprimary DESC, i.indnkeyatts, ic.relname), '[]')
        FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_am m ON m.oid = ic.relam
        WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND m.amname = 'btree'
          AND i.indpred IS NULL AND i.indexprs IS NULL
          AND NOT EXISTS (SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, place)
              JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
              WHERE k.place <= i.indnkeyatts AND (NOT a.attnotnull OR EXISTS (SELECT FROM pg_constraint
                  WHERE conrelid = c.oid AND contype = 'n' AND conkey = ARRAY[a.attnum] AND NOT convalidated)))),
    'sequences', (SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_array(a.attname, s.seqrelid::regclass,
            s.seqincrement, has_sequence_privilege(s.seqrelid, 'UPDATE')
            AND has_sequence_privilege(s.seqrelid, 'SELECT'))), '[]')
        FROM pg_attribute a
        LEFT JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
        JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
                AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype = 'i'
            OR d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass
        JOIN pg_sequence s ON s.seqrelid = CASE d.deptype WHEN 'i' THEN d.objid ELSE d.refobjid END
        WHERE a.attrelid = c.oid AND a.attnum > 0
          AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = {schema} AND c.relname = {name}
"""
"""Under a pinned search_path, so that each name in it is PostgreSQL's, and regclass names others in full.

A column that is NOT NULL but NOT VALID, as from PostgreSQL 18, has `attnotnull` too, and may hold a NULL.
"""


def query(schema: str, name: str) -> str:
    """What answers with the table; with nothing where there is none."""
    return _QUERY.format(schema=literal(schema), name=literal(name))


def from_answer(schema: str, name: str, answer: str) -> LiveTable:
    """The table out of the answer."""
    facts: dict[str, Any] = json.loads(answer)
    return LiveTable(
        schema,
        name,
        KINDS.get(facts["kind"], "index"),
        tuple(Column(column, generated, identity) for column, generated, identity in facts["columns"]),
        tuple(_keys(facts["keys"])),
        tuple(FillingSequence(*found) for found in facts["sequences"]),
        facts["may_make_temporary"],
        facts["in_recovery"],
    )


def _keys(found: Sequence[dict[str, Any]]) -> Iterator[Key]:
    for key in found:
        columns = key["columns"] or ()
        named = tuple(
            KeyColumn(column, f"OPERATOR({quoted(schema)}.{operator})") for column, schema, operator in columns
        )
        if named:
            yield Key(named, key["title"])
