"""Restore on another server: other roles, version and locale; from S3, as scenario 3 of the guide has it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.backups import plain_of, signed_text, unproven
from tests.support.containers import postgres_container
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.fingerprint import diff, fingerprint
from tests.support.program import DATABASE, Program, for_container, for_server
from tests.support.s3 import S3Server
from tests.support.sample import SMALL

KEY = {"BACKUP_MANIFEST_KEY": "carried over from server A"}
ROLES = """
CREATE ROLE "hub Équipe" NOLOGIN;
CREATE ROLE hub_api LOGIN PASSWORD 'a password of the api' VALID UNTIL '2030-01-01' IN ROLE "hub Équipe";
CREATE ROLE hub_chef CREATEDB;
GRANT "hub Équipe" TO hub_chef WITH ADMIN OPTION;
ALTER ROLE hub_api SET work_mem TO '8MB';
COMMENT ON ROLE hub_api IS 'it''s the api; not a person';
ALTER TABLE chantiers OWNER TO "hub Équipe";
GRANT SELECT ON utilisateurs TO hub_api;
ALTER TABLE utilisateurs ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON utilisateurs TO hub_api USING (id < 10);
ALTER DEFAULT PRIVILEGES FOR ROLE hub_chef GRANT SELECT ON TABLES TO hub_api;
ALTER DATABASE :"name" OWNER TO hub_chef;
ALTER ROLE hub_api IN DATABASE :"name" SET search_path TO public;
GRANT CONNECT ON DATABASE :"name" TO hub_api;
"""
FACTS_OF_ROLES = """
SELECT rolname, rolsuper, rolcreatedb, rolcanlogin, rolvaliduntil AT TIME ZONE 'UTC', rolconfig,
       shobj_description(oid, 'pg_authid'),
       (SELECT array_agg((roleid::regrole::text, admin_option) ORDER BY 1) FROM pg_auth_members WHERE member = r.oid)
FROM pg_roles r WHERE rolname LIKE 'hub\\_%' OR rolname LIKE 'hub %' ORDER BY 1;
"""


@pytest.fixture(scope="module")
def source(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Server A: PostgreSQL 16 with roles of its own, its backup in S3 too."""
    with EmbeddedPostgres(16) as server:
        server.create_database(DATABASE, options="TEMPLATE template0")
        hub = for_server(server, DATABASE, tmp_path_factory.mktemp("a"), **s3.settings(s3.bucket()), **KEY)
        hub.psql(SMALL, database=DATABASE)
        hub.psql(ROLES, database=DATABASE, variables={"name": DATABASE})
        yield hub


@pytest.fixture(scope="module", params=["direct-18", pytest.param("docker-17", marks=pytest.mark.docker)])
def other_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Server B: a newer one; in a container its superuser has another name too."""
    with ExitStack() as stack:
        if request.param == "direct-18":
            yield for_server(stack.enter_context(EmbeddedPostgres(18)), DATABASE, tmp_path_factory.mktemp("b"))
        else:
            name = stack.enter_context(postgres_container(user="postgres", database="postgres"))
            yield for_container(name, tmp_path_factory.mktemp("b"), user="postgres")


@pytest.fixture
def empty(other_server: Program, source: Program, tmp_path: Path) -> Iterator[Program]:
    """Server B, empty, with none of A's roles, none of its backups but through S3, and its manifest key."""
    shared = {name: value for name, value in source.settings.items() if name.startswith(("S3_", "AWS_"))}
    hub = replace(other_server.but(**shared, **KEY), directory=tmp_path)
    before, roles = hub.databases(), set(hub.psql(ALL_ROLES).split("\n"))
    yield hub
    hub.drop(*(hub.databases() - before))
    for role in set(hub.psql(ALL_ROLES).split("\n")) - roles:
        hub.psql('DROP ROLE :"role"', variables={"role": role})


ALL_ROLES = "SELECT rolname FROM pg_roles ORDER BY 1"


def test_scenario_3_to_a_new_server(source: Program, empty: Program) -> None:
    """Backup with upload on A; on the empty B the roles are missing, --globals makes them: equal fingerprints."""
    good = fingerprint(source.psql, DATABASE)
    name = source.backup().name
    before = empty.databases()
    refused = empty.run("restore", "--from-s3", name, "--yes")
    assert refused.code == 1, refused.said
    assert "these roles do not exist on this server: " in refused.err
    for role in ("hub Équipe", "hub_api", "hub_chef"):
        assert role in refused.err
    assert "--globals creates them from the backup" in refused.err
    assert empty.databases() == before
    assert list((empty.backups / ".hubbackup").glob("download-*")) == []

    done = empty.run("restore", "--from-s3", name, "--globals", "--yes")
    assert done.code == 0, done.said
    assert diff(good, fingerprint(empty.psql, DATABASE)) == []
    assert empty.psql(FACTS_OF_ROLES) == source.psql(FACTS_OF_ROLES)
    assert empty.psql("SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = 'hub_api'") == "t"
    assert "Roles created: " in done.out
    assert "restart api" in done.out
    assert "kept as" not in done.out
    assert list((empty.backups / ".hubbackup").glob("download-*")) == []
    # --latest finds it in S3 too, where the new server has no local copy.
    assert empty.run("restore", "--latest", "--yes").code == 0


