CREATE EXTENSION IF NOT EXISTS timescaledb WITH SCHEMA public;
CREATE TABLE public.a (
    i integer
);
COPY public.a (i) FROM stdin;
1
\.
