CREATE EXTENSION IF NOT EXISTS postgis WITH SCHEMA public;
CREATE TABLE public.place (
    id integer NOT NULL,
    at public.geometry
);
SET default_table_access_method = columnar;
CREATE TABLE public.columns (
    id integer NOT NULL
);
SET default_table_access_method = heap;
CREATE FOREIGN TABLE public.abroad (
    id integer NOT NULL
)
SERVER far;
COPY public.columns (id) FROM stdin;
1
\.
COPY public.place (id, at) FROM stdin;
1	\N
\.
COPY public.spatial_ref_sys (srid) FROM stdin;
9
\.
COPY public.abroad (id) FROM stdin;
9
\.
ALTER TABLE ONLY public.place
    ADD CONSTRAINT place_pkey PRIMARY KEY (id);
CREATE INDEX place_at ON public.place USING gist (public.st_transform(at, 4326));
CREATE INDEX of_theirs ON public.spatial_ref_sys USING btree (srid);
ALTER TABLE ONLY public.place
    ADD CONSTRAINT refers FOREIGN KEY (id) REFERENCES public.spatial_ref_sys(srid);
CREATE MATERIALIZED VIEW public.counted AS
 SELECT place.id FROM public.place GROUP BY place.id
  WITH NO DATA;
CREATE INDEX counted_id ON public.counted USING btree (id);
CREATE FUNCTION public.of_counted(c public.counted) RETURNS integer
    LANGUAGE sql IMMUTABLE
    AS $$ SELECT c.id; $$;
CREATE INDEX place_late ON public.place USING btree (public.of_counted(id));
REFRESH MATERIALIZED VIEW public.counted;
