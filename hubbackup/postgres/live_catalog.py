"""SQL that asks a live database for its tables: which there are, how many rows each has, and what one looks like.

Names come as JSON in hexadecimal digits (`raw_json`), in the database's own encoding.
"""

from __future__ import annotations

from hubbackup.dump.identifiers import literal, raw_json
from hubbackup.postgres import pins

BEGIN = "SET row_security = off;\nSET lock_timeout = '60s';\nBEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\n"
"""One snapshot; a table whose rows are hidden from the role is an error, and a lock is not waited for forever."""
_FROM = "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
_DUMPED = """c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
    AND (c.oid IN (SELECT unnest(extconfig) FROM pg_extension) OR NOT EXISTS (SELECT FROM pg_depend
        WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e'))"""
"""Tables that pg_dump dumps the rows of; of an extension's own those that it keeps its users' settings in."""
_NAMES = raw_json("coalesce(jsonb_agg(jsonb_build_array(c.oid::int8, n.nspname, c.relname)), '[]')")
_OWN_PATH = literal(f"DO {literal(f'BEGIN {pins.OWN_PATH} END')}")
COUNT_SQL = f"""\
SET client_encoding = 'SQL_ASCII';
{pins.KEEP_PATH}{BEGIN}SELECT getdatabaseencoding();
SELECT {_NAMES} {_FROM} WHERE {_DUMPED};
SELECT text FROM (SELECT 0 AS n, {_OWN_PATH} AS text UNION ALL
SELECT 1, format('SELECT %s, pg_catalog.count(*) FROM ONLY %I.%I %s', c.oid, n.nspname, c.relname,
    (SELECT extcondition[array_position(extconfig, c.oid)] FROM pg_extension WHERE c.oid = ANY (extconfig)))
{_FROM} WHERE {_DUMPED}) q ORDER BY n \\gexec
COMMIT;
"""
"""The encoding, the names, then a line `oid|rows` of each; names go back to the server as its own bytes. For sessions
with the database's own settings: planning a count may look into functions that its users wrote."""
TABLES_SQL = f"""\
SELECT getdatabaseencoding();
SELECT {_NAMES} {_FROM} WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
    AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_';
"""
_COLUMNS = """(SELECT coalesce(jsonb_agg(attname ORDER BY attnum), '[]') FROM pg_attribute
    WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped AND attgenerated = '')"""
_KEY = """(SELECT coalesce(jsonb_agg(attname ORDER BY place), '[]')
    FROM pg_index, unnest(indkey) WITH ORDINALITY k (number, place) JOIN pg_attribute ON attnum = number
    WHERE attrelid = c.oid AND indrelid = c.oid AND indisprimary AND place <= indnkeyatts)"""
_LEAVES = f"""(SELECT coalesce(jsonb_agg(jsonb_build_object('schema', ln.nspname, 'name', l.relname,
        'columns', {_COLUMNS.format(oid="l.oid")})), '[]')
    FROM pg_partition_tree(c.oid) JOIN pg_class l ON l.oid = relid JOIN pg_namespace ln ON ln.oid = l.relnamespace
    WHERE c.relkind = 'p' AND isleaf AND l.relkind = 'r')"""
_TABLE = raw_json(
    "jsonb_agg(jsonb_build_object('schema', n.nspname, 'name', c.relname, 'kind', c.relkind,"
    f" 'columns', {_COLUMNS.format(oid='c.oid')}, 'key', {_KEY}, 'leaves', {_LEAVES}))"
)


def table_sql(oid: int) -> str:
    """One table's names, kind, columns (but generated ones), primary key, and below a partitioned one its leaves."""
    return f"SELECT coalesce({_TABLE}, '5b5d') {_FROM} WHERE c.oid = {int(oid)};\n"  # `[]`: it is gone
