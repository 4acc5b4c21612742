"""POSTGRES_USER without superuser, with CREATEDB and CREATEROLE: it restores, or is told beforehand what it takes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.containers import postgres_container
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import DATABASE, Program, for_container, for_server

ROLES = """
CREATE ROLE chef LOGIN CONNECTION LIMIT 5;
CREATE ROLE api LOGIN;
GRANT chef TO api;
ALTER ROLE api SET work_mem TO '8MB';
ALTER ROLE api SET log_statement TO 'all';
COMMENT ON ROLE chef IS 'it''s the 19" rack';
CREATE DATABASE :"name" TEMPLATE template0 OWNER chef;
"""
SCHEMA = """
CREATE SCHEMA atelier;
ALTER SCHEMA atelier OWNER TO chef;
CREATE TABLE atelier.outils (id int PRIMARY KEY, nom text);
INSERT INTO atelier.outils SELECT g, md5(g::text) FROM generate_series(1, 500) g;
ALTER TABLE atelier.outils OWNER TO api;
CREATE TABLE public.lieux (id int PRIMARY KEY REFERENCES atelier.outils);
INSERT INTO public.lieux SELECT generate_series(1, 10);
ALTER TABLE public.lieux OWNER TO chef;
CREATE FUNCTION atelier.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
ALTER FUNCTION atelier.f() OWNER TO api;
CREATE MATERIALIZED VIEW public.vue AS SELECT count(*) FROM atelier.outils;
GRANT SELECT ON atelier.outils TO chef;
GRANT USAGE ON SCHEMA atelier TO api;
ALTER MATERIALIZED VIEW public.vue OWNER TO chef;
ALTER DEFAULT PRIVILEGES FOR ROLE chef GRANT SELECT ON TABLES TO api;
ALTER TABLE public.lieux ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON public.lieux TO api USING (id < 5);
"""
OWNERS = """
SELECT relname, relowner::regrole, relacl FROM pg_class WHERE relnamespace IN
    (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'atelier')) AND relkind IN ('r', 'm') ORDER BY 1;
"""
ALL_ROLES = "SELECT rolname FROM pg_roles ORDER BY 1"
MEMBERSHIPS = "SELECT roleid::regrole, member::regrole FROM pg_auth_members ORDER BY 1::text, 2::text"
PLAIN = "clerk"


@pytest.fixture(
    scope="module", params=["direct-16", "direct-18", pytest.param("docker-15", marks=pytest.mark.docker)]
)
def admin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A server and its superuser, with a backup of roles and objects, of which only the file is left."""
    kind, major = request.param.split("-")
    directory = tmp_path_factory.mktemp("plain")
    if kind == "direct":
        with EmbeddedPostgres(int(major)) as server:
            yield for_server(server, DATABASE, directory)
    else:
        with postgres_container(f"postgres:{major}", user="postgres", database="postgres") as name:
            yield for_container(name, directory, user="postgres")


@pytest.fixture
def backup(admin: Program) -> str:
    """The name of a backup whose roles are gone."""
    clear(admin)
    admin.psql(ROLES, variables={"name": DATABASE})
    admin.psql(SCHEMA, database=DATABASE)
    return taken(admin)


def clear(admin: Program) -> None:
    admin.drop(*(name for name in admin.databases() if name.startswith(DATABASE)))
    for role in ("api", "chef", PLAIN):
        admin.psql('DROP ROLE IF EXISTS :"role"', variables={"role": role})


def taken(admin: Program) -> str:
    """A backup; then the database and its roles are removed."""
    name = admin.backup().name
    clear(admin)
    return name


def plain(admin: Program, attributes: str = "CREATEDB CREATEROLE") -> Program:
    """The program as a role without superuser."""
    admin.psql(f"CREATE ROLE {PLAIN} LOGIN PASSWORD 'x' {attributes}")
    return admin.but(POSTGRES_USER=PLAIN, POSTGRES_PASSWORD="x")


def test_without_owners(admin: Program, backup: str) -> None:
    """--no-owner: all is ours, and neither a role nor a right of a stand-in is left."""
    hub = plain(admin)
    before = admin.psql(ALL_ROLES), admin.psql(MEMBERSHIPS)
    done = hub.run("restore", backup, "--no-owner", "--yes")
    assert done.code == 0, done.said
    assert (admin.psql(ALL_ROLES), admin.psql(MEMBERSHIPS)) == before
    assert admin.psql("SELECT count(*) FROM atelier.outils", database=DATABASE) == "500"
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname IN ('public', 'atelier')"
    assert admin.psql(owners, database=DATABASE) == PLAIN
    rights = "SELECT jsonb_agg(nspacl) || jsonb_agg(defaclacl) FROM pg_namespace LEFT JOIN pg_default_acl ON true"
    assert "hubbackup" not in admin.psql(rights, database=DATABASE)
    # And once more, in the place of a live one that is ours.
    again = hub.run("restore", backup, "--no-owner", "--yes")
    assert again.code == 0, again.said


