"""Which roles a statement names, by the grammar: every place where one can stand, and none where none can."""

from __future__ import annotations

import random

import pytest

from hubbackup.dump.requirements import Requirements, RequirementsFinder

LONG = ", ".join(f"argument_{number} double precision" for number in range(80))


def of(statement: str) -> Requirements:
    """What one statement requires, given as the lexer gives it."""
    finder = RequirementsFinder()
    raw = statement.encode()
    finder.note(raw[:1024], raw[-320:])
    return finder.found()


@pytest.mark.parametrize(
    ("statement", "roles"),
    [
        ("ALTER TABLE public.t OWNER TO chef", ["chef"]),
        ('ALTER SCHEMA "x OWNER TO y" OWNER TO "the ""chef"""', ['the "chef"']),
        (f"ALTER FUNCTION public.f({LONG}) OWNER TO chef", ["chef"]),
        (f'ALTER FUNCTION public.f({LONG}, "a OWNER TO b" "c") OWNER TO "Équipe"', ["Équipe"]),
        ("ALTER LARGE OBJECT 16409 OWNER TO chef", ["chef"]),
        ("ALTER OPERATOR public.=== (integer, integer) OWNER TO CHEF", ["chef"]),
        ("ALTER TABLE public.t OWNER TO CURRENT_USER", []),
        ("ALTER TABLE ONLY public.t ALTER COLUMN owner SET DEFAULT ''", []),
        ("ALTER SEQUENCE public.s OWNED BY public.t.id", []),
        ("GRANT SELECT ON TABLE public.t TO api", ["api"]),
        ("GRANT SELECT(nom),UPDATE(nom) ON TABLE public.t TO api WITH GRANT OPTION", ["api"]),
        ('GRANT ALL ON TABLE "t TO nobody" TO "api TO"', ["api TO"]),
        (f"GRANT ALL ON FUNCTION public.f({LONG}) TO api", ["api"]),
        ('GRANT ALL ON LARGE OBJECT 1 TO a, "b", c GRANTED BY d', ["a", "b", "c", "d"]),
        ("REVOKE ALL ON SCHEMA public FROM chef", ["chef"]),
        ("REVOKE GRANT OPTION FOR ALL ON TYPE public.x FROM chef CASCADE", ["chef"]),
        ("REVOKE ALL ON SCHEMA public FROM PUBLIC", []),
        ("REVOKE ALL ON SCHEMA public FROM public", []),
        ('GRANT ALL ON SCHEMA public TO "public"', []),
        ("ALTER DEFAULT PRIVILEGES FOR ROLE chef IN SCHEMA public GRANT SELECT ON TABLES  TO api", ["api", "chef"]),
        ('ALTER DEFAULT PRIVILEGES FOR ROLE "c h" REVOKE ALL ON FUNCTIONS  FROM PUBLIC', ["c h"]),
        ('CREATE POLICY "Give access TO my team" ON public.t FOR SELECT USING (true)', []),
        ("CREATE POLICY p ON public.t TO api", ["api"]),
        ('CREATE POLICY p ON public."t TO x" AS RESTRICTIVE FOR ALL TO api, "b, c", PUBLIC', ["api", "b, c"]),
        (f"CREATE POLICY p ON public.t FOR SELECT TO a, b USING ((id IN ({LONG})))", ["a", "b"]),
        ("CREATE POLICY p ON public.t USING ((owner = '')) WITH CHECK (extract(year FROM x) > 3)", []),
        ("CREATE USER MAPPING FOR api SERVER elsewhere OPTIONS (\n    password ''\n)", ["api"]),
        ("CREATE USER MAPPING FOR PUBLIC SERVER elsewhere", []),
        ("CREATE USER MAPPING IF NOT EXISTS FOR CURRENT_USER SERVER elsewhere", []),
        ("CREATE SCHEMA s AUTHORIZATION chef", ["chef"]),
        ("CREATE SCHEMA authorization_of", []),
        ("SET SESSION AUTHORIZATION chef", ["chef"]),
        ("SET SESSION AUTHORIZATION DEFAULT", []),
        ("SET search_path = public, TO chef", []),
        ("COMMENT ON COLUMN public.t.a IS ''", []),
        ("CREATE VIEW public.v AS SELECT a FROM chef", []),
        ("CREATE RULE r AS ON INSERT TO public.t DO ALSO NOTIFY chef", []),
    ],
)
def test_every_place_where_a_role_can_stand(statement: str, roles: list[str]) -> None:
    """And none where none can: a name that looks like a clause, a column named owner, the FROM of a query."""
    assert sorted(of(statement).roles) == roles


