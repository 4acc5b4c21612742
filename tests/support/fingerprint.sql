-- Everything of a database that a backup has to bring back, one JSON object a line: {"section", "name", "value"}.
--
-- The values are made so that servers 16 to 18 give the same ones for the same database: definitions come from the
-- server's own pg_get_…def functions, ACLs are spelled out with their defaults, NOT NULL is told by the column
-- (since 18 it is a constraint, too), and no OID, physical column number or statistic takes part. Between 15 and 16
-- only views differ: 15 writes `chantiers.id` where 16 writes `id`.

\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET client_encoding = 'UTF8';
SET search_path = '';
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';
SET extra_float_digits = 1;
SET bytea_output = 'hex';
SET xmloption = 'content';
SET row_security = off;
SET lc_monetary = 'C';
SET statement_timeout = 0;

CREATE FUNCTION pg_temp.acl(acl aclitem[], kind "char", owner oid) RETURNS text LANGUAGE sql STABLE
    RETURN (SELECT string_agg(line, ', ' ORDER BY line COLLATE "C")
            FROM (SELECT format('%s:%s%s', CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(grantee) END,
                                privilege_type, CASE WHEN is_grantable THEN '*' ELSE '' END) AS line
                  FROM pg_catalog.aclexplode(coalesce(acl, pg_catalog.acldefault(kind, owner)))
                  WHERE privilege_type <> 'MAINTAIN') AS privileges);  -- MAINTAIN came with 17

CREATE FUNCTION pg_temp.line(section text, name text, value text) RETURNS text LANGUAGE sql STABLE
    RETURN pg_catalog.json_build_object('section', section, 'name', name, 'value', coalesce(value, ''))::text;

CREATE FUNCTION pg_temp.label(class oid, object oid, part int DEFAULT 0) RETURNS text LANGUAGE sql STABLE
    RETURN (SELECT type || ' ' || identity FROM pg_catalog.pg_identify_object(class, object, part));

-- Schemas and objects that are the user's: not the system's, not an extension's.
CREATE TEMPORARY TABLE ours_schema AS
    SELECT oid, nspname, nspowner, nspacl FROM pg_catalog.pg_namespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema';
CREATE TEMPORARY TABLE member AS
    SELECT classid, objid FROM pg_catalog.pg_depend WHERE deptype = 'e';
CREATE TEMPORARY TABLE ours_class AS
    SELECT c.*, format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_catalog.pg_class AS c JOIN pg_temp.ours_schema AS n ON n.oid = c.relnamespace
    WHERE NOT EXISTS (SELECT FROM pg_temp.member WHERE classid = 'pg_catalog.pg_class'::regclass AND objid = c.oid);

-------------------------------------------------------------------------------------------------------------- database

SELECT pg_temp.line('database', property, value)
FROM pg_catalog.pg_database AS d, LATERAL (VALUES
    ('encoding', pg_catalog.pg_encoding_to_char(d.encoding)::text),
    ('collate', d.datcollate::text),
    ('ctype', d.datctype::text),
    ('locale provider', d.datlocprovider::text),
    ('locale', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale')),  -- renamed in 17
    ('owner', pg_catalog.pg_get_userbyid(d.datdba)::text),
    ('acl', pg_temp.acl(d.datacl, 'd', d.datdba)),
    ('connection limit', d.datconnlimit::text),
    ('is template', d.datistemplate::text),
    ('comment', pg_catalog.shobj_description(d.oid, 'pg_database'))
) AS properties (property, value)
WHERE d.datname = current_database();

SELECT pg_temp.line('database', 'settings of ' || coalesce(r.rolname, 'everyone'),
                    (SELECT string_agg(setting, ', ' ORDER BY setting COLLATE "C") FROM unnest(s.setconfig) AS setting))
FROM pg_catalog.pg_db_role_setting AS s LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = s.setrole
WHERE s.setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database());

---------------------------------------------------------------------------------------------------------------- schema

SELECT pg_temp.line('schema', 'schema ' || quote_ident(nspname),
                    format('owner %s, acl %s', pg_catalog.pg_get_userbyid(nspowner), pg_temp.acl(nspacl, 'n', nspowner)))
FROM pg_temp.ours_schema;

SELECT pg_temp.line('schema', 'extension ' || quote_ident(e.extname), 'in schema ' || n.nspname)
FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace;

