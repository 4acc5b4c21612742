"""A managed server, over libpq and TLS: it lets nobody in without, and has to prove its name where it is not near."""

from __future__ import annotations

import json
import os
import pwd
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.authority import Authority
from tests.support.embedded_postgres import UNPRIVILEGED, EmbeddedPostgres, installed_versions
from tests.support.program import Program, for_server, seeing

HOST = "pg.managed.example"
TABLES = (
    "CREATE TABLE chantiers (id int PRIMARY KEY, ville text); INSERT INTO chantiers VALUES (1, 'Lyon'), (2, 'Gap');"
)


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    """The provider's own, which no machine knows by itself; in a directory that the server's user can reach."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Authority(Path(directory))


@pytest.fixture(scope="module")
def managed(authority: Authority) -> Iterator[EmbeddedPostgres]:
    """Debian's PostgreSQL, which has TLS; its certificate is for HOST, and its pg_hba.conf takes TLS alone."""
    certificate, key = authority.give(HOST)
    if os.geteuid() == 0:
        os.chown(key, pwd.getpwnam(UNPRIVILEGED).pw_uid, -1)
    files = {"ssl_cert_file": str(certificate), "ssl_key_file": str(key), "ssl_ca_file": str(authority.root)}
    major = next(one for one, place in installed_versions().items() if place.is_relative_to("/usr/lib/postgresql"))
    with EmbeddedPostgres(major, configuration={"ssl": "on", **files}) as server:
        (server.data_directory / "pg_hba.conf").write_text("hostssl all all all scram-sha-256\n")
        server.stop()
        server.start()
        yield server


@pytest.fixture
def near(managed: EmbeddedPostgres, authority: Authority, tmp_path: Path) -> Iterator[Program]:
    """The program at 127.0.0.1, told to verify."""
    with managed.temporary_database("hub_chantier") as database:
        managed.psql(TABLES, database=database)
        settings = {"PGSSLMODE": "verify-ca", "PGSSLROOTCERT": str(authority.root)}
        yield for_server(managed, database, tmp_path, BACKUP_SCHEMA_DRILL="true", **settings)


@pytest.fixture
def far(near: Program, tmp_path: Path) -> Program:
    """The program in a world where HOST is a name for this machine; nothing is said of TLS."""
    hosts = tmp_path / "hosts"
    hosts.write_text(f"127.0.0.1 {HOST} pg.elsewhere.example\n")
    settings = {name: value for name, value in near.settings.items() if not name.startswith("PGSSL")}
    settings |= {"PGHOST": HOST, "BACKUP_SCHEMA_DRILL": "false"}
    return seeing(replace(near, settings=settings), {"/etc/hosts": hosts})


def test_all_that_is_done_over_tls(near: Program) -> None:
    """Backup, schema drill, proof, drill, a table's rows, a recovery, a comparison and a restore: each session of
    each is encrypted, since no other gets in."""
    backup = near.run("backup", "--json")
    assert backup.code == 0, backup.said
    assert backup.event("schema_drill.passed")
    name = backup.document["name"]
    assert near.run("verify", name).code == 0
    drill = near.run("drill", "--json")
    assert drill.code == 0, drill.said
    assert near.run("extract", name, "--table", "chantiers", "--format", "csv").out == "id,ville\n1,Lyon\n2,Gap\n"
    near.psql("DELETE FROM chantiers WHERE id = 2", database=near.database)
    recovered = near.run("recover", "chantiers", "--apply", "missing", "--yes")
    assert recovered.code == 0, recovered.said
    assert near.run("diff", name, "live").code == 0
    restored = near.run("restore", "--latest", "--yes")
    assert restored.code == 0, restored.said
    assert near.psql("SELECT count(*) FROM chantiers", database=near.database).strip() == "2"
    near.drop(*near.derived("before"))


def test_a_server_far_away_has_to_prove_its_name(far: Program, authority: Authority, tmp_path: Path) -> None:
    """Without a word of TLS in the settings it is asked for, by the machine's own authorities; where they don't know
    it, one sentence says so, with the remedy, and the remedy works. A password file is as good as a password."""
    refused = far.run("backup")
    assert refused.code == 1
    (sentence, remedy) = refused.sentences
    assert "the server's certificate is not signed by an authority that is known here" in sentence
    assert "PGSSLROOTCERT" in remedy
    believed = far.but(PGSSLROOTCERT=str(authority.root))
    found = {one["name"]: one for one in json.loads(believed.run("doctor", "--json").out)["findings"]}
    assert found["connection"] == {
        "name": "connection",
        "status": "ok",
        "sentence": f"{HOST}: TLSv1.3, its certificate is verified by the authorities in {authority.root}",
        "remedy": "",
    }
    secrets = tmp_path / "pgpass"
    secrets.write_text(f"{HOST}:*:*:{far.settings['POSTGRES_USER']}:{far.settings['POSTGRES_PASSWORD']}\n")
    secrets.chmod(0o600)
    assert believed.run("backup", POSTGRES_PASSWORD="", PGPASSFILE=str(secrets)).code == 0
    stranger = believed.run("backup", PGHOST="pg.elsewhere.example")
    assert stranger.code == 1
    assert f'certificate is for "{HOST}", and not for pg.elsewhere.example' in stranger.sentences[0]


def test_what_is_not_verified_is_said(near: Program) -> None:
    """At a near host the settings of before work as they did; the doctor says what the connection is."""

    def connection(**settings: str) -> str:
        report = json.loads(near.run("doctor", "--json", **settings).out)
        return next(str(one["sentence"]) for one in report["findings"] if one["name"] == "connection")

    assert near.run("backup", PGSSLMODE="", PGSSLROOTCERT="").code == 0
    said = connection(PGSSLMODE="", PGSSLROOTCERT="")
    assert said == "127.0.0.1: TLSv1.3, but who answers is not verified (PGSSLMODE=prefer)"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"PGSSLMODE": "verify_full"}, "PGSSLMODE=verify_full (environment): must be disable or allow or prefer"),
        ({"PGPASSFILE": "/nonexistent/pgpass"}, "PGPASSFILE: /nonexistent/pgpass can't be read: No such file"),
        ({"PGPASSFILE": "/etc/passwd"}, "PGPASSFILE: /etc/passwd can be read by others, and libpq does not use it"),
    ],
)
def test_a_setting_that_libpq_would_pass_over_is_refused(near: Program, settings: dict[str, str], said: str) -> None:
    """Exit code 2, one sentence, and nothing is done."""
    done = near.run("backup", POSTGRES_PASSWORD="", **settings)
    assert (done.code, near.files()) == (2, {})
    assert said in done.err


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"PGSSLMODE": "disable"}, "the server's pg_hba.conf does not let the role hubchantier in from here"),
        ({"PGSSLROOTCERT": "/nonexistent"}, "there is no file /nonexistent with the authorities that are believed"),
        ({"PGSSLKEY": "/x.key"}, "there is no private key /x.key for the certificate PGSSLCERT"),
    ],
)
def test_what_stands_in_the_way_of_tls_is_explained(
    near: Program, authority: Authority, settings: dict[str, str], said: str
) -> None:
    """In one sentence, whatever libpq calls it."""
    if "PGSSLKEY" in settings:
        settings = {**settings, "PGSSLCERT": str(authority.root)}
    done = near.run("backup", **settings)
    assert done.code == 1
    assert said in done.sentences[0]
