"""The doctor against real servers: each problem is found by trying, named, and comes with its remedy."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hubbackup.app import App
from hubbackup.cli import run as run_cli
from hubbackup.config.load import load_settings
from hubbackup.doctor import Check, Finding, all_checks, bucket, examine, fail, ok, service, storage
from hubbackup.doctor.site import Site
from hubbackup.errors import StoppedError
from hubbackup.logs.setup import get_logger
from hubbackup.postgres import tool_sets
from hubbackup.stores.local import LocalStore
from hubbackup.streams.cancel import Cancel
from tests.support import PsqlError
from tests.support import proxy as faults
from tests.support.age import PROTECTED, make_pair
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.proxy import FaultProxy
from tests.support.s3 import S3Server
from tests.support.sinks import ADDRESSES, http_sink, mail_sink, self_signed

PASSWORD = "canary-Mot2Passe"


@pytest.fixture(scope="module", autouse=True)
def hub_backups(s3: S3Server) -> None:
    s3.client.create_bucket(Bucket="hub-backups")


class Patient:
    """A service for the database `name`, as its environment says; `look` gives the findings by name."""

    def __init__(self, server: EmbeddedPostgres, name: str, directory: Path, patch: pytest.MonkeyPatch) -> None:
        for variable, value in server.env().items():
            if variable.startswith("PG") or variable == "PATH":
                patch.setenv(variable, value)
        self.environ = {
            "POSTGRES_DB": name,
            "POSTGRES_USER": server.user,
            "POSTGRES_PASSWORD": server.password,
            "BACKUP_SOURCE": "direct",
            "BACKUP_DIR": str(directory),
            "PGHOST": server.host,
            "PGPORT": str(server.port),
        }

    def look(
        self, checks: Sequence[Check] | Callable[[Site], Sequence[Check]] = all_checks, **changes: str
    ) -> dict[str, Finding]:
        app = App(load_settings(self.environ | changes), cancel=Cancel(), log=get_logger())
        site = Site(app)
        chosen = checks(site) if callable(checks) else checks
        findings = list(examine(site, chosen))
        found = {finding.name: finding for finding in findings}
        assert len(found) == len(findings), "each check has a name of its own"
        for finding in found.values():
            assert finding.sentence
            assert finding.remedy or finding.status in ("ok", "skipped"), finding
            assert PASSWORD not in finding.sentence + finding.remedy
        return found


@pytest.fixture
def patient(postgres18: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Patient]:
    with postgres18.temporary_database() as name:
        yield Patient(postgres18, name, tmp_path, monkeypatch)


def with_s3(s3: S3Server, **changes: str) -> dict[str, str]:
    return s3.settings("hub-backups") | changes


def test_a_healthy_service(patient: Patient, s3: S3Server, tmp_path: Path) -> None:
    """Nothing fails; each check says what it saw; no probe is left on the disk or in the bucket."""
    found = patient.look(**with_s3(s3), HEARTBEAT_URL="http://127.0.0.1:9/x")
    assert {finding.name for finding in found.values() if finding.status == "fail"} == set()
    assert found["probe object"].sentence == "put, get, list and delete work in s3://hub-backups/backups/"
    assert "next runs: " in found["schedule"].sentence
    assert s3.keys("hub-backups") == []
    assert [path.name for path in tmp_path.iterdir() if "probe" in path.name] == []


def test_that_nothing_is_encrypted_is_said(patient: Patient, s3: S3Server, tmp_path: Path) -> None:
    """There are no keys, and the row says what follows from that, for the directory and for the bucket."""
    found = patient.look()["encryption"]
    assert (found.status, str(tmp_path) in found.sentence) == ("skipped", True)
    assert "backups are not sealed, so whoever reads" in found.sentence
    assert "hubbackup keygen" in found.remedy
    assert "an encrypted disk" in found.remedy
    assert "bucket" not in found.remedy
    found = patient.look(**with_s3(s3))["encryption"]
    assert "s3://hub-backups/backups/" in found.sentence
    assert "the bucket's own encryption" in found.remedy


def test_who_can_open_the_backups(patient: Patient, tmp_path: Path) -> None:
    """For whom they are sealed; a key that does not open the newest one fails, one that does should not be here."""
    own, other = (make_pair(tmp_path, name=name) for name in ("own", "other"))
    sealed = {"BACKUP_ENCRYPT_RECIPIENTS": own.public, "DRILL_TARGET": "database", "BACKUP_SCHEMA_DRILL": "false"}
    found = patient.look(**sealed)
    assert own.fingerprint in found["encryption"].sentence
    assert (found["encryption"].status, found["private key"].status) == ("ok", "ok")
    assert "no private key is on this server" in found["private key"].sentence
    assert found["drills"].status == "warn"
    assert "backups are sealed" in found["drills"].sentence
    App(load_settings(patient.environ | sealed), cancel=Cancel(), log=get_logger()).backup()
    found = patient.look(**sealed, BACKUP_IDENTITY_FILE=str(own.file))
    assert found["private key"].status == "warn"
    assert "is on the server whose backups it opens: it opens hub" in found["private key"].sentence
    own.file.chmod(0o644)
    found = patient.look(**sealed, BACKUP_IDENTITY_FILE=str(own.file))
    assert "can be read by everybody on this host" in found["private key"].sentence
    found = patient.look(**sealed, BACKUP_IDENTITY_FILE=str(other.file))
    assert found["private key"].status == "fail"
    assert own.fingerprint in found["private key"].sentence
    found = patient.look(BACKUP_IDENTITY_FILE=str(tmp_path / "nowhere"))
    assert found["private key"].status == "fail"
    assert "can't be read: No such file" in found["private key"].sentence
    (tmp_path / "protected").write_bytes(PROTECTED)
    found = patient.look(**sealed, BACKUP_IDENTITY_FILE=str(tmp_path / "protected"))
    assert found["private key"].status == "warn"
    assert "has a passphrase" in found["private key"].sentence


def test_what_depends_on_a_failure_is_skipped_with_its_name(patient: Patient) -> None:
    """With the database down there is one failure, not six."""
    with closed_port() as port:
        found = patient.look(PGPORT=str(port))
    assert found["login"].status == "fail"
    assert "does not accept connections" in found["login"].sentence
    skipped = [found[name] for name in ("database", "versions", "readable", "restorable", "old databases")]
    assert {(finding.status, finding.sentence) for finding in skipped} == {
        ("skipped", "not checked, since login failed")
    }


@contextmanager
def closed_port() -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield int(free.getsockname()[1])


def test_wrong_password(patient: Patient) -> None:
    """Problem 1 of the guide."""
    found = patient.look(POSTGRES_PASSWORD=PASSWORD)["login"]
    assert found.status == "fail"
    assert "refuses the password of the role hubchantier" in found.sentence
    assert "POSTGRES_PASSWORD" in found.remedy


def test_missing_database(patient: Patient) -> None:
    """The login is well, the database is what is wrong."""
    found = patient.look(POSTGRES_DB="nowhere")
    assert found["login"].status == "ok"
    assert found["database"].status == "fail"
    assert "nowhere does not exist" in found["database"].sentence


def test_no_tools(patient: Patient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No pg_dump where it is looked for."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tool_sets, "PLACES", ())
    found = patient.look()
    assert found["tools"].status == "fail"
    assert "pg_dump is not installed" in found["tools"].sentence
    assert found["login"].status == "skipped"


def test_tools_older_than_the_server(
    patient: Patient, postgres16: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both versions are named."""
    monkeypatch.setenv("PATH", f"{postgres16.bin_dir}{os.pathsep}{os.environ['PATH']}")
    found = patient.look()["versions"]
    assert found.status == "fail"
    assert "pg_dump 16" in found.sentence
    assert "server 18" in found.sentence