-- Tables, views, sequences, composite types: all that pg_class holds but indexes and TOAST tables.
SELECT pg_temp.line('schema',
    (CASE c.relkind WHEN 'r' THEN 'table ' WHEN 'p' THEN 'partitioned table ' WHEN 'v' THEN 'view ' WHEN 'S' THEN 'sequence '
        WHEN 'm' THEN 'materialized view ' WHEN 'f' THEN 'foreign table ' WHEN 'c' THEN 'composite type ' ELSE 'relation ' END)
        || c.name,
    concat_ws(', ',
        'owner ' || pg_catalog.pg_get_userbyid(c.relowner),
        CASE WHEN c.relkind <> 'c'
            THEN 'acl ' || pg_temp.acl(c.relacl, CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner) END,
        'persistence ' || c.relpersistence::text,
        'access method ' || (SELECT amname FROM pg_catalog.pg_am WHERE oid = c.relam AND c.relkind IN ('r', 'm')),
        'tablespace ' || (SELECT spcname FROM pg_catalog.pg_tablespace WHERE oid = c.reltablespace),
        'options ' || array_to_string(c.reloptions, ' '),
        'replica identity ' || nullif(c.relreplident, 'd')::text,
        CASE WHEN c.relrowsecurity THEN 'row security' END,
        CASE WHEN c.relforcerowsecurity THEN 'forced row security' END,
        CASE WHEN c.relkind = 'm' AND NOT c.relispopulated THEN 'not populated' END,
        'of type ' || nullif(c.reloftype, 0)::regtype,
        'partition by ' || CASE WHEN c.relkind = 'p' THEN pg_catalog.pg_get_partkeydef(c.oid) END,
        'partition ' || pg_catalog.pg_get_expr(c.relpartbound, c.oid),
        'inherits ' || (SELECT string_agg(inhparent::regclass::text, ' ' ORDER BY inhseqno)
                        FROM pg_catalog.pg_inherits WHERE inhrelid = c.oid),
        CASE WHEN c.relkind IN ('v', 'm') THEN 'as' || pg_catalog.pg_get_viewdef(c.oid) END,
        (SELECT format('%s from %s to %s start %s by %s cache %s%s', s.seqtypid::regtype, s.seqmin, s.seqmax, s.seqstart,
                       s.seqincrement, s.seqcache, CASE WHEN s.seqcycle THEN ' cycle' END)
         FROM pg_catalog.pg_sequence AS s WHERE s.seqrelid = c.oid),
        'owned by ' || (SELECT pg_catalog.pg_describe_object(refclassid, refobjid, refobjsubid)
                        FROM pg_catalog.pg_depend
                        WHERE c.relkind = 'S' AND classid = 'pg_catalog.pg_class'::regclass AND objid = c.oid
                          AND refclassid = 'pg_catalog.pg_class'::regclass AND deptype IN ('a', 'i'))))
FROM pg_temp.ours_class AS c
WHERE c.relkind NOT IN ('i', 'I', 't');

SELECT pg_temp.line('schema', format('column %s.%I', c.name, a.attname),
    concat_ws(', ',
        '#' || row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum),
        pg_catalog.format_type(a.atttypid, a.atttypmod),
        'collate ' || (SELECT l.collname FROM pg_catalog.pg_collation AS l, pg_catalog.pg_type AS t
                       WHERE l.oid = a.attcollation AND t.oid = a.atttypid AND a.attcollation <> t.typcollation),
        CASE WHEN a.attnotnull THEN 'not null' END,
        CASE a.attidentity WHEN 'a' THEN 'identity always' WHEN 'd' THEN 'identity by default' END,
        'generated ' || nullif(a.attgenerated, '')::text,
        'default ' || (SELECT pg_catalog.pg_get_expr(adbin, adrelid) FROM pg_catalog.pg_attrdef
                       WHERE adrelid = a.attrelid AND adnum = a.attnum),
        'storage ' || a.attstorage::text,
        'compression ' || nullif(a.attcompression, '')::text,
        -- pg_attver is the server's own since 17.12, another in each database; pg_dump leaves it out.
        'options ' || nullif(array_to_string(ARRAY(
            SELECT option FROM unnest(a.attoptions) WITH ORDINALITY AS o (option, n) WHERE option !~ '^pg_attver=' ORDER BY n
        ), ' '), ''),
        'acl ' || pg_temp.acl(a.attacl, 'c', c.relowner)))
FROM pg_temp.ours_class AS c JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c');

SELECT pg_temp.line('schema', format('index %s', i.name),
    concat_ws(', ', pg_catalog.pg_get_indexdef(i.oid),
        CASE WHEN NOT x.indisvalid THEN 'invalid' END,
        CASE WHEN x.indisclustered THEN 'clustered' END,
        CASE WHEN x.indisreplident THEN 'replica identity' END,
        'attached to ' || (SELECT inhparent::regclass::text FROM pg_catalog.pg_inherits WHERE inhrelid = i.oid)))
FROM pg_temp.ours_class AS i JOIN pg_catalog.pg_index AS x ON x.indexrelid = i.oid;

