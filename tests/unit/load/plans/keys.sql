SET default_tablespace = '';
CREATE TABLE public.k (
    a integer NOT NULL,
    b integer,
    c integer,
    p daterange
);
COPY public.k (a, b, c, p) FROM stdin;
1	1	1	\N
\.
ALTER TABLE ONLY public.k
    ADD CONSTRAINT apart EXCLUDE USING gist (p WITH &&);
ALTER TABLE ONLY public.k
    ADD CONSTRAINT included PRIMARY KEY (a, "b ) x") INCLUDE (c);
ALTER TABLE ONLY public.k
    ADD CONSTRAINT filled UNIQUE (b) WITH (fillfactor='70');
ALTER TABLE ONLY public.k
    ADD CONSTRAINT later UNIQUE (b) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE ONLY public.k
    ADD CONSTRAINT nulls UNIQUE NULLS NOT DISTINCT (c);
ALTER TABLE ONLY public.k
    ADD CONSTRAINT times UNIQUE (c, p WITHOUT OVERLAPS);
SET default_tablespace = 'fast disks';
CREATE INDEX elsewhere ON public.k USING btree (c);
ALTER TABLE ONLY public.k
    ADD CONSTRAINT key_elsewhere UNIQUE (c);
SET default_tablespace = '';
CREATE INDEX here ON public.k USING btree (a);