@pytest.fixture
def reader(patient: Patient, postgres18: EmbeddedPostgres) -> Iterator[Patient]:
    """The same, seen by a role that owns nothing."""
    name = patient.environ["POSTGRES_DB"]
    postgres18.psql(f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}';")
    patient.environ |= {"POSTGRES_USER": "reader", "POSTGRES_PASSWORD": PASSWORD}
    yield patient
    postgres18.psql("DROP OWNED BY reader CASCADE;", database=name)
    postgres18.psql("DROP ROLE reader;")


def test_a_table_that_may_not_be_read_is_named(reader: Patient, postgres18: EmbeddedPostgres) -> None:
    """Also a sequence, and a table in a schema that is closed; pg_read_all_data opens them all."""
    name = reader.environ["POSTGRES_DB"]
    postgres18.psql(
        """CREATE TABLE open(i serial); CREATE TABLE "Paie 2026"(i int);
        CREATE SCHEMA shut; CREATE TABLE shut.t(i int); GRANT SELECT ON open, shut.t TO reader;""",
        database=name,
    )
    found = reader.look()["readable"]
    assert found.status == "fail"
    assert 'the role reader may not read public."Paie 2026", public.open_i_seq, shut.t' in found.sentence
    assert "pg_read_all_data" in found.remedy
    postgres18.psql("GRANT pg_read_all_data TO reader;")
    assert reader.look()["readable"].status == "ok"