def test_with_globals(admin: Program, backup: str) -> None:
    """--globals: the roles are made, objects and rights are theirs, and we are a member of none of them."""
    hub = plain(admin)
    memberships = admin.psql(MEMBERSHIPS)
    done = hub.run("restore", backup, "--globals", "--yes", "--json")
    assert done.code == 0, done.said
    assert sorted(done.document["roles_created"]) == ["api", "chef"]
    assert any("the setting log_statement of api" in remark for remark in done.document["remarks"])
    owners = admin.psql(OWNERS, database=DATABASE)
    assert owners.split("\n")[0] == "lieux|chef|"
    assert owners.split("\n")[1].startswith("outils|api|")
    assert admin.psql(
        "SELECT rolconnlimit, rolconfig FROM pg_roles WHERE rolname IN ('api', 'chef') ORDER BY rolname"
    )
    assert admin.psql("SELECT datdba::regrole FROM pg_database WHERE datname = :'name'", variables={"name": DATABASE})
    names = admin.psql(ALL_ROLES)
    assert "hubbackup" not in names
    # From 16 on, whoever makes a role may administer it: that is the server's own doing.
    added = set(admin.psql(MEMBERSHIPS).split("\n")) - set(memberships.split("\n"))
    assert added - {f"api|{PLAIN}", f"chef|{PLAIN}"} == {"chef|api"}
    acts = "SELECT pg_has_role(:'role', 'api', 'USAGE')"
    assert admin.psql(acts, variables={"role": PLAIN}) == "f"


def test_roles_that_exist(admin: Program, backup: str) -> None:
    """They are acted for where we may grant them; else the words say which GRANT it takes, beforehand."""
    hub = plain(admin)
    admin.psql("CREATE ROLE chef; CREATE ROLE api SUPERUSER")
    refused = hub.run("restore", backup, "--yes")
    assert refused.code == 1, refused.said
    assert "it can't act as api" in refused.err
    assert f'GRANT "api" TO "{PLAIN}"' in refused.err.replace('"api", "chef"', '"api"')
    assert DATABASE not in admin.databases()
    admin.psql(f"ALTER ROLE api NOSUPERUSER; GRANT api, chef TO {PLAIN}")
    done = hub.run("restore", backup, "--yes")
    assert done.code == 0, done.said
    assert admin.psql(OWNERS, database=DATABASE).startswith("lieux|chef|")
    assert "hubbackup" not in admin.psql(ALL_ROLES)


@pytest.mark.parametrize(
    ("attributes", "sql", "cause", "remedy"),
    [
        ("CREATEDB", "", "objects of other roles take CREATEROLE", f'ALTER ROLE "{PLAIN}" CREATEROLE'),
        (
            "CREATEDB CREATEROLE",
            "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
            " CREATE EVENT TRIGGER watch ON sql_drop EXECUTE FUNCTION e(); CREATE FOREIGN DATA WRAPPER w;",
            "only a superuser may create the foreign data wrapper w, the event trigger watch",
            f'ALTER ROLE "{PLAIN}" SUPERUSER',
        ),
        (
            "CREATEDB CREATEROLE",
            "ALTER TABLE lieux FORCE ROW LEVEL SECURITY;",
            "FORCE ROW LEVEL SECURITY hides rows from their owner",
            f'ALTER ROLE "{PLAIN}" BYPASSRLS',
        ),
        (
            "CREATEDB CREATEROLE",
            "ALTER ROLE chef SUPERUSER;",
            "only a superuser may create the role chef (SUPERUSER)",
            f'ALTER ROLE "{PLAIN}" SUPERUSER',
        ),
    ],
)
def test_what_it_takes(admin: Program, attributes: str, sql: str, cause: str, remedy: str) -> None:
    """Said beforehand, each with the statement to type; nothing is made or changed."""
    clear(admin)
    admin.psql(ROLES, variables={"name": DATABASE})
    admin.psql(SCHEMA, database=DATABASE)
    if sql:
        admin.psql(sql, database=DATABASE)
    name = taken(admin)
    hub = plain(admin, attributes)
    before = admin.psql(ALL_ROLES), admin.databases()
    refused = hub.run("restore", name, "--globals" if "ROLE chef" in sql else "--no-owner", "--yes")
    assert refused.code == 1, refused.said
    assert cause in refused.err
    assert remedy in refused.err
    assert (admin.psql(ALL_ROLES), admin.databases()) == before


def test_no_rights_beyond_its_own(admin: Program) -> None:
    """CREATEDB alone is enough where all is ours."""
    clear(admin)
    hub = plain(admin, "CREATEDB")
    admin.psql(f'CREATE DATABASE :"name" TEMPLATE template0 OWNER {PLAIN}', variables={"name": DATABASE})
    admin.psql(f"SET ROLE {PLAIN}; CREATE TABLE t AS SELECT generate_series(1, 9) a", database=DATABASE)
    name = hub.run("backup", "--json").document["name"]
    done = hub.run("restore", name, "--yes")
    assert done.code == 0, done.said
    assert admin.psql("SELECT count(*) FROM t", database=DATABASE) == "9"
