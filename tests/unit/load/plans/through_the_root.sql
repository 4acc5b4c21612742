CREATE TABLE public.log (
    id bigint NOT NULL
)
PARTITION BY RANGE (id);
CREATE TABLE public.log_1 (
    id bigint NOT NULL
)
PARTITION BY RANGE (id);
CREATE TABLE public.log_1_1 (
    id bigint NOT NULL
);
CREATE TABLE public.log_2 (
    id bigint NOT NULL
);
ALTER TABLE ONLY public.log ATTACH PARTITION public.log_1 FOR VALUES FROM ('1') TO ('5');
ALTER TABLE ONLY public.log_1 ATTACH PARTITION public.log_1_1 FOR VALUES FROM ('1') TO ('3');
ALTER TABLE ONLY public.log ATTACH PARTITION public.log_2 FOR VALUES FROM ('5') TO ('9');
COPY public.log (id) FROM stdin;
1
\.
COPY public.log (id) FROM stdin;
7
\.
ALTER TABLE ONLY public.log_1_1
    ADD CONSTRAINT log_1_1_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.log_2
    ADD CONSTRAINT log_2_pkey PRIMARY KEY (id);
CREATE INDEX log_2_id ON public.log_2 USING hash (id);
