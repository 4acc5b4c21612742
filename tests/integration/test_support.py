"""The tests' own tools keep their promises: a server that is gone afterwards, a sample of the size asked for,
and a fingerprint that notices whatever a backup could lose.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support import PsqlError
from tests.support.embedded_postgres import (
    EmbeddedPostgres,
    EmbeddedPostgresError,
    bin_dir_of,
    installed_versions,
)
from tests.support.fingerprint import Fingerprint, diff, fingerprint
from tests.support.sample import load_sample

ROOT = Path(__file__).parents[2]
Sampled = tuple[EmbeddedPostgres, str, Fingerprint]

HOSTILE_NAME = "host=elsewhere 'x' \"y\" \\ é\n%s; --"


def plain_dump(server: EmbeddedPostgres, database: str) -> bytes:
    """The plain dump that pg_dump of the server's own version makes."""
    return subprocess.run(["pg_dump", "--dbname", database], env=server.env(), capture_output=True, check=True).stdout


def restore(server: EmbeddedPostgres, dump: bytes, database: str) -> None:
    """Run the dump in an empty database."""
    command = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "--dbname", database]
    subprocess.run(command, input=dump, env=server.env(), capture_output=True, check=True)


@pytest.fixture(scope="module")
def sampled(postgres: EmbeddedPostgres) -> Iterator[Sampled]:
    """A server, a database on it that holds a small sample, and its fingerprint."""
    with postgres.temporary_database("sampled") as name:
        load_sample(postgres.psql, name, 0.2)
        yield postgres, name, fingerprint(postgres.psql, name)


# ----------------------------------------------------------------------------------------- server


def test_each_server_has_the_version_asked_for(postgres: EmbeddedPostgres) -> None:
    """The server, and the programs first in PATH of `env()`, are of the major version asked for."""
    assert int(postgres.psql("SHOW server_version_num")) // 10000 == postgres.major
    said = subprocess.run(["pg_dump", "--version"], env=postgres.env(), capture_output=True, text=True, check=True)
    assert f"(PostgreSQL) {postgres.major}." in said.stdout


def test_both_ways_of_connecting_ask_for_the_password(postgres: EmbeddedPostgres) -> None:
    """Neither TCP nor the unix socket trusts anybody, and both let the password in."""
    for host in (postgres.host, str(postgres.socket_directory)):
        for password, exit_code in ((postgres.password, 0), ("wrong", 2)):
            env = {**postgres.env(), "PGHOST": host, "PGPASSWORD": password}
            done = subprocess.run(
                ["psql", "-X", "-d", "postgres", "-c", ""], env=env, capture_output=True, check=False
            )
            assert done.returncode == exit_code, done.stderr


def test_a_database_may_have_any_name(postgres: EmbeddedPostgres) -> None:
    """A name full of quotes, or one that looks like a connection string, is taken as a name."""
    postgres.create_database(HOSTILE_NAME)
    assert postgres.psql("SELECT current_database()", database=HOSTILE_NAME) == HOSTILE_NAME
    postgres.drop_database(HOSTILE_NAME)


def test_psql_raises_what_the_server_says(postgres: EmbeddedPostgres) -> None:
    """A failing statement ends the script, and the error carries psql's words."""
    with pytest.raises(PsqlError, match="division by zero"):
        postgres.psql("SELECT 1/0; CREATE TABLE never_made ();")
    assert postgres.psql("SELECT to_regclass('never_made') IS NULL") == "t"


def test_a_server_comes_back_after_a_stop_and_after_a_crash() -> None:
    """After `stop()` or `kill()`, `start()` serves the same data on the same port; the end removes all."""
    with EmbeddedPostgres(16) as server:
        home, port = server.home, server.port
        server.psql("CREATE TABLE kept AS SELECT 1 AS n")
        server.stop()
        assert server.pid is None
        server.start()
        server.psql("INSERT INTO kept VALUES (2)")
        server.kill()
        assert server.pid is None
        server.start()
        assert (server.port, server.psql("SELECT sum(n) >= 1 FROM kept")) == (port, "t")
        pid = server.pid
    assert not home.exists()
    assert not Path(f"/proc/{pid}").exists()


def test_a_server_that_cannot_start_says_why_and_leaves_nothing() -> None:
    """A start that fails raises the end of the server's log, and its directory is removed."""
    server = EmbeddedPostgres(16, configuration={"no_such_setting": "1"})
    with pytest.raises(EmbeddedPostgresError, match="no_such_setting"), server:
        pass
    with pytest.raises(EmbeddedPostgresError, match="outside its"):
        _ = server.home


