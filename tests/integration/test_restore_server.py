"""A whole server: `restore --all` on an empty one brings every database of a store back, whatever becomes of one."""

from __future__ import annotations

import gzip
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hubbackup.catalog.backup import BackupName
from tests.support.age import PASSPHRASE, PROTECTED, PROTECTED_PUBLIC
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.fingerprint import Fingerprint, diff, fingerprint
from tests.support.moments import wait_until
from tests.support.program import DATABASE, Done, Program, for_server
from tests.support.s3 import S3Server
from tests.support.sample import SMALL
from tests.support.terminal import at_terminal

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
    "paie": """CREATE TABLE bulletin (id int GENERATED ALWAYS AS IDENTITY, brut money,
        le timestamptz DEFAULT '2026-02-08 12:00+00');
        INSERT INTO bulletin (brut) SELECT 1000 + g FROM generate_series(1, 300) g;
        CREATE MATERIALIZED VIEW par_jour AS SELECT le::date, count(*) FROM bulletin GROUP BY 1;
        REVOKE ALL ON DATABASE paie FROM PUBLIC; GRANT CONNECT ON DATABASE paie TO hub_api;
        ALTER DATABASE paie SET timezone TO 'Europe/Paris'; ALTER ROLE hub_api IN DATABASE paie SET work_mem TO '9MB';
        COMMENT ON DATABASE paie IS 'la paie, d''avant';""",
    "latin": """CREATE TABLE "été" ("à" text); INSERT INTO "été" VALUES ('café');
        ALTER DATABASE latin OWNER TO "o'brien"; ALTER TABLE "été" OWNER TO "hub Ã\x89quipe";""",
}
THREE = (DATABASE, ODD, "paie")
OTHERS = CONTENT.keys() - set(THREE)
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


@pytest.fixture
def disk(new: Program, old: Old) -> Program:
    """The same, with backups on its disk instead of a bucket: `carry` brings them."""
    settings = {name: value for name, value in new.settings.items() if not name.startswith(("S3_", "AWS_"))}
    return replace(new, settings=settings)


def carry(old: Old, disk: Program, *names: str) -> None:
    """Copy the backups of these databases from A's disk, with their manifests."""
    for name in names:
        parsed = BackupName.parse(old.names[name])
        assert parsed is not None
        for file in (str(parsed), parsed.manifest):
            (disk.backups / file).write_bytes((old.hub.backups / file).read_bytes())