def test_large_objects_that_may_not_be_read_are_told(
    postgres: EmbeddedPostgres, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pg_read_all_data does not extend to them: pg_dump ends with an error, and the doctor knows it before. On a
    server that tells who may read one (18 and later) and on one that does not."""
    patient = Patient(postgres, database, tmp_path, monkeypatch)
    postgres.psql(f"CREATE ROLE clerk LOGIN PASSWORD '{PASSWORD}'; GRANT pg_read_all_data TO clerk;")
    try:
        for numbers in ((4711, 4712), ()):
            for number in numbers:
                postgres.psql(f"SELECT lo_from_bytea({number}, 'x');", database=database)
            found = patient.look(POSTGRES_USER="clerk", POSTGRES_PASSWORD=PASSWORD)["readable"]
            dump = subprocess.run(
                [postgres.bin_dir / "pg_dump", "-d", database],
                env={**postgres.env(), "PGUSER": "clerk", "PGPASSWORD": PASSWORD},
                capture_output=True,
                check=False,
            )
            if numbers:
                assert (found.status, dump.returncode) == ("fail", 1)
                assert b"permission denied for large object" in dump.stderr
                assert "the role clerk may not read 2 large objects" in found.sentence
                for number, to in zip(numbers, ("clerk", "PUBLIC"), strict=True):
                    postgres.psql(f"GRANT SELECT ON LARGE OBJECT {number} TO {to};", database=database)
            else:
                assert (found.status, dump.returncode) == ("ok", 0)
    finally:
        postgres.psql("DROP OWNED BY clerk CASCADE;", database=database)
        postgres.psql("DROP OWNED BY clerk CASCADE; DROP ROLE clerk;")


def test_row_security_is_told(reader: Patient, postgres18: EmbeddedPostgres) -> None:
    """pg_dump ends with an error where row security would hide rows; the doctor knows it before."""
    name = reader.environ["POSTGRES_DB"]
    postgres18.psql(
        "CREATE TABLE hidden(i int); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; GRANT pg_read_all_data TO reader;",
        database=name,
    )
    found = reader.look()["readable"]
    assert found.status == "fail"
    assert "row security hides rows of public.hidden" in found.sentence
    postgres18.psql("ALTER ROLE reader BYPASSRLS;")
    assert reader.look()["readable"].status == "ok"


@pytest.mark.parametrize(
    "sql",
    ["CREATE FUNCTION begin() RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE PROCEDURE begin() LANGUAGE sql AS ''"],
)
def test_a_function_named_begin_is_a_warning(patient: Patient, postgres18: EmbeddedPostgres, sql: str) -> None:
    """pg_dump writes the name without quotes, and psql takes it for the start of a body."""
    postgres18.psql(f"{sql};", database=patient.environ["POSTGRES_DB"])
    found = patient.look()["restorable"]
    assert found.status == "warn"
    assert "public.begin" in found.sentence


def test_a_name_that_only_looks_like_it_is_none(patient: Patient, postgres18: EmbeddedPostgres) -> None:
    """`"Begin"` is quoted by pg_dump, and so harmless."""
    postgres18.psql(
        "CREATE FUNCTION \"Begin\"() RETURNS int LANGUAGE sql AS 'SELECT 1';", database=patient.environ["POSTGRES_DB"]
    )
    assert patient.look()["restorable"].status == "ok"


def test_views_that_read_themselves_are_a_warning(patient: Patient, postgres18: EmbeddedPostgres) -> None:
    """PostgreSQL takes such a view, and no dump of it restores."""
    view = "CREATE VIEW v AS SELECT 1 AS a; CREATE OR REPLACE VIEW v AS SELECT a FROM v; CREATE VIEW w AS SELECT 1;"
    postgres18.psql(view, database=patient.environ["POSTGRES_DB"])
    found = patient.look()["restorable"]
    assert found.status == "warn"
    assert found.sentence == "views that read themselves can't be restored: public.v"
    assert "WITH RECURSIVE" in found.remedy


def test_what_a_dump_passes_over_is_told(patient: Patient, postgres18: EmbeddedPostgres) -> None:
    """An invalid index and what was made in PostgreSQL's own schemas are named; then pg_dump's own words agree."""
    name = patient.environ["POSTGRES_DB"]
    postgres18.psql(
        "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (1); CREATE INDEX good ON t (a);"
        "CREATE FUNCTION pg_catalog.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE UNLOGGED TABLE u (a int);"
        "CREATE TYPE span AS RANGE (subtype = float8); CREATE TYPE open AS RANGE (subtype = float8);"
        "REVOKE EXECUTE ON FUNCTION span(float8, float8) FROM PUBLIC;",
        database=name,
    )
    assert "pg_catalog.mine" not in (dump := postgres18.dump(name))
    assert "INDEX good" in dump
    assert "REVOKE" not in dump
    with pytest.raises(PsqlError):
        postgres18.psql("CREATE UNIQUE INDEX CONCURRENTLY half ON t (a)", database=name)
    assert "INDEX half" not in postgres18.dump(name)
    found = patient.look()["left out"]
    assert found.status == "warn"
    assert found.sentence == (
        "not in a backup: invalid indexes public.half; rights on the functions of range types: public.span;"
        " what was made in PostgreSQL's own schemas: mine()"
    )
    assert "REINDEX or DROP INDEX" in found.remedy
    postgres18.psql("DROP INDEX half; DROP FUNCTION pg_catalog.mine(); DROP TYPE span", database=name)
    assert patient.look()["left out"].status == "ok"


def test_a_role_that_owns_nothing_is_told_the_same(reader: Patient, postgres18: EmbeddedPostgres) -> None:
    """What it takes to know that a restore will break is no superuser's."""
    postgres18.psql(
        "CREATE FUNCTION inner_one(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';"
        "CREATE FUNCTION f(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT inner_one($1)';"
        "CREATE FUNCTION shut(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT inner_one($1)';"
        "CREATE TABLE t (a text CHECK (f(a) <> '')); REVOKE EXECUTE ON FUNCTION shut FROM PUBLIC;",
        database=reader.environ["POSTGRES_DB"],
    )
    found = reader.look()
    assert found["search path"].status == "warn"
    assert "public.f(text) for the constraint t_a_check of public.t" in found["search path"].sentence
    assert (found["restorable"].status, found["left out"].status) == ("ok", "ok")


def test_databases_left_of_restores(patient: Patient, postgres18: EmbeddedPostgres) -> None:
    """A half-filled one is a warning; one that was put aside is shown with its size."""
    name = patient.environ["POSTGRES_DB"]
    before, half = f"{name}_before_20260208_030000", f"{name}_restore_20260209_030000"
    postgres18.create_database(before)
    try:
        found = patient.look()["old databases"]
        assert found.status == "ok"
        assert f"{before} (" in found.sentence
        postgres18.create_database(half)
        found = patient.look()["old databases"]
        assert found.status == "warn"
        assert half in found.sentence
    finally:
        postgres18.drop_database(before)
        postgres18.drop_database(half)


def test_the_directory(patient: Patient, tmp_path: Path) -> None:
    """Missing, or a symlink's victim: told with the remedy, and S3 is checked all the same."""
    found = patient.look(storage.CHECKS, BACKUP_DIR=str(tmp_path / "absent"))
    assert found["directory"].status == "fail"
    assert "mkdir -p" in found["directory"].remedy
    assert found["room"].sentence == found["leftovers"].sentence == "not checked, since directory failed"


def test_leftovers_on_disk(patient: Patient, tmp_path: Path) -> None:
    """A `.partial` of a killed run is named."""
    (tmp_path / "hub_backup_20260208_030000.sql.gz.partial").write_text("")
    found = patient.look(storage.CHECKS)["leftovers"]
    assert found.status == "warn"
    assert "hub_backup_20260208_030000.sql.gz.partial" in found.sentence


def test_room_is_counted_for_every_database_and_run(
    patient: Patient, postgres18: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run makes a backup of each database, the large one too, whichever is the newest; and hourly runs fill the
    days of the retention with 24 a day."""
    with postgres18.temporary_database() as small:
        large = patient.environ["POSTGRES_DB"]
        words = "CREATE TABLE t AS SELECT md5(random()::text || i) FROM generate_series(1, 20000) AS i"
        postgres18.psql(words, database=large)
        patient.environ["BACKUP_DATABASES"] = f"{large},{small}"
        app = App(load_settings(patient.environ), cancel=Cancel(), log=get_logger())
        app.backup()
        sizes = [entry.size_bytes for entry in app.local.entries() if entry.name.endswith(".sql.gz")]
        assert max(sizes) > 20 * min(sizes)
        assert max(app.local.entries(), key=lambda entry: entry.modified_at).name.startswith(small)

        def look(free_bytes: int, **changes: str) -> Finding:
            monkeypatch.setattr(LocalStore, "free_bytes", lambda store: free_bytes)
            return patient.look(storage.CHECKS, **changes)["room"]

        total = sum(sizes)
        found = look(max(sizes))
        assert (found.status, f"the next run needs about {round(total * 1.2):,}" in found.sentence) == ("fail", True)
        assert look(total * 8, BACKUP_RETENTION_DAYS="7").status == "ok"
        assert look(total * 6, BACKUP_RETENTION_DAYS="7").status == "warn"
        assert look(total * 6, BACKUP_RETENTION_DAYS="7", BACKUP_SCHEDULE="0 3 * * 0").status == "ok"
        hourly = look(total * 100, BACKUP_RETENTION_DAYS="7", BACKUP_SCHEDULE="0 * * * *")
        assert hourly.status == "warn"
        assert f"{total * 168:,} more than there is now" in hourly.sentence
        assert look(total * 170, BACKUP_RETENTION_DAYS="7", BACKUP_SCHEDULE="0 * * * *").status == "ok"


def test_no_bucket(patient: Patient, s3: S3Server) -> None:
    """Problem 2 of the guide; what needs the bucket is skipped."""
    found = patient.look(bucket.checks, **with_s3(s3, S3_BACKUP_BUCKET="absent"))
    assert found["bucket"].status == "fail"
    assert "there is no bucket absent" in found["bucket"].sentence
    assert found["probe object"].status == "skipped"


def test_no_endpoint(patient: Patient, s3: S3Server) -> None:
    """Nobody answers there; it takes seconds, not minutes, to say so."""
    with closed_port() as port:
        found = patient.look(bucket.checks, **with_s3(s3, S3_ENDPOINT_URL=f"http://127.0.0.1:{port}"))
    assert found["bucket"].status == "fail"
    assert "S3_ENDPOINT_URL" in found["bucket"].remedy


def test_a_mirror_has_checks_of_its_own(patient: Patient, s3: S3Server) -> None:
    """Each bucket by itself: what is wrong with the mirror is told as the mirror's, with its own variable."""
    found = patient.look(bucket.checks, **with_s3(s3), S3_MIRROR_BACKUP_BUCKET="absent", **at_mirror(s3))
    assert found["probe object"].status == "ok"
    assert found["mirror bucket"].status == "fail"
    assert "there is no bucket absent" in found["mirror bucket"].sentence
    assert "S3_MIRROR_BACKUP_BUCKET" in found["mirror bucket"].remedy
    assert found["mirror probe"].status == "skipped"
    where = at_mirror(s3) | {"S3_MIRROR_PREFIX": "far/"}
    found = patient.look(bucket.checks, **with_s3(s3), S3_MIRROR_BACKUP_BUCKET="hub-backups", **where)
    assert {one.status for one in found.values()} == {"ok"}
    assert found["mirror probe"].sentence == "put, get, list and delete work in s3://hub-backups/far/"


def at_mirror(s3: S3Server) -> dict[str, str]:
    return {"S3_MIRROR_ENDPOINT_URL": s3.endpoint_url}


def test_old_probes_are_removed(patient: Patient, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a doctor that was killed; nobody else's."""
    monkeypatch.setattr("hubbackup.doctor.bucket.PROBE_AGE", timedelta(days=-1))
    for key in ("backups/hubbackup-probe-0123456789ab", "backups/hubbackup-probe-mine"):
        s3.client.put_object(Bucket="hub-backups", Key=key, Body=b"")
    assert patient.look(bucket.checks, **with_s3(s3))["probe object"].status == "ok"
    assert s3.keys("hub-backups") == ["backups/hubbackup-probe-mine"]
    s3.client.delete_object(Bucket="hub-backups", Key="backups/hubbackup-probe-mine")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"S3_RETENTION_DAYS": "3"}, "S3 keeps backups 3 days, this disk 7 days"),
        ({"S3_RETENTION_DAYS": "3", "BACKUP_RETENTION_DAYS": "0"}, "this disk forever"),
        ({"BACKUP_SCHEDULE": "0 3 1 * *"}, "kept 7 days"),
        ({"BACKUP_RETENTION_DAYS": "0"}, "nothing is ever removed"),
    ],
)
def test_retentions_that_contradict_each_other(
    patient: Patient, s3: S3Server, changes: dict[str, str], said: str
) -> None:
    """Warnings, not failures: it is the operator's choice."""
    found = patient.look(service.CHECKS, **with_s3(s3, **changes))["retention"]
    assert found.status == "warn"
    assert said in found.sentence


