SET SESSION AUTHORIZATION 'app';
CREATE TABLE public.a (
    i integer
);
COPY public.a (i) FROM stdin;
1
\.