def damage(file: Path) -> None:
    """One byte in the middle is another."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)


def endings(done: Done) -> dict[str, str]:
    return {one["database"]: one["ending"] for one in done.document["databases"]}


def same(old: Old, new: Program, *but: str) -> None:
    """Every database is there as it was, but those."""
    for name, good in old.good.items():
        if name not in but:
            assert diff(good, fingerprint(new.psql, name)) == [], name


def test_a_whole_server_moves(old: Old, new: Program) -> None:
    """Five databases with odd names, an encoding, settings, rights, and the roles: on the empty server each is equal.

    Without --globals nothing is done, and it says which roles are missing. A copy on this disk that is found damaged
    while it is proven is passed over for the one in S3. A second call finds all of it there.
    """
    carry(old, new, DATABASE)
    damage(new.backups / old.names[DATABASE])
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
        where = f"{new.backups}: " if name == DATABASE else "s3://"
        assert f"restore   {name}: {old.names[name]} from {where}" in done.err
        assert f"{name}: restored from {old.names[name]} (s3): " in done.out
    assert done.event("restore.next_copy")["store"] == "local"
    assert "globals   roles that will be created: " in done.err
    assert "Roles created: " in done.out
    assert "5 databases were restored, 8 tables, 3" in done.out
    assert list((new.backups / ".hubbackup").glob("download-*")) == []

    again = new.run("restore", "--all", "--globals", "--yes", "--json")
    assert again.code == 0, again.said
    assert endings(again) == dict.fromkeys(CONTENT, "present")
    assert new.databases() == before | CONTENT.keys()


def test_one_that_is_damaged_stops_none_of_the_others(old: Old, disk: Program) -> None:
    """Named with its cause, exit code 1; the others are there. With a whole one the same command brings it too."""
    carry(old, disk, *THREE)
    damage(disk.backups / old.names["paie"])
    done = disk.run("restore", "--all", "--globals", "--yes", "--json")
    assert done.code == 1, done.said
    assert endings(done) == dict.fromkeys(THREE, "restored") | {"paie": "failed"}
    assert done.document["message"].startswith("1 of 3 databases is not restored: paie: ")
    same(old, disk, "paie", *OTHERS)
    assert "paie" not in disk.databases()
    assert done.event("restore.left")["database"] == "paie"
    assert len([event for event in done.events if event["event"] == "restore.failed"]) == 1
    carry(old, disk, "paie")
    again = disk.run("restore", "--all", "--globals", "--yes")
    assert again.code == 0, again.said
    same(old, disk, *OTHERS)
    assert f"{ODD}: there already, restored from {old.names[ODD]}" in again.out


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_ended_in_the_middle_the_same_command_goes_on(old: Old, disk: Program, how: signal.Signals) -> None:
    """What was restored is recognised and left alone, though users have changed it since; the rest is restored.

    A stop ends with 143.
    """
    carry(old, disk, *THREE)
    log = disk.directory / "log"
    process = disk.fork("restore", "--all", "--globals", "--yes", output=log)
    wait_until(lambda: b"restore.database" in log.read_bytes(), "the first database", 60)
    process.send_signal(how)
    assert process.wait(30) in (143, -9)
    there = disk.databases() & set(THREE)
    assert 0 < len(there) < len(THREE)
    first = sorted(there)[0]
    disk.psql("CREATE TABLE since (n int)", database=first)
    # POSTGRES_DB is not what is asked for here: whatever it names need not be there.
    done = disk.but(POSTGRES_DB="never_there").run("restore", "--all", "--globals", "--yes", "--json")
    assert done.code == 0, done.said
    assert endings(done) == {name: "present" if name in there else "restored" for name in THREE}
    same(old, disk, first, *OTHERS)
    assert disk.psql("SELECT count(*) FROM since", database=first) == "0"
    assert [name for name in disk.databases() if "_restore_" in name] == []


def test_where_the_server_is_gone_the_rest_is_not_tried(old: Old, disk: Program, newer: EmbeddedPostgres) -> None:
    """Each is named with that reason, exit code 1; when the server is back, the same command goes on."""
    carry(old, disk, *THREE)
    log = disk.directory / "log"
    process = disk.fork("restore", "--all", "--globals", "--yes", output=log)
    wait_until(lambda: b"restore.database" in log.read_bytes(), "the first database", 60)
    newer.kill()
    try:
        assert process.wait(60) == 1
    finally:
        newer.start()
    assert b"not tried, the server does not answer" in log.read_bytes()
    done = disk.run("restore", "--all", "--globals", "--yes", "--json")
    assert done.code == 0, done.said
    assert set(endings(done).values()) <= {"present", "restored"}
    for name in THREE:
        assert name in disk.databases()


def test_a_server_that_is_not_empty(old: Old, disk: Program) -> None:
    """A database with tables that no restore of ours has made: exit 2, named, and nothing at all is done.

    An empty one, as the database's image makes it at its first start, is no hindrance. What is to be replaced is
    restored by itself first; then the rest.
    """
    carry(old, disk, DATABASE, "paie")
    disk.psql("CREATE DATABASE paie")
    disk.psql(f"CREATE DATABASE {DATABASE}")
    disk.psql("CREATE DATABASE blog")
    disk.psql("CREATE TABLE devis (n int); INSERT INTO devis VALUES (1)", database=DATABASE)
    before = disk.databases()
    done = disk.run("restore", "--all", "--globals", "--yes")
    assert done.code == 2, done.said
    assert f"on this one {DATABASE} has 1 tables, views and sequences" in done.err
    assert f"hubbackup restore --latest --database {DATABASE}" in done.err
    assert disk.databases() == before
    assert disk.psql(OF_OURS) == ""
    assert disk.psql("SELECT n FROM devis", database=DATABASE) == "1"

    assert disk.run("restore", "--latest", "--database", DATABASE, "--globals", "--yes").code == 0
    done = disk.run("restore", "--all", "--globals", "--yes")
    assert done.code == 0, done.said
    assert f"{DATABASE}: there already, restored from {old.names[DATABASE]}" in done.out
    assert "what was there is kept as paie_before_" in done.out
    assert "no backup of it is here, and it stays as it is: blog" in done.err
    same(old, disk, *(CONTENT.keys() - {DATABASE, "paie"}))


def test_what_is_shown_and_asked(old: Old, disk: Program) -> None:
    """Each database, its backup, where it rests, its size; the roles; what is left out and why. One word goes on."""
    carry(old, disk, DATABASE, "paie")
    (disk.backups / "vieux_backup_20200101_030000.sql.gz").write_bytes(gzip.compress(b"not proven"))
    for typed, code in (("yes", 2), ("all", 1)):
        with at_terminal(disk, "restore", "--all", "--globals") as operator:
            operator.wait_for("Type all to go on: ")
            shown = " ".join(operator.said.split())
            assert "2 databases will be restored, one after the other, some " in shown
            backup = f"restore {DATABASE}: {old.names[DATABASE]} from {disk.backups}: proven, "
            assert re.search(rf"{re.escape(backup)}\d+ min old, [0-9.]+ kB, 2 tables, 3000 rows", shown), shown
            assert "globals roles that will be created: " in shown
            assert "LEFT OUT vieux: there is no good backup of it: none is whole and proven" in shown
            assert disk.databases() & CONTENT.keys() == set()
            operator.type(f"{typed}\n")
            assert operator.end() == code, operator.said
    assert f"paie: restored from {old.names['paie']} (local): 1 tables, 300 rows" in operator.said
    assert "1 of 3 databases is not restored: vieux: there is no good backup of it" in operator.said
    done = disk.run("restore", "--all")
    assert done.code == 2, done.said
    assert "nobody is there to confirm this" in done.err


def test_whose_they_are_is_asked(old: Old, disk: Program) -> None:
    """Without the old server's key: refused where nobody can be asked, unless --foreign is given."""
    carry(old, disk, "paie", "latin")
    stranger = disk.but(BACKUP_MANIFEST_KEY="the key of another server")
    done = stranger.run("restore", "--all", "--yes", "--no-owner")
    assert done.code == 2, done.said
    assert "is known to be of this server" in done.err
    assert "hubbackup restore --all --foreign" in done.err
    with at_terminal(stranger, "restore", "--all", "--globals", "--yes") as operator:
        operator.wait_for("Type all to go on: ")
        assert "FOREIGN: " in operator.said
        assert "a restore runs what is in it" in operator.said
        operator.type("no\n")
        assert operator.end() == 2
    done = stranger.run("restore", "--all", "--globals", "--yes", "--foreign")
    assert done.code == 0, done.said
    assert "FOREIGN" in done.err
    same(old, disk, *(CONTENT.keys() - {"paie", "latin"}))