def test_passwords_only_where_asked_for(source: Program, empty: Program) -> None:
    """BACKUP_GLOBALS=with-passwords: the role's password hash comes along; a role that exists is never altered."""
    name = source.backup(BACKUP_GLOBALS="with-passwords").name
    empty.psql("CREATE ROLE hub_chef NOLOGIN CONNECTION LIMIT 3")
    done = empty.run("restore", "--from-s3", name, "--globals", "--yes", "--json")
    assert done.code == 0, done.said
    assert set(done.document["roles_created"]) >= {"hub Équipe", "hub_api"}
    assert "hub_chef" not in done.document["roles_created"]
    password = "SELECT rolpassword FROM pg_authid WHERE rolname = 'hub_api'"
    assert empty.psql(password) == source.psql(password) != ""
    chef = "SELECT rolcreatedb, rolconnlimit FROM pg_roles WHERE rolname = 'hub_chef'"
    assert empty.psql(chef) == "f|3"


def test_without_owners(source: Program, empty: Program) -> None:
    """--no-owner: every row is there, what belonged to missing roles is ours, and no role has been made."""
    good = fingerprint(source.psql, DATABASE)
    name = source.backup().name
    roles = empty.psql(ALL_ROLES)
    done = empty.run("restore", "--from-s3", name, "--no-owner", "--yes")
    assert done.code == 0, done.said
    assert fingerprint(empty.psql, DATABASE).rows == good.rows
    assert empty.psql(ALL_ROLES) == roles
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
    assert empty.psql(owners, database=DATABASE) == empty.settings["POSTGRES_USER"]


def test_no_globals_in_the_backup(source: Program, tmp_path: Path) -> None:
    """--globals where the backup has none is exit 2, before anything is done."""
    name = source.backup(BACKUP_GLOBALS="false").name
    done = source.run("restore", name, "--globals", "--yes")
    assert done.code == 2, done.said
    assert "has no globals" in done.err
    assert source.derived("before") == []


def test_an_older_server_is_refused(source: Program, postgres18: EmbeddedPostgres, tmp_path: Path) -> None:
    """A dump of 18 on a 16: refused with the reason; --force tries, and what comes of it is whole or nothing."""
    newer = for_server(postgres18, DATABASE, tmp_path, **KEY)
    older = replace(source, directory=tmp_path)
    postgres18.create_database(DATABASE, options="TEMPLATE template0")
    try:
        postgres18.psql(SMALL, database=DATABASE)
        file = newer.backup(BACKUP_GLOBALS="false")
        wanted, live = fingerprint(newer.psql, DATABASE), fingerprint(older.psql, DATABASE)
        refused = older.run("restore", str(file), "--yes")
        assert refused.code == 1, refused.said
        assert "comes from PostgreSQL 18" in refused.err
        assert "an older server may lack what the dump uses" in refused.err
        assert diff(live, fingerprint(older.psql, DATABASE)) == []
        done = older.run("restore", str(file), "--into", "tried", "--force", "--yes")
        assert done.code == 0, done.said
        assert diff(wanted, fingerprint(older.psql, "tried")) == []
        # What the older server truly can't do fails in the middle, beside the live database.
        rows = b"COPY public.utilisateurs"
        plain = plain_of(file).replace(rows, b"CREATE VIEW public.v AS\n SELECT uuidv7();\n" + rows, 1)
        done = older.run("restore", str(unproven(older.backups, plain)), "--force", "--yes")
        assert done.code == 1, done.said
        assert "uuidv7" in done.err
        assert diff(live, fingerprint(older.psql, DATABASE)) == []
        assert older.derived("restore") == []
    finally:
        postgres18.drop_database(DATABASE)
        older.drop("tried")


def test_latin1(postgres16: EmbeddedPostgres, tmp_path: Path) -> None:
    """A database in LATIN1, with accents in its tables' names: found, counted, restored in LATIN1."""
    name = "hub_latin1"
    hub = for_server(postgres16, name, tmp_path)
    postgres16.create_database(name, options="TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        hub.psql(
            """CREATE TABLE "été" ("à" text); INSERT INTO "été" VALUES ('café'), ('où');
            CREATE TABLE "Ã©" (n int); INSERT INTO "Ã©" VALUES (1);""",
            database=name,
        )
        good = fingerprint(hub.psql, name)
        file = hub.backup()
        hub.psql('DROP TABLE "été"', database=name)
        done = hub.run("restore", "--latest", "--yes")
        assert done.code == 0, done.said
        assert diff(good, fingerprint(hub.psql, name)) == []
        done = hub.run("restore", str(unproven(hub.backups, plain_of(file))), "--yes")
        assert done.code == 0, done.said
        assert diff(good, fingerprint(hub.psql, name)) == []
    finally:
        hub.drop(name, *hub.derived("before"))