def test_settings_and_sinks(patient: Patient, tmp_path: Path) -> None:
    """A misspelt name, no sink, a bad sink, a log file without a place."""
    found = patient.look(
        service.CHECKS,
        BACKUP_RETENSION_DAYS="3",
        LOG_FILE=str(tmp_path / "absent" / "x.log"),
    )
    assert found["settings"].status == "warn"
    assert "did you mean BACKUP_RETENTION_DAYS?" in found["settings"].sentence
    assert found["notifications"].status == "warn"
    assert found["log file"].status == "fail"
    bad = patient.look(service.CHECKS, NOTIFICATION_URLS=f"nosuch://{PASSWORD}")["notifications"]
    assert bad.status == "fail"


def test_no_docker_socket(patient: Patient, tmp_path: Path) -> None:
    """Problem 5 of the guide: the socket is not mounted."""
    found = patient.look(BACKUP_SOURCE="docker", DOCKER_HOST=f"unix://{tmp_path}/docker.sock")
    assert found["docker"].status == "fail"
    assert "does not exist here" in found["docker"].sentence
    assert "volumes:" in found["docker"].remedy
    assert found["container"].sentence == found["login"].sentence == "not checked, since docker failed"


@pytest.mark.usefixtures("docker_engine")
def test_no_container(patient: Patient) -> None:
    """The engine answers, the database's container is not there."""
    found = patient.look(
        BACKUP_SOURCE="docker", DB_CONTAINER="hubbackup-no-such-container", DOCKER_HOST="unix:///var/run/docker.sock"
    )
    assert found["docker"].status == "ok"
    assert found["container"].status == "fail"
    assert "DB_CONTAINER" in found["container"].remedy


