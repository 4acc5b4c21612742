SET statement_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SELECT pg_catalog.set_config('search_path', '', false);
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.account (
    id integer NOT NULL,
    email text
);
ALTER TABLE public.account OWNER TO app;
CREATE TABLE public."Order" (
    id integer NOT NULL,
    account integer,
    total numeric DEFAULT 0
);
CREATE UNLOGGED TABLE public.session (
    token text NOT NULL
);
CREATE TABLE public.left_out (
    id integer NOT NULL
);
COPY public."Order" (id, account, total) FROM stdin;
1	1	10
2	1	20
3	2	30
4	2	40
5	2	50
6	2	60
\.
COPY public.account (id, email) FROM stdin;
1	a@example
2	b@example
\.
COPY public.session (token) FROM stdin;
\.
SELECT pg_catalog.setval('public.account_id_seq', 2, true);
ALTER TABLE ONLY public."Order"
    ADD CONSTRAINT "Order_pkey" PRIMARY KEY (id);
ALTER TABLE ONLY public.account
    ADD CONSTRAINT account_email_key UNIQUE (email);
ALTER TABLE ONLY public.account
    ADD CONSTRAINT account_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.session
    ADD CONSTRAINT session_pkey PRIMARY KEY (token);
ALTER TABLE ONLY public.left_out
    ADD CONSTRAINT left_out_pkey PRIMARY KEY (id);
CREATE INDEX "Order_by_account" ON public."Order" USING btree (account, id) INCLUDE (total);
CREATE INDEX "Order_words" ON public."Order" USING gin (to_tsvector('simple'::regconfig, (total)::text)) WHERE (total > (5)::numeric);
COMMENT ON INDEX public."Order_words" IS 'a comment; CREATE INDEX none ON public.account USING btree (id);';
ALTER TABLE public."Order" CLUSTER ON "Order_by_account";
CREATE TRIGGER touched BEFORE UPDATE ON public.account FOR EACH ROW EXECUTE FUNCTION public.touch();
ALTER TABLE ONLY public."Order"
    ADD CONSTRAINT order_account FOREIGN KEY (account) REFERENCES public.account(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.session
    ADD CONSTRAINT session_account FOREIGN KEY (token) REFERENCES public.account(email) NOT VALID;
ALTER TABLE public.account ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON TABLE public.account TO reader;
