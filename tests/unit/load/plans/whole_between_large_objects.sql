CREATE TABLE public.a (
    plan oid
);
COPY public.a (plan) FROM stdin;
16401
\.
SELECT pg_catalog.lo_create('16401');
ALTER TABLE public.a SET (fillfactor='70');
COMMENT ON LARGE OBJECT 16401 IS 'between them';
SELECT pg_catalog.lo_create('16402');
