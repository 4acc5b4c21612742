"""A role that is missing on the new server, in every place where one can stand: named beforehand, and not needed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import DATABASE, Program, for_server

TABLE = "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x');"
FUNCTION = "CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'SELECT 1';"
TRIGGER = "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
WRAPPER = "CREATE FOREIGN DATA WRAPPER w;"
SERVER = f"{WRAPPER} CREATE SERVER s FOREIGN DATA WRAPPER w;"
FREE = """CREATE FOREIGN TABLE ft (a int) SERVER s; ALTER FOREIGN TABLE ft OWNER TO "Équipe TO";"""
SHAPES = {
    "owner of a table": f'{TABLE} ALTER TABLE t OWNER TO "Équipe TO";',
    "owner of a schema": 'CREATE SCHEMA s; CREATE TABLE s.t (a int); ALTER SCHEMA s OWNER TO "Équipe TO";',
    "owner of a function": f'{FUNCTION} ALTER FUNCTION f(int) OWNER TO "Équipe TO";',
    "owner of a type": "CREATE TYPE y AS ENUM ('a'); ALTER TYPE y OWNER TO \"Équipe TO\";",
    "owner of a domain": 'CREATE DOMAIN d AS int; ALTER DOMAIN d OWNER TO "Équipe TO";',
    "owner of a sequence": 'CREATE SEQUENCE q; ALTER SEQUENCE q OWNER TO "Équipe TO";',
    "owner of a view": f'{TABLE} CREATE VIEW v AS SELECT a FROM t; ALTER VIEW v OWNER TO "Équipe TO";',
    "owner of a materialized view": f"{TABLE} CREATE MATERIALIZED VIEW m AS SELECT a FROM t;"
    ' ALTER MATERIALIZED VIEW m OWNER TO "Équipe TO"; GRANT SELECT ON t TO "Équipe TO";',
    "owner of a large object": 'SELECT lo_create(77); ALTER LARGE OBJECT 77 OWNER TO "Équipe TO";',
    "owner of an operator": f"CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);"
    f' {FUNCTION} ALTER OPERATOR === (int, int) OWNER TO "Équipe TO";',
    "owner of a collation": 'CREATE COLLATION c FROM "C"; ALTER COLLATION c OWNER TO "Équipe TO";',
    "owner of an event trigger": f"{TRIGGER} CREATE EVENT TRIGGER et ON sql_drop EXECUTE FUNCTION e();"
    ' ALTER ROLE "Équipe TO" SUPERUSER; ALTER EVENT TRIGGER et OWNER TO "Équipe TO";',
    "owner of a foreign data wrapper": f'{WRAPPER} ALTER ROLE "Équipe TO" SUPERUSER;'
    ' ALTER FOREIGN DATA WRAPPER w OWNER TO "Équipe TO";',
    "owner of a server": f'{SERVER} GRANT USAGE ON FOREIGN DATA WRAPPER w TO "Équipe TO";'
    ' ALTER SERVER s OWNER TO "Équipe TO";',
    "owner of a foreign table": f"{SERVER} {FREE}",
    "owner of a publication": 'CREATE PUBLICATION p FOR ALL TABLES; ALTER ROLE "Équipe TO" SUPERUSER;'
    ' ALTER PUBLICATION p OWNER TO "Équipe TO";',
    "owner of a subscription": "CREATE SUBSCRIPTION sub CONNECTION 'host=nowhere password=x' PUBLICATION p"
    ' WITH (connect = false, slot_name = NONE); ALTER ROLE "Équipe TO" SUPERUSER;'
    ' ALTER SUBSCRIPTION sub OWNER TO "Équipe TO";',
    "owner of a text search configuration": "CREATE TEXT SEARCH CONFIGURATION ts (COPY = french);"
    ' ALTER TEXT SEARCH CONFIGURATION ts OWNER TO "Équipe TO";',
    "owner of statistics": f'{TABLE} CREATE STATISTICS st ON a, b FROM t; ALTER STATISTICS st OWNER TO "Équipe TO";',
    "grant on a table": f'{TABLE} GRANT SELECT ON t TO "Équipe TO" WITH GRANT OPTION;',
    "grant on a column": f'{TABLE} GRANT UPDATE (b) ON t TO "Équipe TO";',
    "grant on a schema": 'CREATE SCHEMA s; GRANT USAGE ON SCHEMA s TO "Équipe TO";',
    "grant on a function": f"{FUNCTION} REVOKE ALL ON FUNCTION f FROM PUBLIC;"
    ' GRANT EXECUTE ON FUNCTION f TO "Équipe TO";',
    "grant on the database": 'GRANT CREATE ON DATABASE :"name" TO "Équipe TO";',
    "grant on a type": "CREATE TYPE y AS ENUM ('a'); GRANT USAGE ON TYPE y TO \"Équipe TO\";",
    "grant on a wrapper": f'{WRAPPER} GRANT USAGE ON FOREIGN DATA WRAPPER w TO "Équipe TO";',
    "grant on a server": f'{SERVER} GRANT USAGE ON FOREIGN SERVER s TO "Équipe TO";',
    "grant on a large object": 'SELECT lo_create(77); GRANT SELECT ON LARGE OBJECT 77 TO "Équipe TO";',
    "default privileges for": 'ALTER DEFAULT PRIVILEGES FOR ROLE "Équipe TO" GRANT SELECT ON TABLES TO PUBLIC;',
    "default privileges to": 'ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO "Équipe TO";',
    "policy without USING": f'{TABLE} CREATE POLICY p ON t TO "Équipe TO";',
    "policy with USING": f'{TABLE} CREATE POLICY p ON t FOR SELECT TO pg_monitor, "Équipe TO" USING (a > 1);',
    "user mapping": f"{SERVER} CREATE USER MAPPING FOR \"Équipe TO\" SERVER s OPTIONS (password 'x');",
    "grantor": f'{TABLE} GRANT SELECT ON t TO "Équipe TO" WITH GRANT OPTION; SET ROLE "Équipe TO";'
    " GRANT SELECT ON t TO pg_monitor; RESET ROLE;",
    "settings in the database": 'ALTER ROLE "Équipe TO" IN DATABASE :"name" SET work_mem TO \'8MB\';',
    "owner of the database": 'ALTER DATABASE :"name" OWNER TO "Équipe TO";',
}
ALL_ROLES = "SELECT rolname FROM pg_roles ORDER BY 1"


@pytest.fixture(scope="module", params=[16, 18])
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A server on which a role is made for a backup, and removed before the restore."""
    with EmbeddedPostgres(request.param, configuration={"wal_level": "logical", "max_wal_senders": "2"}) as server:
        yield for_server(server, DATABASE, tmp_path_factory.mktemp("roles"))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_missing_role(hub: Program, shape: str) -> None:
    """Named beforehand, whatever it stands for; --no-owner restores without it, and leaves no role of ours behind."""
    hub.drop(*(name for name in hub.databases() if name.startswith(DATABASE)))
    before = hub.psql(ALL_ROLES)
    hub.psql('CREATE ROLE "Équipe TO"; CREATE DATABASE :"name" TEMPLATE template0', variables={"name": DATABASE})
    hub.psql(SHAPES[shape], database=DATABASE, variables={"name": DATABASE})
    name = hub.backup().name
    if "subscription" in shape:
        hub.psql("DROP SUBSCRIPTION sub", database=DATABASE)
    hub.drop(DATABASE)
    hub.psql('DROP ROLE "Équipe TO"')

    refused = hub.run("restore", name, "--yes")
    assert refused.code == 1, refused.said
    assert "these roles do not exist on this server: Équipe TO" in refused.err, refused.said
    assert hub.psql(ALL_ROLES) == before
    assert DATABASE not in hub.databases()

    done = hub.run("restore", name, "--no-owner", "--yes")
    assert done.code == 0, done.said
    assert hub.psql(ALL_ROLES) == before
    assert "hubbackup" not in hub.psql("SELECT jsonb_agg(nspacl) FROM pg_namespace", database=DATABASE)
    if "event trigger" in shape:
        assert (
            hub.psql("SELECT evtowner::regrole FROM pg_event_trigger", database=DATABASE)
            == hub.settings["POSTGRES_USER"]
        )
    if "subscription" in shape:
        hub.psql("DROP SUBSCRIPTION sub", database=DATABASE)


def test_a_policy_may_have_any_name(hub: Program) -> None:
    """Its name is no clause: "Give access TO my team" asks for no role."""
    hub.drop(*(name for name in hub.databases() if name.startswith(DATABASE)))
    hub.psql('CREATE DATABASE :"name" TEMPLATE template0', variables={"name": DATABASE})
    hub.psql(f'{TABLE} CREATE POLICY "Give access TO my team" ON t USING (true);', database=DATABASE)
    name = hub.backup().name
    done = hub.run("restore", name, "--yes")
    assert done.code == 0, done.said