def test_a_check_that_breaks_hides_no_other(patient: Patient) -> None:
    """A fault of one check is its own finding."""
    app = App(load_settings(patient.environ), cancel=Cancel(), log=get_logger())

    def broken(_: Site) -> Any:
        raise ZeroDivisionError("oops")

    checks = [Check("a", broken), Check("b", lambda _: ok("well")), Check("c", lambda _: fail("no"), needs=("a",))]
    assert [finding.status for finding in examine(Site(app), checks)] == ["fail", "ok", "skipped"]


def test_a_stop_ends_it(patient: Patient) -> None:
    """The daemon's own visit must not hold up `docker stop`."""
    app = App(load_settings(patient.environ), cancel=Cancel(), log=get_logger())
    app.cancel.set(15)
    with pytest.raises(StoppedError):
        list(examine(Site(app), all_checks(Site(app))))


def test_the_command(patient: Patient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0 with warnings, 1 with a failure; a table, or one JSON document."""
    for name, value in patient.environ.items():
        monkeypatch.setenv(name, value)
    assert run_cli(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["counts"]["fail"] == 0
    assert {"name", "status", "sentence", "remedy"} == set(document["findings"][0])
    monkeypatch.setenv("POSTGRES_PASSWORD", PASSWORD)
    assert run_cli(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"login +FAIL", printed)
    assert "what to do: check POSTGRES_USER and POSTGRES_PASSWORD" in printed
    assert PASSWORD not in printed


def test_the_sql_is_understood_by_the_older_server(
    postgres16: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same checks on PostgreSQL 16."""
    with postgres16.temporary_database() as name:
        found = Patient(postgres16, name, tmp_path, monkeypatch).look()
    assert [finding for finding in found.values() if finding.status == "fail"] == []


def test_what_was_left_in_the_bucket(patient: Patient, s3: S3Server) -> None:
    """An upload that nobody ended, which no listing shows, and a copy without a manifest; another database's are
    none of ours, and the next backup's way of cleaning up makes it well."""
    name, settings = patient.environ["POSTGRES_DB"], with_s3(s3, S3_BACKUP_BUCKET=s3.bucket())
    bucket = settings["S3_BACKUP_BUCKET"]
    late = f"{name}_backup_20260208_030000.sql.gz"
    s3.client.create_multipart_upload(Bucket=bucket, Key="backups/other_backup_20260208_030000.sql.gz")
    assert patient.look(**settings)["left in S3"].status == "ok"
    s3.client.put_object(Bucket=bucket, Key=f"backups/{late}", Body=b"half")
    found = patient.look(**settings)["left in S3"]
    assert (found.status, late in found.sentence) == ("warn", True)
    s3.client.create_multipart_upload(Bucket=bucket, Key=f"backups/{late}")
    found = patient.look(**settings)["left in S3"]
    assert found.status == "warn"
    assert found.sentence.endswith(f"the vendor bills: {late}")


def test_sinks_are_tried_without_a_message(patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mail server up to the login, over TLS; the hosts of an own endpoint and of the dead man's switch: each says
    that it answers, and none of them got anything. Of a service only a message would tell."""
    certificate = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with mail_sink(certificate, password=PASSWORD) as mail, http_sink() as http, http_sink() as heart:
        urls = [mail.secure_url(PASSWORD), http.apprise_url, "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"]
        settings = {"NOTIFICATION_URLS": " ".join(urls), "HEARTBEAT_URL": f"{heart.url}/uuid"}
        found = patient.look(service.CHECKS, **settings)["notifications"]
    assert (found.status, found.sentence.partition(";")[0]) == (
        "ok",
        "notified: mailtos#1 (answers), json#2 (answers), slack#3 (not tried), HEARTBEAT_URL (answers)",
    )
    assert mail.logins == [("backup", PASSWORD)]
    assert (mail.raw, http.requests, heart.requests) == ([], [], [])


def test_a_sink_that_would_take_nothing_is_a_warning(
    patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused password, a certificate nobody vouches for, a mode without TLS, nobody at the port: each is told by
    its label with the reason, and without the address of the switch."""
    certificate = self_signed(tmp_path)
    with mail_sink(certificate, password="another") as mail:
        url = mail.secure_url(PASSWORD)
        said = patient.look(service.CHECKS, NOTIFICATION_URLS=url)["notifications"]
        assert (said.status, "certificate verify failed" in said.sentence) == ("warn", True)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert "mailtos#1: (535" in patient.look(service.CHECKS, NOTIFICATION_URLS=url)["notifications"].sentence
    with mail_sink(password=PASSWORD) as mail:
        url = mail.secure_url(PASSWORD)
        assert "STARTTLS" in patient.look(service.CHECKS, NOTIFICATION_URLS=url)["notifications"].sentence
        assert mail.logins == []
    with closed_port() as port:
        urls = {
            "NOTIFICATION_URLS": f"json://127.0.0.1:{port}/x mailto://localhost:{port}?{ADDRESSES}",
            "HEARTBEAT_URL": f"http://127.0.0.1:{port}/{PASSWORD}",
        }
        said = patient.look(service.CHECKS, **urls)["notifications"]
    assert said.status == "warn"
    for label in ("json#1: ", "mailto#2: ", "HEARTBEAT_URL: "):
        assert label in said.sentence
    assert said.sentence.count("Connection refused") == 3


def test_the_probe_goes_up_in_parts_too(patient: Patient, s3: S3Server) -> None:
    """A vendor that takes small objects and refuses uploads in parts is found out before the first backup is."""
    with FaultProxy(s3.endpoint_url) as proxy:
        where = with_s3(s3) | {"S3_ENDPOINT_URL": proxy.url}
        assert patient.look(bucket.checks, **where)["probe object"].status == "ok"
        assert [seen.query["partNumber"] for seen in proxy.seen if faults.is_part()(seen)] == ["1", "2"]
        proxy.fault(faults.answer(400, "InvalidPart", "All parts must have the same length"), when=faults.is_complete)
        found = patient.look(bucket.checks, **where)["probe object"]
    assert found.status == "fail"
    assert found.sentence.startswith("after put: could not publish")
    assert [key for key in s3.keys("hub-backups") if "probe" in key] == []


def test_a_listing_that_lags_is_a_warning(patient: Patient, s3: S3Server) -> None:
    """Some servers list an object only seconds after it was put."""
    empty = b"<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>"
    with FaultProxy(s3.endpoint_url) as proxy:
        proxy.fault(faults.with_body(lambda body: empty), when=faults.is_list)
        found = patient.look(bucket.checks, **(with_s3(s3) | {"S3_ENDPOINT_URL": proxy.url}))["probe object"]
    assert found.status == "warn"
    assert "does not list at once" in found.sentence