def test_one_store_and_one_database(old: Old, new: Program) -> None:
    """--from names the store for one, for the newest and for all; --latest --database D takes D's own newest."""
    carry(old, new, "paie")
    done = new.run("restore", "--all", "--from", "local", "--globals", "--yes", "--json")
    assert done.code == 0, done.said
    assert endings(done) == {"paie": "restored"}
    for wanted in (["--latest"], [old.names[LONG]], ["--from-s3", old.names[LONG]]):
        done = new.run("restore", *wanted, "--from", "s3", "--database", LONG, "--yes", "--json")
        assert done.code == 0, done.said
        assert done.document["name"] == old.names[LONG]
    same(old, new, *(CONTENT.keys() - {"paie", LONG}))
    for arguments, said in (
        (["--all", "--from", "tape"], "the store tape is not configured"),
        (["--latest", "--from", "tape"], "the store tape is not configured"),
        (["--all", "--database", "paie"], "--all restores every database under its own name"),
        (["--all", "--latest"], "restore needs one of"),
        (["--from-s3", "x", "--from", "local"], "--from-s3 NAME is NAME --from s3"),
    ):
        done = new.run("restore", *arguments, "--yes")
        assert done.code == 2, done.said
        assert said in done.err


def test_sealed_ones_take_the_key_once(old: Old, disk: Program, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without it nothing is done; its passphrase is typed once for all of them, before anything is read."""
    key = disk.directory / "key"
    key.write_bytes(PROTECTED)
    sealed = replace(old.hub, directory=tmp_path_factory.mktemp("sealed")).but(
        BACKUP_ENCRYPT_RECIPIENTS=PROTECTED_PUBLIC, S3_BACKUP_BUCKET=""
    )
    for name in ("paie", "latin"):
        sealed.backup(POSTGRES_DB=name)
    hub = replace(disk, directory=sealed.directory)
    done = hub.run("restore", "--all", "--globals", "--yes")
    assert done.code == 2, done.said
    assert "is sealed, and there is no private key here" in done.err
    with at_terminal(hub, "restore", "--all", "--globals", "--yes", "--identity", str(key)) as operator:
        operator.wait_for("Passphrase of ")
        operator.type(f"{PASSPHRASE}\n")
        assert operator.end() == 0, operator.said
    assert operator.said.count("Passphrase of ") == 1
    same(old, hub, *(CONTENT.keys() - {"paie", "latin"}))
