"""What a backup is to leave out: the tables that patterns match now, and what else hangs on them.

pg_dump alone makes dumps of it that no server takes: it keeps the partitions of a table that it leaves out, the views
and functions over it, and the foreign keys to it. So the patterns are looked up here, and pg_dump is given names.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from hubbackup.dump.identifiers import literal, raw_json
from hubbackup.dump.table_patterns import pattern_of, table_pattern
from hubbackup.errors import SettingsError, ToolError
from hubbackup.postgres import session
from hubbackup.postgres.session import Connection
from hubbackup.runners import Runner
from hubbackup.runners.stderr import sqlstate

INVALID_REGULAR_EXPRESSION = "2201B"
MOST_BYTES = 1 << 20
"""Of names in a command line, of which the kernel takes two megabytes."""
_VISIBLE = """\
DO 'BEGIN PERFORM pg_catalog.set_config(''hubbackup.visible'', coalesce((SELECT pg_catalog.string_agg(
    c.oid::pg_catalog.text, '','') FROM pg_catalog.pg_class AS c WHERE pg_catalog.pg_table_is_visible(c.oid)), ''''),
    false); END';
SET search_path = pg_catalog;
"""
"""An unqualified pattern means the search_path that the database gives, as it does to pg_dump; nothing else does."""
_SQL = """\
WITH RECURSIVE wanted (number, of_rows, schema_like, name_like) AS (VALUES {wanted}),
visible AS MATERIALIZED (
    SELECT unnest(string_to_array(nullif(current_setting('hubbackup.visible'), ''), ',')::oid[]) AS oid),
matched AS MATERIALIZED (
    SELECT w.number, w.of_rows, c.oid, c.relkind
    FROM wanted AS w JOIN pg_class AS c ON c.relname::text ~ w.name_like COLLATE "default"
    JOIN pg_namespace AS s ON s.oid = c.relnamespace
    WHERE c.relkind = ANY (CASE WHEN w.of_rows THEN '{{r,p,f,m}}' ELSE '{{r,p,f,m,v,S}}' END::"char"[])
      AND s.nspname !~ '^pg_' AND s.nspname <> 'information_schema'
      AND CASE WHEN w.schema_like IS NULL THEN c.oid IN (SELECT oid FROM visible)
               ELSE s.nspname::text ~ w.schema_like COLLATE "default" END),
tree (of_rows, oid) AS (
    SELECT of_rows, oid FROM matched
    UNION SELECT t.of_rows, i.inhrelid FROM tree AS t JOIN pg_inherits AS i ON i.inhparent = t.oid
    JOIN pg_class AS c ON c.oid = i.inhrelid AND c.relkind IN ('r', 'p', 'f')),
wished AS MATERIALIZED (SELECT DISTINCT oid FROM tree WHERE NOT of_rows),
types AS (
    SELECT t.oid, t.typrelid AS relation FROM pg_type AS t WHERE t.typrelid IN (SELECT oid FROM wished)
    UNION ALL SELECT t.typarray, t.typrelid FROM pg_type AS t
    WHERE t.typrelid IN (SELECT oid FROM wished) AND t.typarray <> 0),
needs AS MATERIALIZED (
    SELECT coalesce(CASE d.classid
            WHEN 'pg_class'::regclass THEN d.objid
            WHEN 'pg_rewrite'::regclass THEN (SELECT ev_class FROM pg_rewrite WHERE oid = d.objid)
            WHEN 'pg_constraint'::regclass THEN (SELECT conrelid FROM pg_constraint WHERE oid = d.objid)
            WHEN 'pg_attrdef'::regclass THEN (SELECT adrelid FROM pg_attrdef WHERE oid = d.objid)
            WHEN 'pg_policy'::regclass THEN (SELECT polrelid FROM pg_policy WHERE oid = d.objid)
            WHEN 'pg_trigger'::regclass THEN (SELECT tgrelid FROM pg_trigger WHERE oid = d.objid)
        END, 0) AS owner, d.classid, d.objid, d.relation
    FROM (SELECT classid, objid, deptype, refobjid AS relation FROM pg_depend
          WHERE refclassid = 'pg_class'::regclass AND refobjid IN (SELECT oid FROM wished)
          UNION ALL SELECT d.classid, d.objid, d.deptype, t.relation FROM pg_depend AS d
          JOIN types AS t ON d.refclassid = 'pg_type'::regclass AND d.refobjid = t.oid) AS d
    WHERE d.deptype = 'n'
      AND NOT (d.classid = 'pg_constraint'::regclass
               AND EXISTS (SELECT FROM pg_constraint WHERE oid = d.objid AND contype = 'f'))
    UNION ALL SELECT inhrelid, 'pg_class'::regclass, inhrelid, inhparent FROM pg_inherits
    WHERE inhparent IN (SELECT oid FROM wished)
    UNION ALL SELECT 0, 'pg_publication_rel'::regclass, oid, prrelid FROM pg_publication_rel
    WHERE prrelid IN (SELECT oid FROM wished)),
needed (oid) AS (
    SELECT relation FROM needs WHERE owner NOT IN (SELECT oid FROM wished)
    UNION SELECT n.relation FROM needs AS n JOIN needed ON n.owner = needed.oid),
gone AS MATERIALIZED (SELECT oid FROM wished EXCEPT SELECT oid FROM needed),
emptied AS MATERIALIZED (
    SELECT c.oid FROM pg_class AS c WHERE c.relkind IN ('r', 'p', 'f') AND c.oid IN (SELECT oid FROM needed)
    UNION SELECT oid FROM tree WHERE of_rows EXCEPT SELECT oid FROM gone),
lacking (oid) AS (
    SELECT oid FROM gone UNION SELECT oid FROM emptied
    UNION SELECT i.inhparent FROM lacking JOIN pg_inherits AS i ON i.inhrelid = lacking.oid),
named AS (
    SELECT c.oid, quote_ident(s.nspname) || '.' || quote_ident(c.relname) AS title, s.nspname, c.relname, c.relkind
    FROM pg_class AS c JOIN pg_namespace AS s ON s.oid = c.relnamespace)
SELECT {answer};
"""
_ANSWER = """\
jsonb_build_object(
    'idle', (SELECT coalesce(jsonb_agg(number ORDER BY number), '[]') FROM wanted
             WHERE number NOT IN (SELECT number FROM matched)),
    'gone', (SELECT coalesce(jsonb_agg(jsonb_build_array(title, nspname, relname) ORDER BY title), '[]')
             FROM gone JOIN named USING (oid)),
    'emptied', (SELECT coalesce(jsonb_agg(jsonb_build_array(title, nspname, relname) ORDER BY title), '[]')
                FROM emptied JOIN named USING (oid)),
    'needed', (SELECT coalesce(jsonb_agg(jsonb_build_array(title, by) ORDER BY title), '[]') FROM (
        SELECT title, min(CASE n.classid WHEN 'pg_rewrite'::regclass
                              THEN pg_describe_object('pg_class'::regclass, n.owner, 0)
                              ELSE pg_describe_object(n.classid, n.objid, 0) END) AS by
        FROM needed JOIN named USING (oid) JOIN needs AS n ON n.relation = needed.oid
        WHERE n.owner NOT IN (SELECT oid FROM gone) GROUP BY title) AS why),
    'foreign_keys', (SELECT coalesce(jsonb_agg(jsonb_build_array(title, quote_ident(conname))
                                               ORDER BY title, conname), '[]')
        FROM pg_constraint AS k JOIN named ON named.oid = k.conrelid
        WHERE k.contype = 'f' AND k.conparentid = 0 AND k.confrelid IN (SELECT oid FROM lacking)
          AND k.conrelid NOT IN (SELECT oid FROM gone) AND k.conrelid NOT IN (SELECT oid FROM emptied)),
    'kept', (SELECT count(*) FROM named WHERE relkind IN ('r', 'p') AND nspname !~ '^pg_'
             AND nspname <> 'information_schema' AND oid NOT IN (SELECT oid FROM gone)))"""


@dataclass(frozen=True)
class Relation:
    """A table or view: its name as pg_dump writes it, bytes that are not UTF-8 as surrogate escapes, and the pattern
    that it alone matches."""

    title: str
    pattern: str


@dataclass(frozen=True)
class Excluded:
    """What the patterns come to.

    `tables` are left out wholly, of `rows` only the rows, both with their partitions and children. `needed`: tables
    that were to be left out wholly, and what of the rest could not be restored without them: their rows alone are.
    `foreign_keys`: (table, constraint) of those that refer to what is left out, and so may not hold after a restore.
    `idle`: patterns that match nothing. `kept`: how many tables are left.
    """

    tables: tuple[Relation, ...] = ()
    rows: tuple[Relation, ...] = ()
    needed: tuple[tuple[str, str], ...] = ()
    foreign_keys: tuple[tuple[str, str], ...] = ()
    idle: tuple[str, ...] = ()
    kept: int = 0

    @property
    def options(self) -> list[str]:
        """For pg_dump. Raises SettingsError for more than a command line holds."""
        words = [f"--exclude-table={one.pattern}" for one in self.tables]
        words += [f"--exclude-table-data={one.pattern}" for one in self.rows]
        if sum(len(word.encode()) + 1 for word in words) > MOST_BYTES:
            raise SettingsError(
                f"BACKUP_EXCLUDE_TABLES and BACKUP_EXCLUDE_TABLE_DATA match {len(words):,} tables, more than fit into"
                " a command line",
                remedy="choose patterns that match fewer",
            )
        return words


def excluded(
    runner: Runner,
    connection: Connection,
    database: str,
    encoding: str,
    tables: Sequence[str],
    rows: Sequence[str],
) -> Excluded:
    """What these patterns of tables, and of tables' rows, match now. Raises SettingsError, HubbackupError."""
    patterns = [*((text, False) for text in tables), *((text, True) for text in rows)]
    wanted = []
    for number, (text, of_rows) in enumerate(patterns):
        pattern = table_pattern(text)
        schema = "NULL::text" if pattern.schema is None else literal(pattern.schema)
        wanted.append(f"({number}, {str(of_rows).lower()}, {schema}, {literal(pattern.name)})")
    query = _SQL.format(wanted=", ".join(wanted), answer=raw_json(_ANSWER))
    try:
        answer = session.sql(runner, connection, database, _VISIBLE + query, own_settings=True)
    except ToolError as error:
        if sqlstate(error.stderr) == INVALID_REGULAR_EXPRESSION:
            raise SettingsError(
                f"BACKUP_EXCLUDE_TABLES or BACKUP_EXCLUDE_TABLE_DATA has a pattern that is not valid: {error}",
                remedy='write it as for pg_dump --exclude-table: log_*, archive.*, "Odd Name"',
            ) from error
        raise
    found = json.loads(bytes.fromhex(answer).decode("utf-8", "surrogateescape"))
    return Excluded(
        tables=tuple(_relation(one, encoding) for one in found["gone"]),
        rows=tuple(_relation(one, encoding) for one in found["emptied"]),
        needed=tuple((title, by) for title, by in found["needed"]),
        foreign_keys=tuple((title, name) for title, name in found["foreign_keys"]),
        idle=tuple(patterns[number][0] for number in found["idle"]),
        kept=found["kept"],
    )


def _relation(found: Sequence[str], encoding: str) -> Relation:
    title, *names = found
    schema, name = (one.encode("utf-8", "surrogateescape") for one in names)
    return Relation(title, pattern_of(schema, name, encoding))
