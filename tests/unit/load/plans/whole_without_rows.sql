CREATE TABLE public.a (
    i integer
);
