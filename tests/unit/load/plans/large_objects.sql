CREATE TABLE public.a (
    plan oid
);
CREATE SEQUENCE public.s;
BEGIN;
SELECT pg_catalog.lo_create('16401');
ALTER LARGE OBJECT 16401 OWNER TO app;
COMMIT;
COPY public.a (plan) FROM stdin;
16401
\.
SELECT pg_catalog.setval('public.s', 5, true);
BEGIN;
SELECT pg_catalog.lo_open('16401', 131072);
SELECT pg_catalog.lowrite(0, '\x0102');
SELECT pg_catalog.lo_close(0);
COMMIT;
COMMENT ON LARGE OBJECT 16401 IS 'between them';
BEGIN;
SELECT pg_catalog.lo_open('16402', 131072);
SELECT pg_catalog.lowrite(0, '\x03');
SELECT pg_catalog.lo_close(0);
COMMIT;
COMMENT ON LARGE OBJECT 16402 IS 'the last';
CREATE INDEX a_plan ON public.a USING btree (plan);
GRANT SELECT ON LARGE OBJECT 16401 TO reader;
