CREATE TABLE public.a (
    i integer
);
ALTER TABLE public.a DISABLE TRIGGER ALL;
COPY public.a (i) FROM stdin;
1
\.
ALTER TABLE public.a ENABLE TRIGGER ALL;
COPY public.a (i) FROM stdin;
1
\.