def test_a_version_that_is_not_here_is_an_error_that_says_what_to_install() -> None:
    """A missing wheel fails the tests; it never skips them."""
    assert {16, 18} <= installed_versions().keys()
    with pytest.raises(EmbeddedPostgresError, match=r"PostgreSQL 9 is not installed .*`pip install"):
        bin_dir_of(9)


# ----------------------------------------------------------------------------------------- sample


@pytest.mark.parametrize("megabytes", [1, 10])
def test_the_sample_has_the_size_asked_for(postgres: EmbeddedPostgres, database: str, megabytes: float) -> None:
    """The plain dump of the sample is within 20 % of the megabytes asked for."""
    load_sample(postgres.psql, database, megabytes)
    assert len(plain_dump(postgres, database)) == pytest.approx(megabytes * 1e6, rel=0.20)


def test_the_sample_can_be_piped_to_psql(postgres: EmbeddedPostgres, database: str) -> None:
    """`python -m tests.support.sample | psql` makes what `load_sample` makes."""
    command = [sys.executable, "-m", "tests.support.sample", "--megabytes", "0.2"]
    script = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    restore(postgres, script, database)
    with postgres.temporary_database() as other:
        load_sample(postgres.psql, other, 0.2)
        assert diff(fingerprint(postgres.psql, other), fingerprint(postgres.psql, database)) == []


def test_the_sample_is_the_same_everywhere(postgres16: EmbeddedPostgres, postgres18: EmbeddedPostgres) -> None:
    """Two servers make the same database of one seed, and other rows of another."""
    prints = []
    for server, seed in ((postgres16, 0), (postgres18, 0), (postgres16, 1)):
        with server.temporary_database() as name:
            load_sample(server.psql, name, 0.2, seed=seed)
            prints.append(fingerprint(server.psql, name))
    assert diff(prints[0], prints[1]) == []
    assert prints[0].rows["public.pointages"] != prints[2].rows["public.pointages"]


# ------------------------------------------------------------------------------------ fingerprint


def test_a_restored_database_has_the_same_fingerprint(sampled: Sampled, database: str) -> None:
    """pg_dump into psql brings back all but the database's own properties, which `diff` tells."""
    server, name, before = sampled
    restore(server, plain_dump(server, name), database)
    after = fingerprint(server.psql, database)
    assert diff(before, after, properties=False) == []
    lost = "\n".join(diff(before, after))
    assert "settings of everyone: missing, was 'TimeZone=Europe/Paris'" in lost
    assert "database: comment: was 'Hub Chantier, exemple', is ''" in lost
    assert "hub_lecture:TEMPORARY" in lost


def test_a_fingerprint_lasts_from_16_to_18(postgres16: EmbeddedPostgres, postgres18: EmbeddedPostgres) -> None:
    """A dump of 16 restored in 18 has the fingerprint that it had in 16."""
    with postgres16.temporary_database() as old, postgres18.temporary_database() as new:
        load_sample(postgres16.psql, old, 0.2, reader=None)
        restore(postgres18, plain_dump(postgres16, old), new)
        assert diff(fingerprint(postgres16.psql, old), fingerprint(postgres18.psql, new), properties=False) == []


def test_reading_a_fingerprint_changes_nothing(sampled: Sampled) -> None:
    """A second fingerprint of the same database is equal to the first, digest and all."""
    server, name, before = sampled
    again = fingerprint(server.psql, name)
    assert again == before
    assert again.digest == before.digest
    counts = server.psql("SELECT count(*) FROM pointages; SELECT count(*) FROM journal_2025_03;", database=name)
    tables = ("public.pointages", "public.journal_2025_03")
    assert [str(before.row_counts[table]) for table in tables] == counts.split("\n")


