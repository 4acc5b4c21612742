-- One of each: the kinds of objects that PostgreSQL's own regression tests make, as far as a plain dump brings them
-- back. What a loader could get wrong stands here: what has to wait for something, what is not alone, what has an odd
-- name or a name that looks like pg_dump's own words.
--
-- Run it with psql in an empty database of a server 15 to 18, as a superuser. Variables:
--   rows        rows of the larger tables (default 400)
--   extension   an extension with tables and functions of its own (`zoo_extension.sql`), unset: none
--   tablespace  a tablespace of the server, unset: none

\set ON_ERROR_STOP on
\if :{?rows}
\else
    \set rows 400
\endif
SET client_min_messages = warning;
SET client_encoding = 'UTF8';
SET timezone = 'UTC';
SELECT current_setting('server_version_num')::int >= 180000 AS since_18 \gset

SELECT format('CREATE ROLE %I', name) FROM unnest(ARRAY['zoo_keeper', 'zoo "visitor"']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec
CREATE SCHEMA "Le zoo d'été" AUTHORIZATION zoo_keeper;
ALTER DEFAULT PRIVILEGES FOR ROLE zoo_keeper IN SCHEMA "Le zoo d'été" GRANT SELECT ON TABLES TO "zoo ""visitor""";

---------------------------------------------------------------------------------------------- functions, types, casts

CREATE FUNCTION public.pure(t text) RETURNS text LANGUAGE sql IMMUTABLE RETURN lower(t) || '!';
CREATE FUNCTION public.twice(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN 2 * i; END $$;
CREATE FUNCTION public.begun(i int) RETURNS int LANGUAGE sql IMMUTABLE
    BEGIN ATOMIC SELECT CASE WHEN i > 0 THEN i ELSE (SELECT 0) END; END;
CREATE PROCEDURE public.shout(INOUT t text) LANGUAGE plpgsql AS $$ BEGIN t := upper(t) || '; END;'; END $$;
CREATE AGGREGATE public.joined(text) (SFUNC = textcat, STYPE = text, INITCOND = '');

CREATE TYPE public.mood AS ENUM ('calme', 'l''inquiet', '"fâché"');
CREATE TYPE public.cage AS (number int, place text);
CREATE FUNCTION public.distance_of(a float8, b float8) RETURNS float8 LANGUAGE sql IMMUTABLE RETURN a - b;
CREATE TYPE public.height AS RANGE (subtype = float8, subtype_diff = public.distance_of);
CREATE DOMAIN public.code AS text CHECK (VALUE = lower(VALUE)) CONSTRAINT short CHECK (length(public.pure(VALUE)) < 40);
CREATE DOMAIN public.codes AS public.code[] NOT NULL;
COMMENT ON CONSTRAINT short ON DOMAIN public.code IS 'short enough';
CREATE FUNCTION public.cage_of(t text) RETURNS public.cage LANGUAGE sql IMMUTABLE RETURN ROW (length(t), t)::public.cage;
CREATE CAST (text AS public.cage) WITH FUNCTION public.cage_of(text);
CREATE FUNCTION public.same_end(a text, b text) RETURNS bool LANGUAGE sql IMMUTABLE RETURN right(a, 1) = right(b, 1);
CREATE OPERATOR public.=~~ (LEFTARG = text, RIGHTARG = text, FUNCTION = public.same_end);
CREATE FUNCTION public.by_length(a text, b text) RETURNS int LANGUAGE sql IMMUTABLE RETURN sign(length(a) - length(b))::int;
CREATE FUNCTION public.shorter(a text, b text) RETURNS bool LANGUAGE sql IMMUTABLE RETURN length(a) < length(b);
CREATE FUNCTION public.as_long(a text, b text) RETURNS bool LANGUAGE sql IMMUTABLE RETURN length(a) = length(b);
CREATE OPERATOR public.<# (LEFTARG = text, RIGHTARG = text, FUNCTION = public.shorter);
CREATE OPERATOR public.=# (LEFTARG = text, RIGHTARG = text, FUNCTION = public.as_long);
CREATE OPERATOR CLASS public.length_ops FOR TYPE text USING btree AS
    OPERATOR 1 public.<# (text, text), OPERATOR 3 public.=# (text, text), FUNCTION 1 public.by_length(text, text);
CREATE COLLATION public.plain (provider = libc, locale = 'C');
CREATE TEXT SEARCH CONFIGURATION public.zoo_search (COPY = pg_catalog.simple);

\if :{?extension}
    CREATE EXTENSION :"extension";
    INSERT INTO zoo_kinds VALUES (101, 'le tapir'), (102, 'l''ornithorynque');
    INSERT INTO zoo_kind_names VALUES (101, 'fr', 'tapir');
    CREATE TABLE public.of_extension_kind (id int PRIMARY KEY, kind int REFERENCES zoo_kinds, name text);
    INSERT INTO of_extension_kind SELECT g, 101 + g % 2, 'n° ' || g FROM generate_series(1, :rows) g;
    CREATE INDEX of_extension_index ON of_extension_kind (zoo_kind_name(kind));
\endif

------------------------------------------------------------------------------------------------------- keys of all sorts

CREATE TABLE species (
    id int GENERATED ALWAYS AS IDENTITY (START 10 INCREMENT 3) PRIMARY KEY,
    name text NOT NULL UNIQUE,
    latin text COLLATE public.plain,
    mood public.mood DEFAULT 'calme',
    home public.cage,
    tags public.codes DEFAULT '{}',
    size public.height,
    weight numeric(8, 2) CONSTRAINT positive CHECK (weight > 0),
    shown text GENERATED ALWAYS AS (public.pure(name)) STORED
);
COMMENT ON CONSTRAINT species_pkey ON species IS 'the key; ALTER TABLE species DROP CONSTRAINT species_pkey;';
INSERT INTO species (name, latin, home, tags, size, weight)
    SELECT 'espèce ' || g, md5(g::text), ROW (g, 'cage "' || g || '"')::public.cage, ARRAY['a', 'b' || g]::public.codes,
        public.height(g, g + 1.5), g
    FROM generate_series(1, 40) g;
CREATE INDEX ON species (latin DESC NULLS LAST);
CREATE INDEX species_text ON species USING gin (to_tsvector('public.zoo_search', name)) WHERE weight > 3;
CREATE INDEX species_length ON species (name public.length_ops);
CREATE INDEX species_hash ON species USING hash (name);
CREATE INDEX species_heights ON species USING gist (size);
CREATE INDEX species_blocks ON species USING brin (id) WITH (pages_per_range = 4);
CREATE INDEX species_cage ON species (((home).number + 1), (latin || name)) INCLUDE (weight);
ALTER INDEX species_cage ALTER COLUMN 1 SET STATISTICS 300;
COMMENT ON INDEX species_cage IS 'index of an expression';

CREATE TABLE keys (
    a int, b int, c int, d int, e int, f int, period daterange, g text,
    PRIMARY KEY (a, b) INCLUDE (g),
    CONSTRAINT "late, deferred" UNIQUE (c) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT "nulls alike" UNIQUE NULLS NOT DISTINCT (d),
    CONSTRAINT "with room" UNIQUE (e, c) WITH (fillfactor = 60),
    CONSTRAINT "with more" UNIQUE (f) INCLUDE (g, d),
    CONSTRAINT apart EXCLUDE USING gist (period WITH &&),
    CONSTRAINT "apart, late" EXCLUDE USING btree (f WITH =) WHERE (f > 5) DEFERRABLE
);
INSERT INTO keys SELECT g, g + 1, g, nullif(g, 7), g, g, daterange(date '2000-01-01' + g, date '2000-01-02' + g), 'x' || g
    FROM generate_series(1, :rows) g;
CREATE UNIQUE INDEX keys_partial ON keys (e) WHERE g IS NOT NULL;
CREATE TABLE key_late (id int PRIMARY KEY DEFERRABLE INITIALLY IMMEDIATE, other int);
INSERT INTO key_late SELECT g, g FROM generate_series(1, 50) g;
CREATE TABLE key_alone (id int PRIMARY KEY);
INSERT INTO key_alone SELECT generate_series(1, 20);
CREATE TABLE key_without_rows (id int PRIMARY KEY, other int UNIQUE);

-- Circles, itself, several at once, not checked.
CREATE TABLE hen (id int PRIMARY KEY, egg int, species int REFERENCES species (id) ON DELETE CASCADE, name text);
CREATE TABLE egg (id int PRIMARY KEY, hen int, mother int, size int);
INSERT INTO hen SELECT g, g, 10 + 3 * (g % 40), 'poule ' || g FROM generate_series(1, :rows) g;
INSERT INTO egg SELECT g, g, CASE WHEN g > 1 THEN g - 1 END, g FROM generate_series(1, :rows) g;
ALTER TABLE hen ADD FOREIGN KEY (egg) REFERENCES egg DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE egg ADD FOREIGN KEY (hen) REFERENCES hen ON UPDATE CASCADE,
    ADD CONSTRAINT "from the one before" FOREIGN KEY (mother) REFERENCES egg ON DELETE SET NULL (mother);
CREATE TABLE feeding (
    hen int REFERENCES hen, egg int REFERENCES egg, a int, b int, at timestamptz DEFAULT now(),
    CONSTRAINT "both" FOREIGN KEY (a, b) REFERENCES keys MATCH FULL
);
INSERT INTO feeding (hen, egg, a, b) SELECT g, g, g, g + 1 FROM generate_series(1, :rows) g;
CREATE TABLE visit (id int PRIMARY KEY, hen int, fee int, note text);
INSERT INTO visit SELECT g, g * 1000, -g, 'visite' FROM generate_series(1, 30) g;
ALTER TABLE visit ADD CONSTRAINT orphans FOREIGN KEY (hen) REFERENCES hen NOT VALID,
    ADD CONSTRAINT debts CHECK (fee > 0) NOT VALID;
COMMENT ON CONSTRAINT orphans ON visit IS 'NOT VALID; some have no hen';

------------------------------------------------------------------------------------------------------------- partitions

CREATE SEQUENCE care_id_seq;
CREATE TABLE care (id bigint DEFAULT nextval('care_id_seq'), at date NOT NULL, species int, what text, PRIMARY KEY (at, id, what))
    PARTITION BY RANGE (at);
CREATE TABLE care_2024 PARTITION OF care FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY LIST (what);
CREATE TABLE care_2024_food PARTITION OF care_2024 FOR VALUES IN ('food', 'water') WITH (fillfactor = 70);
CREATE TABLE "Le zoo d'été".care_2024_else PARTITION OF care_2024 DEFAULT;
CREATE TABLE care_2025 (what text NOT NULL, id bigint NOT NULL, gone int, at date NOT NULL, species int);
ALTER TABLE care_2025 DROP COLUMN gone;
ALTER TABLE care ATTACH PARTITION care_2025 FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE care_other PARTITION OF care DEFAULT;
INSERT INTO care (at, species, what)
    SELECT date '2023-12-01' + g, 10 + 3 * (g % 40), (ARRAY['food', 'water', 'bath'])[1 + g % 3] FROM generate_series(1, :rows * 2) g;
CREATE INDEX care_what ON care (what, lower(what));
CREATE INDEX care_species ON ONLY care (species);
CREATE INDEX care_2025_species ON care_2025 (species);
ALTER INDEX care_species ATTACH PARTITION care_2025_species;
CREATE INDEX care_2025_alone ON care_2025 USING hash (what);
ALTER TABLE care ADD CONSTRAINT "care's species" FOREIGN KEY (species) REFERENCES species;
CREATE UNIQUE INDEX care_by_day ON care (id, at, what);
ALTER TABLE care_2025 CLUSTER ON care_2025_species;
CREATE TABLE spread (k int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, v text) PARTITION BY HASH (k);
CREATE TABLE spread_0 PARTITION OF spread FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE UNLOGGED TABLE spread_1 PARTITION OF spread FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO spread SELECT g, md5(g::text) FROM generate_series(1, :rows) g;
CREATE TABLE note_of_spread (k int REFERENCES spread, other int UNIQUE REFERENCES key_alone);
INSERT INTO note_of_spread SELECT g, g FROM generate_series(1, 20) g;

------------------------------------------------------------------------------------------------------------ inheritance

CREATE TABLE animal (id int PRIMARY KEY, name text, legs int CHECK (legs >= 0) NO INHERIT, CHECK (length(public.pure(name)) > 0));
CREATE TABLE fish (depth int) INHERITS (animal);
CREATE TABLE walker (pace float8 DEFAULT random());
CREATE TABLE duck (colour text, PRIMARY KEY (id)) INHERITS (fish, walker);
INSERT INTO animal SELECT g, 'bête ' || g, 4 FROM generate_series(1, 30) g;
INSERT INTO fish SELECT g, 'poisson ' || g, -1, g FROM generate_series(1, 30) g;
INSERT INTO duck (id, name, depth, pace, colour) SELECT g, 'canard', g, g, 'vert' FROM generate_series(1, 30) g;
CREATE INDEX ON animal (name);
CREATE INDEX ON fish (depth);
CREATE INDEX duck_colour ON duck (colour);
CREATE INDEX ON fish (name);

------------------------------------------------------------------------------ code that looks into other tables, or not

CREATE FUNCTION public.species_name(i int) RETURNS text LANGUAGE sql IMMUTABLE SET search_path = public
    AS 'SELECT name FROM species WHERE id = i';
CREATE FUNCTION public.calls_it(i int) RETURNS text LANGUAGE plpgsql IMMUTABLE SET search_path = public
    AS $$ BEGIN RETURN 'x' || species_name(i); END $$;
CREATE DOMAIN public.known_species AS int CHECK (public.species_name(VALUE) IS NOT NULL);
CREATE TABLE this_looks (id int PRIMARY KEY, species int CHECK (public.calls_it(species) IS NOT NULL), rest text);
CREATE TABLE those_looks (id int PRIMARY KEY, species public.known_species,
    shown text GENERATED ALWAYS AS (upper(public.species_name(id * 3 + 10))) STORED);
CREATE TABLE indexed (id int PRIMARY KEY, species int, rest text);
CREATE INDEX aac_by_name ON indexed (public.species_name(species));
CREATE INDEX aac_partial ON indexed (species) WHERE public.calls_it(species) IS NOT NULL;
CREATE INDEX aac_pure ON indexed (public.pure(rest), public.twice(id), public.begun(id));
ALTER TABLE indexed ADD CONSTRAINT aac_apart EXCLUDE (id WITH =, public.species_name(species) WITH =);
INSERT INTO this_looks SELECT g, 10 + 3 * (g % 40), 'r' FROM generate_series(1, 30) g;
INSERT INTO those_looks SELECT g, 10 + 3 * (g % 40) FROM generate_series(1, 30) g;
INSERT INTO indexed SELECT g, 10 + 3 * (g % 40), 'Reste ' || g FROM generate_series(1, :rows) g;

------------------------------------------------------------------------------------------------ names, and rows of traps

CREATE TABLE "Le zoo d'été"."A ""cage"", (with) ; -- dashes" ("N°" int PRIMARY KEY, "a ON public.species" text, "select" int UNIQUE);
INSERT INTO "Le zoo d'été"."A ""cage"", (with) ; -- dashes" SELECT g, E'\\.', g FROM generate_series(1, 40) g;
CREATE INDEX "idx ON public.x USING btree (a)" ON "Le zoo d'été"."A ""cage"", (with) ; -- dashes" ("a ON public.species", "N°");
CREATE TABLE "
-- Name: forged; Type: TABLE; Schema: public; Owner: -
" (id int PRIMARY KEY, x int);
INSERT INTO "
-- Name: forged; Type: TABLE; Schema: public; Owner: -
" SELECT g, g FROM generate_series(1, 25) g;
CREATE INDEX "CREATE INDEX i ON public.species USING btree (id);
" ON "
-- Name: forged; Type: TABLE; Schema: public; Owner: -
" (x);
CREATE TABLE éééééééééééééééééééééééééééééééx (id int PRIMARY KEY, "éééééééééééééééééééééééééééééééy" int UNIQUE);
INSERT INTO éééééééééééééééééééééééééééééééx SELECT g, g FROM generate_series(1, 25) g;
CREATE TABLE texts (id int PRIMARY KEY, t text DEFAULT ' NOT VALID;');
INSERT INTO texts VALUES (1, E'\\.'), (2, E'COPY public.species (id) FROM stdin;\n1\n\\.\n'), (3, E'--\n-- PostgreSQL database dump complete\n--\n'),
    (4, E'\\restrict x\n\\connect postgres'), (5, NULL), (6, ''), (7, repeat('é', 20000));
CREATE INDEX ON texts (t) WHERE t <> ') NOT VALID;' AND length(t) < 1000;
ALTER TABLE texts ADD CONSTRAINT odd CHECK (t <> ' NOT VALID;') NOT VALID;

------------------------------------------------------------------------------------------ tables with something special

CREATE TABLE nothing ();
CREATE TABLE empty (id int PRIMARY KEY, a text UNIQUE);
CREATE TABLE of_cage OF public.cage (number PRIMARY KEY);
INSERT INTO of_cage VALUES (1, 'nord'), (2, NULL);
CREATE UNLOGGED TABLE quick (id int PRIMARY KEY, t text) WITH (autovacuum_enabled = off, toast_tuple_target = 500);
INSERT INTO quick SELECT g, repeat(md5(g::text), 80) FROM generate_series(1, 50) g;
ALTER TABLE quick ALTER COLUMN t SET STORAGE EXTERNAL;
CREATE TABLE sorted (id int PRIMARY KEY, k int, t text COMPRESSION pglz) WITH (fillfactor = 80, parallel_workers = 2);
INSERT INTO sorted SELECT g, -g, 't' FROM generate_series(1, :rows) g;
CREATE INDEX sorted_k ON sorted (k) WITH (fillfactor = 50, deduplicate_items = off);
CLUSTER sorted USING sorted_k;
ALTER TABLE sorted ALTER COLUMN k SET STATISTICS 500, ALTER COLUMN t SET (n_distinct = 5);
CREATE TABLE identified (a int NOT NULL, b int NOT NULL, t text);
INSERT INTO identified SELECT g, g FROM generate_series(1, 30) g;
CREATE UNIQUE INDEX identified_by ON identified (b);
CREATE UNIQUE INDEX identified_twice ON identified (a, b);
ALTER TABLE identified REPLICA IDENTITY USING INDEX identified_by;
ALTER TABLE empty REPLICA IDENTITY FULL;
ALTER TABLE quick REPLICA IDENTITY NOTHING;
CREATE STATISTICS species_kinds (ndistinct, dependencies, mcv) ON name, latin FROM species;
CREATE STATISTICS "on expressions" ON (lower(name)), (weight * 2) FROM species;
ALTER STATISTICS species_kinds SET STATISTICS 250;
CREATE SEQUENCE odd_numbers AS smallint START 5 INCREMENT -2 MINVALUE -100 MAXVALUE 5 CYCLE CACHE 3;
SELECT nextval('odd_numbers'), nextval('odd_numbers') \g /dev/null
CREATE UNLOGGED SEQUENCE quick_numbers;
CREATE TABLE numbered (id serial PRIMARY KEY, n smallint DEFAULT nextval('odd_numbers'));
INSERT INTO numbered DEFAULT VALUES;
\if :{?tablespace}
    CREATE TABLE elsewhere (id int PRIMARY KEY USING INDEX TABLESPACE :"tablespace", a int, b int);
    CREATE INDEX elsewhere_a ON elsewhere (a) TABLESPACE :"tablespace";
    CREATE INDEX elsewhere_b ON elsewhere (b);
    CREATE TABLE there (id int PRIMARY KEY, a int UNIQUE) TABLESPACE :"tablespace";
    CREATE INDEX there_a ON there (a) TABLESPACE :"tablespace";
    INSERT INTO elsewhere SELECT g, g, g FROM generate_series(1, 30) g;
    INSERT INTO there SELECT g, g FROM generate_series(1, 30) g;
\endif
\if :since_18
    CREATE TABLE of_18 (id int4range, span daterange, CONSTRAINT times PRIMARY KEY (id, span WITHOUT OVERLAPS),
        n int CONSTRAINT named NOT NULL, twice int GENERATED ALWAYS AS (n * 2) VIRTUAL);
    CREATE TABLE refers_18 (id int4range, span daterange, n int,
        CONSTRAINT periods FOREIGN KEY (id, PERIOD span) REFERENCES of_18 (id, PERIOD span),
        CONSTRAINT not_now FOREIGN KEY (n) REFERENCES key_alone NOT ENFORCED);
    INSERT INTO of_18 SELECT int4range(g, g + 1), daterange('2020-01-01', '2021-01-01'), g FROM generate_series(1, 20) g;
    INSERT INTO refers_18 SELECT int4range(g, g + 1), daterange('2020-02-01', '2020-03-01'), 9999 FROM generate_series(1, 20) g;
    INSERT INTO identified VALUES (1000, 1000, NULL);
    ALTER TABLE identified ADD CONSTRAINT later NOT NULL t NOT VALID;
\endif

--------------------------------------------------------------------------------------------------------- views and code

CREATE VIEW heavy AS SELECT id, name FROM species WHERE weight > 10 WITH CASCADED CHECK OPTION;
CREATE VIEW grouped AS SELECT h.id, h.name, count(*) AS eggs FROM hen h JOIN egg e ON e.hen = h.id GROUP BY h.id;
CREATE FUNCTION public.of_grouped(g public.grouped) RETURNS text LANGUAGE sql IMMUTABLE RETURN g.name;
CREATE MATERIALIZED VIEW zz_names AS SELECT s.id, public.species_name(s.id) AS name FROM species s;
CREATE UNIQUE INDEX zz_names_id ON zz_names (id);
CREATE INDEX zz_names_name ON zz_names (public.pure(name));
CREATE MATERIALIZED VIEW aa_on_it AS SELECT count(*) AS n, max(name) AS last FROM zz_names;
CREATE MATERIALIZED VIEW ab_on_both AS SELECT a.n, z.name FROM aa_on_it a, zz_names z WHERE z.id < 50;
CREATE INDEX ab_clustered ON ab_on_both (name);
ALTER MATERIALIZED VIEW ab_on_both CLUSTER ON ab_clustered;
CREATE MATERIALIZED VIEW not_filled AS SELECT 1 AS one WITH NO DATA;
CREATE MATERIALIZED VIEW of_group AS SELECT h.id, h.name, count(*) AS n FROM hen h GROUP BY h.id WITH NO DATA;
CREATE INDEX of_group_n ON of_group (n);
REFRESH MATERIALIZED VIEW of_group;
CREATE VIEW circle_a AS SELECT 1 AS x;
CREATE VIEW circle_b AS SELECT x FROM circle_a;
CREATE OR REPLACE VIEW circle_a AS SELECT x FROM (SELECT 2 AS x) y;

CREATE TABLE seen (what text, at timestamptz DEFAULT now());
CREATE FUNCTION public.note_it() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO public.seen (what) VALUES (TG_NAME); RETURN COALESCE(NEW, OLD); END $$;
CREATE TRIGGER "before, each" BEFORE INSERT OR UPDATE OF "a ON public.species", "select"
    ON "Le zoo d'été"."A ""cage"", (with) ; -- dashes" FOR EACH ROW EXECUTE FUNCTION note_it('a ON public.hen FOR EACH ROW');
CREATE TRIGGER after_all AFTER UPDATE ON hen REFERENCING OLD TABLE AS o NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION note_it();
CREATE TRIGGER always BEFORE INSERT OR DELETE OR TRUNCATE ON egg EXECUTE FUNCTION note_it();
ALTER TABLE egg ENABLE ALWAYS TRIGGER always;
CREATE TRIGGER asleep BEFORE INSERT ON species FOR EACH ROW WHEN (NEW.weight > 5) EXECUTE FUNCTION note_it();
ALTER TABLE species DISABLE TRIGGER asleep;
CREATE TRIGGER in_replicas BEFORE INSERT ON species FOR EACH ROW EXECUTE FUNCTION note_it();
ALTER TABLE species ENABLE REPLICA TRIGGER in_replicas;
CREATE CONSTRAINT TRIGGER checked AFTER INSERT ON hen FROM egg DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note_it();
CREATE TRIGGER of_all_parts AFTER INSERT ON care FOR EACH ROW EXECUTE FUNCTION note_it();
CREATE TRIGGER in_place_of INSTEAD OF INSERT ON grouped FOR EACH ROW EXECUTE FUNCTION note_it();
COMMENT ON TRIGGER always ON egg IS 'even in replicas';

CREATE RULE also AS ON INSERT TO hen DO ALSO INSERT INTO seen (what) VALUES ('a rule');
CREATE RULE kept AS ON DELETE TO species DO INSTEAD NOTHING;
ALTER TABLE species DISABLE RULE kept;
CREATE RULE through AS ON UPDATE TO circle_b DO INSTEAD UPDATE hen SET name = 'x' WHERE id = NEW.x;
ALTER TABLE feeding ENABLE ROW LEVEL SECURITY;
ALTER TABLE visit ENABLE ROW LEVEL SECURITY;
ALTER TABLE visit FORCE ROW LEVEL SECURITY;
CREATE POLICY "who reads" ON visit AS RESTRICTIVE FOR SELECT TO zoo_keeper, "zoo ""visitor""" USING (fee < 0);
CREATE POLICY writes ON feeding FOR INSERT WITH CHECK (hen IN (SELECT id FROM hen));
COMMENT ON POLICY writes ON feeding IS 'looks into hen';
CREATE PUBLICATION some_tables FOR TABLE hen (id, name), identified WHERE (b > 3);
CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA "Le zoo d'été";
CREATE PUBLICATION everything FOR ALL TABLES WITH (publish = 'insert', publish_via_partition_root);

CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER far FOREIGN DATA WRAPPER nowhere OPTIONS (place 'l''autre zoo');
CREATE USER MAPPING FOR zoo_keeper SERVER far OPTIONS (secret 'none');
CREATE FOREIGN TABLE "Le zoo d'été".abroad (id int NOT NULL, name text CHECK (name <> '')) SERVER far;

CREATE FUNCTION public.note_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO public.seen (what) VALUES (TG_TAG); END $$;
CREATE EVENT TRIGGER zoo_commands ON ddl_command_end WHEN TAG IN ('CREATE INDEX', 'ALTER TABLE', 'CREATE TABLE') EXECUTE FUNCTION note_ddl();
CREATE EVENT TRIGGER zoo_drops ON sql_drop EXECUTE FUNCTION note_ddl();
CREATE EVENT TRIGGER zoo_rewrites ON table_rewrite EXECUTE FUNCTION note_ddl();
ALTER EVENT TRIGGER zoo_drops DISABLE;
ALTER EVENT TRIGGER zoo_rewrites ENABLE REPLICA;

----------------------------------------------------------------------------------------- large objects, owners, rights

SELECT lo_from_bytea(7000 + g, convert_to(repeat(md5(g::text), g * 300), 'UTF8')) FROM generate_series(1, 5) g \g /dev/null
SELECT lo_create(7006) \g /dev/null
ALTER LARGE OBJECT 7002 OWNER TO zoo_keeper;
GRANT SELECT ON LARGE OBJECT 7003 TO "zoo ""visitor""";
COMMENT ON LARGE OBJECT 7004 IS 'the fourth; COPY public.species FROM stdin;';
ALTER TABLE hen OWNER TO zoo_keeper;
ALTER TABLE "Le zoo d'été"."A ""cage"", (with) ; -- dashes" OWNER TO zoo_keeper;
ALTER MATERIALIZED VIEW aa_on_it OWNER TO zoo_keeper;
GRANT SELECT ON zz_names TO zoo_keeper;
GRANT SELECT (id, name), UPDATE (name) ON hen TO "zoo ""visitor""" WITH GRANT OPTION;
GRANT USAGE ON SCHEMA "Le zoo d'été" TO "zoo ""visitor""";
REVOKE EXECUTE ON FUNCTION public.pure(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.pure(text) TO zoo_keeper;
COMMENT ON COLUMN species.home IS 'COPY public.species (id) FROM stdin;';