@pytest.mark.parametrize("template", ["GRANT ALL ON TABLE {} TO {}", "ALTER SCHEMA {} OWNER TO {}"])
def test_no_name_is_taken_for_a_clause(template: str) -> None:
    """Whatever stands in quoted names before it, the last one is the role, and the only one."""
    chosen = random.Random(12)
    pieces = ['""', " TO ", " FROM ", " OWNER TO ", ", ", "a", " WITH GRANT OPTION", "'", "$$", ";", ".", "é"]
    for _ in range(3000):
        first, role = ("".join(chosen.choices(pieces, k=chosen.randint(1, 9))) for _ in "ab")
        assert of(template.format(f'"{first}"', f'"{role}"')).roles == {role.replace('""', '"')}


@pytest.mark.parametrize(
    ("statement", "superusers"),
    [
        ("ALTER EVENT TRIGGER e OWNER TO chef", {"chef"}),
        ("ALTER FOREIGN DATA WRAPPER w OWNER TO chef", {"chef"}),
        ("ALTER PUBLICATION p OWNER TO chef", {"chef"}),
        ("ALTER SUBSCRIPTION s OWNER TO chef", {"chef"}),
        ("ALTER FOREIGN TABLE t OWNER TO chef", set()),
        ("ALTER SERVER s OWNER TO chef", set()),
    ],
)
def test_whose_owner_must_be_a_superuser(statement: str, superusers: set[str]) -> None:
    """A stand-in for such a role has to be one as well."""
    found = of(statement)
    assert (found.superusers, found.acting) == (superusers, {"chef"})


@pytest.mark.parametrize(
    ("statement", "privileged"),
    [
        ("CREATE EVENT TRIGGER audit ON ddl_command_end EXECUTE FUNCTION public.f()", "the event trigger audit"),
        ("CREATE FOREIGN DATA WRAPPER w", "the foreign data wrapper w"),
        ("CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p WITH (connect = false)", "the subscription s"),
        ("CREATE PUBLICATION p FOR ALL TABLES WITH (publish = '')", "the publication p"),
        ("ALTER PUBLICATION p ADD TABLES IN SCHEMA s", "the publication p"),
        ("CREATE PUBLICATION p WITH (publish = '')", None),
        ("CREATE OR REPLACE PROCEDURAL LANGUAGE plx", "the language plx"),
        ("CREATE FUNCTION public.f(a integer) RETURNS int\n    LANGUAGE c STRICT\n    AS '', ''", "public.f in c"),
        ("CREATE FUNCTION public.f() RETURNS text\n    LANGUAGE plpython3u\n    AS ''", "public.f in plpython3u"),
        ("CREATE FUNCTION public.f() RETURNS text\n    LANGUAGE sql LEAKPROOF\n    AS ''", "public.f in sql"),
        ("CREATE FUNCTION public.language(c text) RETURNS text\n    LANGUAGE plpgsql\n    AS ''", None),
        ("CREATE TYPE public.box3", "the type public.box3"),
        ("CREATE TYPE public.box3 (\n    INTERNALLENGTH = 8", "the type public.box3"),
        ("CREATE TYPE public.pair AS (\n a int)", None),
        ("CREATE OPERATOR CLASS public.o\n    FOR TYPE int USING btree AS", "the operator class public.o"),
        ("CREATE CAST (text AS public.x) WITHOUT FUNCTION", "WITHOUT FUNCTION"),
        ("CREATE CAST (text AS public.x) WITH FUNCTION public.f(text)", None),
        ("CREATE TABLE public.event (trigger int)", None),
    ],
)
def test_what_only_a_superuser_may_make(statement: str, privileged: str | None) -> None:
    """So that a role without that right is told beforehand."""
    found = of(statement).privileged
    assert (privileged in found[0]) if privileged else found == ()


@pytest.mark.parametrize(
    ("statement", "collations"),
    [
        ("CREATE COLLATION public.fr (provider = icu, deterministic = false, locale = '')", {"public.fr"}),
        ("CREATE COLLATION public.\"provider = icu\" (provider = libc, locale = '')", set()),
        ("CREATE COLLATION public.c (lc_collate = '', lc_ctype = '')", set()),
    ],
)
def test_which_collations_take_icu(statement: str, collations: set[str]) -> None:
    """By its provider, not by a name that looks like it."""
    assert of(statement).icu_collations == collations


def test_rows_hidden_from_their_owner() -> None:
    """FORCE ROW LEVEL SECURITY: counting them takes BYPASSRLS."""
    assert of("ALTER TABLE ONLY public.t FORCE ROW LEVEL SECURITY").forced_row_security
    assert not of("ALTER TABLE public.t ENABLE ROW LEVEL SECURITY").forced_row_security
