CREATE TABLE public.a (
    i integer
);
INSERT INTO public.a VALUES (1);
CREATE INDEX x ON public.a USING btree (i);
