"""What can be known beforehand of a database whose dump would not load, or would not hold all of it."""

from __future__ import annotations

import json

from hubbackup.doctor import Check, Diagnosis, each, ok, warn
from hubbackup.doctor.site import Site
from hubbackup.postgres import session
from hubbackup.postgres.client import some
from hubbackup.postgres.extensions import BOUND
from hubbackup.postgres.search_path import SEARCH_PATH_SQL, Dependent, dependents

COLLATION_VERSIONS_SINCE = 15

# pg_dump writes the unreserved word `begin` without quotes, and psql 14 and later takes `CREATE FUNCTION … begin`
# for the start of an SQL-standard body: it waits for an END that never comes, and the restore fails. Of views that
# read each other in a circle pg_dump can write none before the other; up to 15 every view's rule depends on the view
# itself, but on none of its columns.
_OBSTACLES = """\
SELECT jsonb_build_object(
    'begin', (SELECT coalesce(jsonb_agg(format('%I.%I', n.nspname, p.proname) ORDER BY 1), '[]')
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE (p.proname = 'begin' OR n.nspname = 'begin') AND p.prokind IN ('f', 'p', 'w')
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                          AND d.deptype = 'e')),
    'circles', (SELECT coalesce(jsonb_agg(DISTINCT ev_class::regclass::text), '[]')
        FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
        WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = ev_class AND deptype = 'n'
          AND d.refobjsubid > 0 AND ev_type = '1' AND ev_class >= 16384),
    'staged', (SELECT coalesce(jsonb_agg(jsonb_build_array(extname, datname)), '[]') FROM pg_extension
        JOIN (VALUES {bound}) AS bound (name, stage) ON name = extname JOIN pg_database ON datname = stage),
    'standby', pg_is_in_recovery(),
    'other_collation', {other_collation});
"""
_OTHER_COLLATION = """\
(SELECT datcollversion <> pg_database_collation_actual_version(oid) FROM pg_database
     WHERE datname = current_database())"""

LEFT_OUT_SQL = """\
WITH member AS (SELECT classid, objid, extname FROM pg_depend JOIN pg_extension e ON e.oid = refobjid
                WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass),
system AS (SELECT oid FROM pg_namespace WHERE nspname IN ('pg_catalog', 'information_schema'))
SELECT jsonb_build_object(
    'indexes', (SELECT coalesce(jsonb_agg(indexrelid::regclass::text ORDER BY 1), '[]')
        FROM pg_index JOIN pg_class c ON c.oid = indexrelid
        WHERE NOT indisvalid AND relkind = 'i' AND NOT relispartition AND relpersistence <> 't'),
    'unlogged', (SELECT coalesce(jsonb_agg(oid::regclass::text ORDER BY 1), '[]') FROM pg_class
        WHERE relpersistence = 'u' AND relkind = 'r' AND pg_is_in_recovery()),
    'misplaced', (SELECT coalesce(jsonb_agg(name ORDER BY 1), '[]') FROM (
        SELECT oid::regprocedure::text, 'pg_proc'::regclass, oid FROM pg_proc WHERE pronamespace IN (TABLE system)
        UNION ALL SELECT oid::regclass::text, 'pg_class'::regclass, oid FROM pg_class
            WHERE relnamespace IN (TABLE system) AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
        ) AS object (name, classid, oid)
        WHERE oid >= 16384 AND (classid, oid) NOT IN (SELECT classid, objid FROM member)),
    'ranges', (SELECT coalesce(jsonb_agg(DISTINCT refobjid::regtype::text), '[]') FROM pg_proc p
        JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND deptype = 'i'
        WHERE refclassid = 'pg_type'::regclass AND refobjid >= 16384 AND proacl <> acldefault('f', proowner)
          AND (d.classid, d.objid) NOT IN (SELECT classid, objid FROM member)),
    'of_extensions', (SELECT coalesce(jsonb_agg(format('%s (%s)', c.oid::regclass, extname) ORDER BY 1), '[]')
        FROM pg_class c JOIN member ON classid = 'pg_class'::regclass AND objid = c.oid
        WHERE relkind = 'r' AND relpersistence <> 't' AND pg_relation_size(c.oid) > 0
          AND NOT EXISTS (SELECT FROM pg_extension WHERE c.oid = ANY (extconfig))));
"""