SELECT pg_temp.line('schema', format('constraint %I of %s', k.conname, coalesce(c.name, k.contypid::regtype::text)),
                    pg_catalog.pg_get_constraintdef(k.oid))
FROM pg_catalog.pg_constraint AS k
    JOIN pg_temp.ours_schema AS n ON n.oid = k.connamespace
    LEFT JOIN pg_temp.ours_class AS c ON c.oid = k.conrelid
WHERE k.contype NOT IN ('n', 't') AND (c.oid IS NOT NULL OR k.contypid <> 0);

SELECT pg_temp.line('schema', format('trigger %I on %s', t.tgname, c.name),
                    pg_catalog.pg_get_triggerdef(t.oid) || ', enabled ' || t.tgenabled::text)
FROM pg_catalog.pg_trigger AS t JOIN pg_temp.ours_class AS c ON c.oid = t.tgrelid
WHERE NOT t.tgisinternal;

SELECT pg_temp.line('schema', format('rule %I on %s', r.rulename, c.name),
                    pg_catalog.pg_get_ruledef(r.oid) || ', enabled ' || r.ev_enabled::text)
FROM pg_catalog.pg_rewrite AS r JOIN pg_temp.ours_class AS c ON c.oid = r.ev_class
WHERE r.rulename <> '_RETURN';

SELECT pg_temp.line('schema', format('policy %I on %s', p.polname, c.name),
    concat_ws(', ', 'for ' || p.polcmd::text, CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END,
        'to ' || (SELECT string_agg(coalesce(rolname, 'PUBLIC'), ' ' ORDER BY rolname COLLATE "C")
                  FROM unnest(p.polroles) AS role LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = role),
        'using ' || pg_catalog.pg_get_expr(p.polqual, p.polrelid),
        'with check ' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)))
FROM pg_catalog.pg_policy AS p JOIN pg_temp.ours_class AS c ON c.oid = p.polrelid;

SELECT pg_temp.line('schema', 'function ' || p.oid::regprocedure::text,
    concat_ws(', ', 'owner ' || pg_catalog.pg_get_userbyid(p.proowner), 'acl ' || pg_temp.acl(p.proacl, 'f', p.proowner),
        CASE WHEN p.prokind = 'a'
            THEN 'aggregate ' || (SELECT row_to_json(a)::text FROM (
                SELECT aggkind, aggtransfn::text, aggfinalfn::text, aggtranstype::regtype, agginitval
                FROM pg_catalog.pg_aggregate WHERE aggfnoid = p.oid) AS a)
            ELSE pg_catalog.pg_get_functiondef(p.oid) END))
FROM pg_catalog.pg_proc AS p JOIN pg_temp.ours_schema AS n ON n.oid = p.pronamespace
WHERE NOT EXISTS (SELECT FROM pg_temp.member WHERE classid = 'pg_catalog.pg_proc'::regclass AND objid = p.oid);

-- Enums, domains, ranges and base types; arrays, multiranges and row types come with what they belong to.
SELECT pg_temp.line('schema', 'type ' || t.oid::regtype::text,
    concat_ws(', ', 'owner ' || pg_catalog.pg_get_userbyid(t.typowner), 'acl ' || pg_temp.acl(t.typacl, 'T', t.typowner),
        'kind ' || t.typtype::text,
        'labels ' || (SELECT json_agg(enumlabel ORDER BY enumsortorder)::text FROM pg_catalog.pg_enum WHERE enumtypid = t.oid),
        'over ' || nullif(t.typbasetype, 0)::regtype, CASE WHEN t.typnotnull AND t.typtype = 'd' THEN 'not null' END,
        'default ' || t.typdefault,
        'of ' || (SELECT rngsubtype::regtype::text FROM pg_catalog.pg_range WHERE rngtypid = t.oid)))
FROM pg_catalog.pg_type AS t JOIN pg_temp.ours_schema AS n ON n.oid = t.typnamespace
    LEFT JOIN pg_catalog.pg_class AS c ON c.oid = t.typrelid
WHERE t.typtype <> 'm' AND (c.oid IS NULL OR c.relkind = 'c')
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_type AS element WHERE element.typarray = t.oid)
  AND NOT EXISTS (SELECT FROM pg_temp.member WHERE classid = 'pg_catalog.pg_type'::regclass AND objid = t.oid);

SELECT pg_temp.line('schema', pg_temp.label('pg_catalog.pg_statistic_ext'::regclass, s.oid),
                    pg_catalog.pg_get_statisticsobjdef(s.oid))
FROM pg_catalog.pg_statistic_ext AS s JOIN pg_temp.ours_schema AS n ON n.oid = s.stxnamespace;

