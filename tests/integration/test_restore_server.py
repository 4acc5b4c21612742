"""A whole server: `restore --all` on an empty one brings every database of a store back, whatever becomes of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.fingerprint import Fingerprint, diff, fingerprint
from tests.support.program import DATABASE, Done, Program, for_server
from tests.support.s3 import S3Server
from tests.support.sample import SMALL

KEY = {"BACKUP_MANIFEST_KEY": "carried over from server A"}
ODD = 'L\'été "2026" : 50 %\\'
LONG = "chantiers_" + "é" * 26 + "x"
ROLES = """
CREATE ROLE "hub Équipe" NOLOGIN;
CREATE ROLE hub_api LOGIN PASSWORD 'secret' IN ROLE "hub Équipe";
CREATE ROLE "o'brien" CREATEDB;
COMMENT ON ROLE hub_api IS 'it''s the api';
ALTER ROLE hub_api SET work_mem TO '8MB';
"""
SMALLER = """
CREATE TABLE t (n int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 50);
CREATE SCHEMA "an other";
CREATE TABLE "an other"."T ""q"" é" (a text); INSERT INTO "an other"."T ""q"" é" VALUES ('é');
"""
CONTENT = {
    DATABASE: SMALL + 'ALTER TABLE chantiers OWNER TO "hub Équipe"; GRANT SELECT ON utilisateurs TO hub_api;',
    ODD: SMALLER + 'GRANT USAGE ON SCHEMA "an other" TO hub_api;',
    LONG: SMALLER + 'ALTER TABLE t OWNER TO "o\'brien";',
    "paie": """CREATE TABLE bulletin (id int GENERATED ALWAYS AS IDENTITY, le timestamptz DEFAULT now(), brut money);
        INSERT INTO bulletin (brut) SELECT 1000 + g FROM generate_series(1, 300) g;
        CREATE MATERIALIZED VIEW par_jour AS SELECT le::date, count(*) FROM bulletin GROUP BY 1;
        REVOKE ALL ON DATABASE paie FROM PUBLIC; GRANT CONNECT ON DATABASE paie TO hub_api;
        ALTER DATABASE paie SET timezone TO 'Europe/Paris'; ALTER ROLE hub_api IN DATABASE paie SET work_mem TO '9MB';
        COMMENT ON DATABASE paie IS 'la paie, d''avant';""",
    "latin": """CREATE TABLE "été" ("à" text); INSERT INTO "été" VALUES ('café');
        ALTER DATABASE latin OWNER TO "o'brien"; ALTER TABLE "été" OWNER TO "hub Ã\x89quipe";""",
}
FACTS_OF_ROLES = """
SELECT rolname, rolsuper, rolcreatedb, rolcanlogin, rolconfig, shobj_description(oid, 'pg_authid'),
       (SELECT array_agg(roleid::regrole::text ORDER BY 1) FROM pg_auth_members WHERE member = r.oid)
FROM pg_roles r WHERE rolname LIKE 'hub\\_%' OR rolname LIKE 'hub %' OR rolname LIKE 'o''%' ORDER BY 1;
"""
OF_OURS = "SELECT rolname FROM pg_roles WHERE rolname NOT LIKE 'pg\\_%' AND rolname <> 'hubchantier'"


@dataclass
class Old:
    """Server A: its program, each database as it was, and the name of each one's backup; all are in S3."""

    hub: Program
    good: dict[str, Fingerprint]
    names: dict[str, str]
    roles: str


@pytest.fixture(scope="module")
def old(s3: S3Server, tmp_path_factory: pytest.TempPathFactory, postgres16: EmbeddedPostgres) -> Iterator[Old]:
    assert len(LONG.encode()) == 63
    hub = for_server(postgres16, DATABASE, tmp_path_factory.mktemp("a"), **s3.settings(s3.bucket()), **KEY)
    postgres16.psql(ROLES)
    latin = "TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
    for name, sql in CONTENT.items():
        postgres16.create_database(name, options=latin if name == "latin" else "TEMPLATE template0")
        hub.psql(sql, database=name)
    names = {name: hub.backup(POSTGRES_DB=name).name for name in CONTENT}
    good = {name: fingerprint(hub.psql, name) for name in CONTENT}
    yield Old(hub, good, names, hub.psql(FACTS_OF_ROLES))
    hub.drop(*CONTENT)
    drop_roles(hub)


def drop_roles(hub: Program) -> None:
    for role in hub.psql(OF_OURS).split("\n"):
        if role:
            hub.psql('DROP ROLE :"role"', variables={"role": role})


@pytest.fixture(scope="module")
def newer() -> Iterator[EmbeddedPostgres]:
    """Server B: another major version, nothing on it."""
    with EmbeddedPostgres(18) as server:
        yield server


@pytest.fixture
def new(newer: EmbeddedPostgres, old: Old, tmp_path: Path) -> Iterator[Program]:
    """The program on server B, with A's bucket and manifest key, and nothing on its disk."""
    shared = {name: value for name, value in old.hub.settings.items() if name.startswith(("S3_", "AWS_"))}
    hub = for_server(newer, DATABASE, tmp_path, **shared, **KEY)
    before = hub.databases()
    yield hub
    hub.drop(*(hub.databases() - before))
    drop_roles(hub)


def endings(done: Done) -> dict[str, str]:
    return {one["database"]: one["ending"] for one in done.document["databases"]}


def same(old: Old, new: Program, *but: str) -> None:
    """Every database is there as it was, but those."""
    for name, good in old.good.items():
        if name not in but:
            assert diff(good, fingerprint(new.psql, name)) == [], name


def test_a_whole_server_moves(old: Old, new: Program) -> None:
    """Five databases with odd names, an encoding, settings, rights, and the roles: on the empty server each is equal.

    Without --globals nothing is done, and it says which roles are missing. A second call finds all of it there.
    """
    before = new.databases()
    refused = new.run("restore", "--all", "--yes")
    assert refused.code == 1, refused.said
    assert "these roles do not exist on this server: hub Équipe, hub_api, o'brien" in refused.err
    assert "--globals creates them from the backups" in refused.err
    assert new.databases() == before

    done = new.run("restore", "--all", "--globals", "--yes")
    assert done.code == 0, done.said
    same(old, new)
    assert new.databases() == before | CONTENT.keys()
    assert new.psql(FACTS_OF_ROLES) == old.roles
    for name in CONTENT:
        assert f"restore   {name}: {old.names[name]} from s3://" in done.err
        assert f"{name}: restored from {old.names[name]} (s3): " in done.out
    assert "globals   roles that will be created: " in done.err
    assert "Roles created: " in done.out
    assert "5 databases were restored, 8 tables, 3" in done.out
    assert list((new.backups / ".hubbackup").glob("download-*")) == []

    again = new.run("restore", "--all", "--globals", "--yes", "--json")
    assert again.code == 0, again.said
    assert endings(again) == dict.fromkeys(CONTENT, "present")
    assert new.databases() == before | CONTENT.keys()