def test_a_refused_setting_is_a_remark(postgres16: EmbeddedPostgres, tmp_path: Path) -> None:
    """A setting that this server can't have costs no restore: the rest is applied, and the refusal told."""
    hub = for_server(postgres16, "hub_settings", tmp_path)
    postgres16.create_database(hub.database, options="TEMPLATE template0")
    try:
        hub.psql(SMALL, database=hub.database)
        file = hub.backup()
        beside = Path(str(file).replace(".sql.gz", ".manifest.json"))
        document = json.loads(beside.read_text())
        document["properties"]["settings"] = [["", "lc_messages=xx_XX.UTF-8"], ["", "work_mem=7MB"], ["", "gone=1"]]
        document["properties"]["comment"] = "a comment"
        beside.write_text(signed_text(hub.backups, document))
        done = hub.run("restore", "--latest", "--yes")
        assert done.code == 0, done.said
        assert (
            "Note: the server refused what the backup's database had, the setting lc_messages: invalid value"
            in done.out
        )
        assert "the setting gone: unrecognized configuration parameter" in done.out
        assert hub.psql("SHOW work_mem", database=hub.database) == "7MB"
        assert (
            hub.psql(
                f"SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{hub.database}'"
            )
            == "a comment"
        )
    finally:
        hub.drop(hub.database, *hub.derived("before"))


@pytest.mark.docker
def test_icu_and_builtin_locales(docker_engine: str, tmp_path: Path) -> None:
    """Databases with an ICU locale (and rules) or 17's builtin one come back with them, whatever template0 has."""
    with postgres_container() as name:
        for database, options in (
            ("hub_icu", "LOCALE_PROVIDER icu ICU_LOCALE 'fr-FR' ICU_RULES '&a < g' LOCALE 'C.UTF-8'"),
            ("hub_latin", "ENCODING 'LATIN1' LOCALE_PROVIDER icu ICU_LOCALE 'und' ICU_RULES '&z < é' LOCALE 'C'"),
            ("hub_builtin", "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'"),
        ):
            hub = for_container(name, tmp_path, database=database)
            hub.psql(f"CREATE DATABASE {database} TEMPLATE template0 {options}")
            hub.psql(SMALL, database=database)
            row = "SELECT to_jsonb(d) - 'oid' - 'datfrozenxid' - 'datminmxid' FROM pg_database d"
            row += f" WHERE datname = '{database}'"
            good, wanted = fingerprint(hub.psql, database), hub.psql(row)
            hub.backup()
            done = hub.run("restore", "--latest", "--yes")
            assert done.code == 0, done.said
            assert diff(good, fingerprint(hub.psql, database)) == []
            assert hub.psql(row) == wanted


def test_special_kinds_of_objects(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    """Event triggers, unlogged tables, forced row security, identities, inheritance, an extension's own types."""
    hub = for_server(postgres, "hub_special", tmp_path)
    postgres.create_database(hub.database, options="TEMPLATE template0")
    try:
        hub.psql(SPECIAL, database=hub.database)
        good = fingerprint(hub.psql, hub.database)
        hub.backup()
        done = hub.run("restore", "--latest", "--yes")
        assert done.code == 0, done.said
        assert diff(good, fingerprint(hub.psql, hub.database)) == []
    finally:
        hub.drop(hub.database, *hub.derived("before"))


SPECIAL = """
CREATE FUNCTION noted() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE EVENT TRIGGER note ON ddl_command_start EXECUTE FUNCTION noted();
CREATE UNLOGGED TABLE u (n int); INSERT INTO u VALUES (1);
CREATE TABLE forced (n int); INSERT INTO forced VALUES (1), (2);
ALTER TABLE forced ENABLE ROW LEVEL SECURITY; ALTER TABLE forced FORCE ROW LEVEL SECURITY;
CREATE TABLE parent (id int GENERATED ALWAYS AS IDENTITY, t text); INSERT INTO parent (t) VALUES ('p');
CREATE TABLE child (more int) INHERITS (parent); INSERT INTO child VALUES (7, 'c', 1);
CREATE TABLE odd (t text); INSERT INTO odd VALUES (E'SET transaction_timeout = 0;'), (E'\\\\restrict abc'),
  (E'--\n-- PostgreSQL database dump complete\n--\n'), (E'\\\\.'), (NULL), ('');
CREATE EXTENSION vector; CREATE TABLE v (e vector(3)); INSERT INTO v VALUES ('[1,2,3]');
CREATE TABLE "select ""x""; \\! ls" (n int); INSERT INTO "select ""x""; \\! ls" VALUES (1);
"""
