CREATE TABLE public.log (
    id bigint NOT NULL,
    at date NOT NULL
)
PARTITION BY RANGE (at);
CREATE TABLE public.log_1 (
    id bigint NOT NULL,
    at date NOT NULL
);
CREATE TABLE public.account (
    id bigint NOT NULL,
    log bigint
);
ALTER TABLE ONLY public.log ATTACH PARTITION public.log_1 FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
COPY public.account (id, log) FROM stdin;
\.
COPY public.log_1 (id, at) FROM stdin;
1	2025-05-01
\.
ALTER TABLE ONLY public.log
    ADD CONSTRAINT log_pkey PRIMARY KEY (id, at);
ALTER TABLE ONLY public.log_1
    ADD CONSTRAINT log_1_pkey PRIMARY KEY (id, at);
ALTER TABLE ONLY public.account
    ADD CONSTRAINT account_pkey PRIMARY KEY (id);
CREATE INDEX log_at ON ONLY public.log USING btree (at);
CREATE INDEX log_1_at ON public.log_1 USING btree (at);
ALTER INDEX public.log_at ATTACH PARTITION public.log_1_at;
ALTER INDEX public.log_pkey ATTACH PARTITION public.log_1_pkey;
ALTER TABLE public.log
    ADD CONSTRAINT log_account FOREIGN KEY (id) REFERENCES public.account(id);
ALTER TABLE ONLY public.account
    ADD CONSTRAINT account_log FOREIGN KEY (log, id) REFERENCES public.log(id, at);
ALTER TABLE ONLY public.account
    ADD CONSTRAINT account_itself FOREIGN KEY (log) REFERENCES public.account(id);