SELECT pg_temp.line('schema', format('default privileges of %s in %s on %s', pg_catalog.pg_get_userbyid(defaclrole),
                                     coalesce(n.nspname, 'all schemas'), defaclobjtype),
                    pg_temp.acl(defaclacl, defaclobjtype, defaclrole))
FROM pg_catalog.pg_default_acl LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = defaclnamespace;

-- Of the rarer kinds, that they exist.
SELECT pg_temp.line('schema', pg_temp.label(o.class, o.oid), 'exists')
FROM (SELECT 'pg_catalog.pg_cast'::regclass AS class, oid FROM pg_catalog.pg_cast
    UNION ALL SELECT 'pg_catalog.pg_collation'::regclass, oid FROM pg_catalog.pg_collation
    UNION ALL SELECT 'pg_catalog.pg_conversion'::regclass, oid FROM pg_catalog.pg_conversion
    UNION ALL SELECT 'pg_catalog.pg_event_trigger'::regclass, oid FROM pg_catalog.pg_event_trigger
    UNION ALL SELECT 'pg_catalog.pg_foreign_data_wrapper'::regclass, oid FROM pg_catalog.pg_foreign_data_wrapper
    UNION ALL SELECT 'pg_catalog.pg_foreign_server'::regclass, oid FROM pg_catalog.pg_foreign_server
    UNION ALL SELECT 'pg_catalog.pg_language'::regclass, oid FROM pg_catalog.pg_language
    UNION ALL SELECT 'pg_catalog.pg_opclass'::regclass, oid FROM pg_catalog.pg_opclass
    UNION ALL SELECT 'pg_catalog.pg_operator'::regclass, oid FROM pg_catalog.pg_operator
    UNION ALL SELECT 'pg_catalog.pg_publication'::regclass, oid FROM pg_catalog.pg_publication
    UNION ALL SELECT 'pg_catalog.pg_transform'::regclass, oid FROM pg_catalog.pg_transform
    UNION ALL SELECT 'pg_catalog.pg_ts_config'::regclass, oid FROM pg_catalog.pg_ts_config
    UNION ALL SELECT 'pg_catalog.pg_ts_dict'::regclass, oid FROM pg_catalog.pg_ts_dict
    UNION ALL SELECT 'pg_catalog.pg_user_mapping'::regclass, oid FROM pg_catalog.pg_user_mapping) AS o
WHERE o.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_temp.member AS m WHERE m.classid = o.class AND m.objid = o.oid);

SELECT pg_temp.line('schema', 'comment on ' || pg_temp.label(d.classoid, d.objoid, d.objsubid), d.description)
FROM pg_catalog.pg_description AS d
WHERE (d.objoid >= 16384 OR d.objoid = to_regnamespace('public'))
  AND NOT EXISTS (SELECT FROM pg_temp.member AS m WHERE m.classid = d.classoid AND m.objid = d.objoid)
  AND d.classoid <> 'pg_catalog.pg_largeobject'::regclass;

------------------------------------------------------------------------------------------------------------------ data

-- One statement for each table, so that 20,000 tables do not run out of locks. The sum of the rows' hashes does not
-- depend on their order, and tells a row that is there twice.
SELECT format('SELECT pg_temp.line(%L, %L, count(*) || '' '' || coalesce(sum(pg_catalog.hashtextextended('
              't::text COLLATE "C", 0)::numeric), 0)) FROM %s AS t', 'rows', c.name, c.name)
FROM pg_temp.ours_class AS c
WHERE c.relkind = 'r' OR c.relkind = 'm' AND c.relispopulated
ORDER BY c.name COLLATE "C"
\gexec

SELECT format('SELECT pg_temp.line(%L, %L, last_value || CASE WHEN is_called THEN '' called'' ELSE '''' END) FROM %s',
              'sequences', c.name, c.name)
FROM pg_temp.ours_class AS c
WHERE c.relkind = 'S'
ORDER BY c.name COLLATE "C"
\gexec

SELECT pg_temp.line('large objects', m.oid::text,
    concat_ws(', ', p.bytes || ' bytes', 'digest ' || p.digest,
        'owner ' || pg_catalog.pg_get_userbyid(m.lomowner), 'acl ' || pg_temp.acl(m.lomacl, 'L', m.lomowner),
        'comment ' || pg_catalog.obj_description(m.oid, 'pg_largeobject')))
FROM pg_catalog.pg_largeobject_metadata AS m LEFT JOIN LATERAL (
    SELECT sum(length(data)) AS bytes, md5(string_agg(md5(data), '' ORDER BY pageno)) AS digest
    FROM pg_catalog.pg_largeobject WHERE loid = m.oid) AS p ON true;
