CREATE TABLE public.a (
    i integer
);
COPY public.a (i) FROM stdin;
1
\.
CREATE TABLE public.b (
    i integer
);
