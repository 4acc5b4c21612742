"""What the sessions that gather statistics say: the bodies of DO blocks, and a question."""

from __future__ import annotations

HEAD_START = """
DECLARE
    tables text[] := {tables};
    wanted float8[] := {rows};
    started timestamptz := clock_timestamp();
    loading boolean;
    was_loading boolean := false;
    full_now boolean;
    number int := 1;
    found regclass;
    name text;
BEGIN
    LOOP
        SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                       AND application_name = current_setting('application_name') || '{suffix}') INTO loading;
        was_loading := was_loading OR loading;
        WHILE number <= cardinality(tables) LOOP
            full_now := true;
            BEGIN
                found := to_regclass(tables[number]);
                name := found;
                SELECT coalesce(pg_relation_size(found), 0) > 0 AND NOT EXISTS (SELECT FROM pg_locks
                    WHERE relation = found AND mode = 'RowExclusiveLock' AND database =
                    (SELECT oid FROM pg_database WHERE datname = current_database())) INTO full_now;
                IF full_now AND EXISTS (SELECT FROM pg_inherits WHERE found IN (inhrelid, inhparent)) THEN
                    PERFORM set_config('{left}', current_setting('{left}') || number || ' ', false);
                ELSIF full_now THEN
                    {own}
                    EXECUTE format('ANALYZE (SKIP_LOCKED) %s', name);
                    {ours}
                    IF (SELECT abs(reltuples - wanted[number]) <= wanted[number] / 10 FROM pg_class WHERE oid = found)
                    THEN
                        PERFORM set_config('{seen}', current_setting('{seen}') || number || ' ', false);
                    END IF;
                END IF;
            EXCEPTION WHEN OTHERS THEN NULL;
            END;
            EXIT WHEN NOT full_now;
            number := number + 1;
            COMMIT;
        END LOOP;
        EXIT WHEN number > cardinality(tables) OR NOT loading AND was_loading
               OR clock_timestamp() > started + CASE WHEN loading THEN interval '60 s' ELSE interval '5 s' END;
        COMMIT;
        PERFORM pg_sleep(0.05);
    END LOOP;
END
"""
"""The tables are filled one after the other, in the dump's order. Nothing here waits for a lock for longer than it
takes PostgreSQL to look for a deadlock, and each table is let go at once: the load is never the one that is ended."""

ONE = """
DECLARE
    name text;
BEGIN
    name := to_regclass({table});
    IF name IS NOT NULL THEN
        {own}
        EXECUTE format('ANALYZE %s', name);
        {ours}
        PERFORM set_config('{seen}', 'yes', false);
    END IF;
EXCEPTION WHEN OTHERS THEN NULL;
END
"""
"""A table that a parallel load has done with, but for foreign keys: it is locked for a moment only."""

REST_SQL = """
SELECT coalesce(jsonb_agg(jsonb_build_array(number, bytes) ORDER BY bytes DESC, number), '[]') FROM (
    SELECT c.oid::bigint AS number, CASE
        WHEN c.oid < {first_oid} THEN 0
        WHEN relkind = 'p' THEN
            (SELECT coalesce(sum(pg_relation_size(inhrelid)), 0) FROM pg_inherits WHERE inhparent = c.oid)
        ELSE coalesce(pg_relation_size(c.oid), 0) END AS bytes
    FROM pg_class c WHERE relkind IN ('r', 'm', 'p') AND NOT relispartition
        AND relpersistence <> 't' AND (NOT EXISTS (SELECT FROM unnest({seen}) s WHERE to_regclass(s) = c.oid)
            OR EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indexprs IS NOT NULL)
            OR EXISTS (SELECT FROM pg_statistic_ext WHERE stxrelid = c.oid)
            OR EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid))) AS each;
"""
"""What ANALYZE without a name takes, the catalogs included, but for what was seen whole, and what more ANALYZE would
find in it by now. A partitioned table brings its partitions along; how large it is those right below it tell, and no
lock on them stays."""
PORTION = """
DECLARE
    found oid;
    name text;
BEGIN
    FOREACH found IN ARRAY ARRAY[{numbers}]::oid[] LOOP
        SELECT oid::regclass INTO name FROM pg_class WHERE oid = found;
        CONTINUE WHEN name IS NULL;
        {own}
        EXECUTE format('ANALYZE %s', name);
        {ours}
        COMMIT;
    END LOOP;
END
"""
"""Tables by their oids, as far as they are still there."""
