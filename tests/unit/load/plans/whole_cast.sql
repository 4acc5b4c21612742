CREATE FUNCTION public.f(a text) RETURNS integer
    LANGUAGE sql
    AS $$ SELECT count(*)::int FROM public.a; $$;
CREATE CAST (text AS integer) WITH FUNCTION public.f(text);
CREATE TABLE public.a (
    i integer
);
COPY public.a (i) FROM stdin;
1
\.