CHANGES = {
    "a changed row": ("UPDATE utilisateurs SET actif = NOT actif WHERE id = 7", "rows: public.utilisateurs"),
    "a missing row": ("DELETE FROM pointages WHERE id = 5", "rows: public.pointages"),
    "a doubled row": ('INSERT INTO "select" SELECT * FROM "select" LIMIT 1', 'rows: public."select"'),
    "a NULL for an empty text": (
        "UPDATE \"Textes pièges\" SET texte = NULL WHERE texte = ''",
        'rows: public."Textes pièges"',
    ),
    "a byte of a photo": (
        "UPDATE photos SET image = set_byte(image, 40, 1 + get_byte(image, 40) % 255) WHERE id = 1",
        "rows: public.photos",
    ),
    "a row of a partition": ("DELETE FROM journal WHERE id = 97", "rows: public.journal_reste"),
    "a view not refreshed": (
        "REFRESH MATERIALIZED VIEW heures_par_mois WITH NO DATA",
        "rows: public.heures_par_mois",
    ),
    "a sequence": ("ALTER SEQUENCE numero_chantier RESTART 1001", "sequence: public.numero_chantier"),
    "an identity": ("ALTER TABLE utilisateurs ALTER id RESTART", "sequence: public.utilisateurs_id_seq"),
    "a missing large object": ("SELECT lo_unlink(20250002)", "large object: 20250002: missing"),
    "a byte of a large object": ("SELECT lo_put(20250003, 10, '\\x00112233')", "large object: 20250003"),
    "the owner of a large object": (
        "ALTER LARGE OBJECT 20250003 OWNER TO hub_lecture",
        "large object: 20250003",
    ),
    "a comment on a large object": ("COMMENT ON LARGE OBJECT 20250001 IS NULL", "large object: 20250001"),
    "a missing table": ("DROP TABLE archives", "schema: table public.archives: missing"),
    "a missing index": ("DROP INDEX pointages_par_jour", "schema: index public.pointages_par_jour: missing"),
    "a missing foreign key": (
        "ALTER TABLE photos DROP CONSTRAINT photos_chantier_id_fkey",
        "schema: constraint photos_chantier_id_fkey of public.photos: missing",
    ),
    "a check": (
        "ALTER TABLE pointages DROP CONSTRAINT journee",
        "schema: constraint journee of public.pointages",
    ),
    "NOT NULL": ("ALTER TABLE chantiers ALTER nom DROP NOT NULL", "schema: column public.chantiers.nom"),
    "a default": (
        "ALTER TABLE utilisateurs ALTER actif DROP DEFAULT",
        "schema: column public.utilisateurs.actif",
    ),
    "a view": (
        "CREATE OR REPLACE VIEW chantiers_ouverts AS SELECT id, nom, (lieu).ville, budget FROM chantiers",
        "schema: view public.chantiers_ouverts",
    ),
    "a function": (
        "CREATE OR REPLACE FUNCTION marque_modification() RETURNS trigger LANGUAGE plpgsql "
        "AS 'BEGIN RETURN NEW; END'",
        "schema: function public.marque_modification()",
    ),
    "a disabled trigger": (
        "ALTER TABLE chantiers DISABLE TRIGGER modification",
        "schema: trigger modification on public.chantiers",
    ),
    "a label of an enum": (
        "ALTER TYPE statut_chantier RENAME VALUE 'prévu' TO 'prevu'",
        "schema: type public.statut_chantier",
    ),
    "a policy": (
        'DROP POLICY lecture ON "Ressources humaines"."Équipes d\'été"',
        'schema: policy lecture on "Ressources humaines"."Équipes d\'été": missing',
    ),
    "a comment": (
        "COMMENT ON COLUMN utilisateurs.email IS 'x'",
        "schema: comment on table column public.utilisateurs.email",
    ),
    "an owner": ("ALTER TABLE photos OWNER TO hub_lecture", "schema: table public.photos"),
    "a grant": ("REVOKE SELECT ON photos FROM hub_lecture", "schema: table public.photos"),
    "a grant on a column": (
        "REVOKE UPDATE (actif) ON utilisateurs FROM hub_lecture",
        "schema: column public.utilisateurs.actif",
    ),
    "default privileges": (
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE SELECT ON TABLES FROM hub_lecture",
        "schema: default privileges of hubchantier in public on r: missing",
    ),
    "a detached partition": (
        "ALTER TABLE journal DETACH PARTITION journal_2025_06",
        "schema: table public.journal_2025_06",
    ),
    "statistics": (
        "DROP STATISTICS pointages_lies",
        "schema: statistics object public.pointages_lies: missing",
    ),
    "a setting of the database": (
        'ALTER DATABASE :"DBNAME" RESET ALL',
        "database: settings of everyone: missing",
    ),
    "the database's grants": ('REVOKE CONNECT ON DATABASE :"DBNAME" FROM PUBLIC', "database: acl"),
}


@pytest.mark.parametrize(("change", "told"), CHANGES.values(), ids=CHANGES.keys())
def test_the_fingerprint_notices(sampled: Sampled, change: str, told: str) -> None:
    """Each single change is told, by the name of what it happened to."""
    server, name, before = sampled

    def psql_after_change(sql: str, *, database: str = "postgres", variables: Mapping[str, str] | None = None) -> str:
        script = f"BEGIN;\n{change}\n\\g /dev/null\n{sql}\nROLLBACK;"
        return server.psql(script, database=database, variables=variables)

    differences = diff(before, fingerprint(psql_after_change, name))
    assert any(line.startswith(told) for line in differences), differences


def test_changes_are_rolled_back(sampled: Sampled) -> None:
    """The tests above leave the sample as it was, so that each tells its own change only."""
    server, name, before = sampled
    assert diff(before, fingerprint(server.psql, name)) == []
