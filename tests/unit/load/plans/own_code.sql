CREATE FUNCTION public.pure(t text) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$ SELECT trim(both FROM lower(t)) WHERE t IS DISTINCT FROM ''; $$;
CREATE FUNCTION public.looks(i integer) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $$ SELECT name FROM public.kind WHERE id = i; $$;
CREATE FUNCTION public."Calls it"(i integer) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'public'
    AS $$ BEGIN RETURN LOOKS(i); END $$;
CREATE FUNCTION public.python(i integer) RETURNS text
    LANGUAGE plpython3u IMMUTABLE
    AS $$ return i $$;
CREATE DOMAIN public.known AS integer
	CONSTRAINT known_check CHECK ((public.looks(VALUE) IS NOT NULL));
CREATE TYPE public.pair AS (
	one public.known,
	two text
);
CREATE TABLE public.a_checked (
    id integer,
    CONSTRAINT c CHECK ((public."Calls it"(id) <> ''::text))
);
CREATE TABLE public.b_of_domain (
    id integer,
    pairs public.pair[]
);
CREATE TABLE public.c_default (
    id integer,
    t text DEFAULT public.looks(1) NOT NULL,
    u text GENERATED ALWAYS AS (public.pure(t)) STORED
);
CREATE TABLE public.d_child (
)
INHERITS (public.a_checked);
CREATE TABLE public.kind (
    id integer NOT NULL,
    name text
);
CREATE TABLE public.e_parted (
    id integer
)
PARTITION BY RANGE (public.looks(id));
CREATE TABLE public.e_part (
    id integer
);
ALTER TABLE ONLY public.e_parted ATTACH PARTITION public.e_part FOR VALUES FROM ('1') TO ('5');
COPY public.a_checked (id) FROM stdin;
1
\.
COPY public.b_of_domain (id, pairs) FROM stdin;
\.
COPY public.c_default (id, t) FROM stdin;
\.
COPY public.d_child (id) FROM stdin;
\.
COPY public.e_part (id) FROM stdin;
\.
COPY public.kind (id, name) FROM stdin;
1	x
\.
CREATE INDEX a_pure ON public.a_checked USING btree (public.pure((id)::text));
CREATE INDEX c_looks ON public.c_default USING btree (public.looks(id));
CREATE INDEX c_partial ON public.c_default USING btree (id) WHERE (public."Calls it"(id) IS NOT NULL);
CREATE UNIQUE INDEX c_python ON public.c_default USING btree (public.python(id));
CREATE INDEX c_pure ON public.c_default USING btree (public.pure(u));
ALTER TABLE ONLY public.kind
    ADD CONSTRAINT kind_apart EXCLUDE USING btree (public.looks(id) WITH =);
ALTER TABLE ONLY public.kind
    ADD CONSTRAINT refers FOREIGN KEY (name) REFERENCES public.c_default(t);