def restorable(site: Site) -> Diagnosis:
    """The database holds nothing that a dump is known to break at; the server is one that can be restored to."""
    bound = ", ".join(f"('{name}', '{extension.stage}')" for name, extension in BOUND.items())
    versioned = site.properties.server_major >= COLLATION_VERSIONS_SINCE
    sql = _OBSTACLES.format(bound=bound, other_collation=_OTHER_COLLATION if versioned else "false")
    found = json.loads(session.sql(site.runner, site.connection, site.database, sql))
    problems = []
    if names := found["begin"]:
        problems.append(
            (
                f"functions named begin make a dump that psql 14 and later can't restore: {some(names)}",
                f"ALTER FUNCTION {names[0]} RENAME TO another name",
            )
        )
    if names := found["circles"]:
        problems.append(
            (
                f"views that read themselves can't be restored: {some(names)}",
                "write them as WITH RECURSIVE, or drop them",
            )
        )
    for name, stage in found["staged"]:
        problems.append(
            (
                f"a restore makes {name} in a database named {stage}, and there is one already",
                f"DROP DATABASE {stage}, if nobody needs it",
            )
        )
    if found["other_collation"]:
        problems.append(
            (
                "text is sorted otherwise than when this database was made (another version of its collation):"
                " a unique index may hold rows twice, and a restore of them fails",
                "REINDEX DATABASE, then ALTER DATABASE … REFRESH COLLATION VERSION",
            )
        )
    if found["standby"]:
        problems.append(
            (
                "the server is a standby: backups work, a long one may be cancelled by the primary's work,"
                " and nothing can be restored here",
                "raise max_standby_streaming_delay, or back up the primary; restore on the primary",
            )
        )
    if problems:
        return warn("; ".join(what for what, _ in problems), "; ".join(remedy for _, remedy in problems))
    return ok("nothing is in the database that would break a restore")


def search_path(site: Site) -> Diagnosis:
    """What a load runs of the database's functions needs no search_path: the dump empties it."""
    answer = session.sql(site.runner, site.connection, site.database, SEARCH_PATH_SQL, own_settings=True)
    found = dependents(json.loads(answer))
    if not found:
        return ok("no function that a restore runs needs a search_path")
    shown = some([f"{each.signature} for {each.used_by} ({each.why})" for each in found])
    if path := site.app.settings.restore_search_path:
        return ok(f"restores look in {path} (RESTORE_SEARCH_PATH) for what these functions name: {shown}")
    return warn(f"a dump is loaded with an empty search_path, and then these functions fail: {shown}", _remedy(found))


def _remedy(found: list[Dependent]) -> str:
    own = next((each for each in found if not each.extension), None)
    if own is None:
        return "set RESTORE_SEARCH_PATH to the schemas that they look in: functions of extensions can't be mended"
    return (
        f"ALTER FUNCTION {own.signature} SET search_path = the schemas that it looks in, or name them in its body;"
        " for backups that are there already: RESTORE_SEARCH_PATH"
    )


def left_out(site: Site) -> Diagnosis:
    """What pg_dump passes over without a word; docs/limits.md has what it never holds."""
    found = json.loads(session.sql(site.runner, site.connection, site.database, LEFT_OUT_SQL))
    problems = [
        (sentence.format(some(found[kind])), remedy)
        for kind, sentence, remedy in (
            ("indexes", "invalid indexes {}", "REINDEX or DROP INDEX what a failed CREATE INDEX CONCURRENTLY left"),
            ("unlogged", "the rows of unlogged tables, on a standby: {}", "back up the primary, if they matter"),
            (
                "ranges",
                "rights on the functions of range types: {}",
                "after a restore, REVOKE what PUBLIC may do there",
            ),
            ("misplaced", "what was made in PostgreSQL's own schemas: {}", "move it to a schema of your own"),
        )
        if found[kind]
    ]
    if problems:
        return warn(
            f"not in a backup: {'; '.join(what for what, _ in problems)}", "; ".join(remedy for _, remedy in problems)
        )
    if names := found["of_extensions"]:
        return ok(f"of tables that extensions keep to themselves no row is in a backup: {some(names)}")
    return ok("all of the database is in a backup (docs/limits.md has what no dump holds)")


CHECKS = [
    Check("restorable", each(restorable), needs=("database",)),
    Check("search path", each(search_path), needs=("database",)),
    Check("left out", each(left_out), needs=("database",)),
]
