"""The drill against real servers: what restores passes, and what would not restore on the worst day fails now."""

from __future__ import annotations

import gzip
import hashlib
import json
import secrets
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hubbackup.app import App
from hubbackup.config.load import load_settings
from hubbackup.errors import ContainerError, HubbackupError, NotProvenError
from hubbackup.jobs.lock import lock_id, locked
from hubbackup.jobs.run import Outcome, Run
from hubbackup.logs import setup as logs
from hubbackup.postgres import session
from hubbackup.postgres.session import Connection
from hubbackup.runners import throwaway
from hubbackup.runners.docker_exec import DockerExecRunner
from hubbackup.runners.engine import Engine
from hubbackup.runners.throwaway import BY_LABEL, LABEL, MEMORY_BYTES, throwaway_server
from hubbackup.streams.cancel import Cancel
from tests.integration.test_restore_faults import wrapped
from tests.support.backups import signed_text
from tests.support.containers import USER, drill_containers, postgres_container, psql_in
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.jobs import Doing, done
from tests.support.program import for_server
from tests.support.s3 import S3Server

TABLES = """
CREATE TABLE utilisateurs (id int PRIMARY KEY, nom text NOT NULL);
INSERT INTO utilisateurs SELECT g, 'utilisateur ' || g FROM generate_series(1, 500) g;
CREATE TABLE chantiers (id int PRIMARY KEY, ville text);
INSERT INTO chantiers VALUES (1, 'Lyon'), (2, 'Grenoble');
"""


def make_app(**values: str) -> App:
    """The program for these settings, and no other environment."""
    return App(load_settings(values), cancel=Cancel(), log=logs.get_logger())


@pytest.fixture
def embedded(postgres16: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    """A database with two tables, behind the direct runner."""
    monkeypatch.setenv("PATH", postgres16.env()["PATH"])
    with postgres16.temporary_database("chantier") as database:
        postgres16.psql(TABLES, database=database)
        yield make_app(
            POSTGRES_DB=database,
            POSTGRES_USER=postgres16.user,
            POSTGRES_PASSWORD=postgres16.password,
            BACKUP_SOURCE="direct",
            DRILL_TARGET="database",
            PGHOST=postgres16.host,
            PGPORT=str(postgres16.port),
            BACKUP_DIR=str(tmp_path),
            DRILL_SQL="SELECT count(*) FROM utilisateurs; SELECT ville FROM chantiers WHERE id = 1",
        )


def tamper(directory: Path, name: str, edit: Any) -> None:
    """Change the dump inside a backup, and make file and manifest agree again: only a restore can tell."""
    file = directory / name
    plain = edit(gzip.decompress(file.read_bytes()))
    file.write_bytes(gzip.compress(plain, 1))
    manifest_path = directory / name.replace(".sql.gz", ".manifest.json")
    manifest = json.loads(manifest_path.read_text())
    manifest |= {
        "plain_bytes": len(plain),
        "stored_bytes": file.stat().st_size,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    manifest_path.write_text(signed_text(directory, manifest))


def databases_of(pg: EmbeddedPostgres) -> set[str]:
    return set(pg.psql("SELECT datname FROM pg_database").splitlines())


def test_a_good_backup_passes_and_is_recorded(embedded: App, postgres16: EmbeddedPostgres) -> None:
    """A drill restores every row, asks the operator's own checks, times itself, and leaves no database behind."""
    before = databases_of(postgres16)
    name = embedded.backup().result.name
    outcome = embedded.drill()
    assert outcome.exit_code == 0
    assert outcome.result.name == name
    assert outcome.result.rows == 502
    assert list(outcome.result.checks.values()) == ["500", "Lyon"]
    record = embedded.state.history.last("drill")
    assert record is not None
    assert 0 < (record.load_seconds or 0) <= (record.rto_seconds or 0)
    assert (record.exit_code, record.store) == (0, "local")
    assert databases_of(postgres16) == before


LOSES_A_ROW = b"""
CREATE FUNCTION public.lose() RETURNS integer
    LANGUAGE sql
    AS $$DELETE FROM public.utilisateurs WHERE id = 7 RETURNING id$$;
CREATE MATERIALIZED VIEW public.loser AS
 SELECT public.lose() AS lost
  WITH NO DATA;
REFRESH MATERIALIZED VIEW public.loser;
"""


def test_a_wrong_count_fails(embedded: App, postgres16: EmbeddedPostgres) -> None:
    """A file that is proven in every byte and yet restores to fewer rows fails its drill, and the table is named."""
    before = databases_of(postgres16)
    name = embedded.backup().result.name
    trailer = b"\n--\n-- PostgreSQL database dump complete\n"
    tamper(
        embedded.settings.backup_dir,
        name,
        lambda plain: plain.replace(trailer, LOSES_A_ROW + trailer),
    )
    with pytest.raises(NotProvenError, match=r"public\.utilisateurs has 499 rows .* held 500"):
        embedded.drill()
    assert databases_of(postgres16) == before


def test_a_tampered_backup_fails(embedded: App) -> None:
    """A file that is not the one the manifest was written for is refused before a server sees a byte of it."""
    name = embedded.backup().result.name
    file = embedded.settings.backup_dir / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x10
    file.write_bytes(data)
    with pytest.raises(NotProvenError, match=name):
        embedded.drill()
    record = embedded.state.history.last("drill")
    assert record is not None
    assert (record.exit_code, record.stage) == (1, "prove")


def test_a_dump_that_does_not_load_fails(embedded: App, postgres16: EmbeddedPostgres) -> None:
    """An SQL error half-way fails the drill with PostgreSQL's own words, and the scratch database goes."""
    before = databases_of(postgres16)
    name = embedded.backup().result.name
    tamper(
        embedded.settings.backup_dir,
        name,
        lambda plain: plain.replace(b"ADD CONSTRAINT chantiers_pkey", b"ADD CONSTRAINT chantiers_pkey NONSENSE"),
    )
    with pytest.raises(HubbackupError, match="syntax error"):
        embedded.drill()
    assert databases_of(postgres16) == before


def test_a_check_that_finds_nothing_fails(embedded: App, postgres16: EmbeddedPostgres) -> None:
    """The operator's own check has the last word: an answer of 0 fails the drill."""
    embedded.backup()
    postgres16.psql("TRUNCATE utilisateurs", database=embedded.database)
    emptied = embedded.backup().result.name
    with pytest.raises(NotProvenError, match=r"count\(\*\) FROM utilisateurs' answers '0'"):
        embedded.drill(emptied)
    assert embedded.drill().result.name != emptied, "by itself a drill takes none that is suspicious"


def test_s3_and_local_take_turns(embedded: App, postgres16: EmbeddedPostgres, s3: S3Server, tmp_path: Path) -> None:
    """Every other drill is from S3, also where those from S3 fail each time: local has its turn all the same."""
    bucket = s3.bucket()
    app = make_app(
        POSTGRES_DB=embedded.database,
        POSTGRES_USER=postgres16.user,
        POSTGRES_PASSWORD=postgres16.password,
        BACKUP_SOURCE="direct",
        DRILL_TARGET="database",
        PGHOST=postgres16.host,
        PGPORT=str(postgres16.port),
        BACKUP_DIR=str(tmp_path),
        **s3.settings(bucket),
    )
    name = app.backup().result.name
    assert [app.drill().result.store for _ in range(3)] == ["s3", "local", "s3"]
    assert app.drill(store="local").result.store == "local"
    key = f"backups/{name}"
    data = bytearray(s3.client.get_object(Bucket=bucket, Key=key)["Body"].read())
    data[len(data) // 2] ^= 1
    s3.client.put_object(Bucket=bucket, Key=key, Body=bytes(data))
    for _ in range(2):
        with pytest.raises(NotProvenError, match=name):
            app.drill()
        assert app.drill().result.store == "local"


@pytest.mark.parametrize(
    ("instead", "code", "word"),
    [("SELECT pg_sleep(5); &", 0, "drill passed"), ("SELECT 1 / 0; &", 3, "stays until the next drill")],
    ids=["slow", "refused"],
)
def test_a_drill_that_passed_has_passed(
    postgres16: EmbeddedPostgres, tmp_path: Path, instead: str, code: int, word: str
) -> None:
    """Whatever becomes of the scratch database in the live server: one that takes long to drop is waited for, one
    that can't be dropped is named, and the next drill removes it."""
    hub = for_server(postgres16, "scratched", tmp_path, DRILL_TARGET="database")
    postgres16.create_database("scratched")
    try:
        hub.backup()
        orders = f'[ -n "$PGCLIENTENCODING" ] || exec "$real" "$@"\nsed -u "s#^DROP DATABASE IF EXISTS#{instead}#"'
        path = wrapped(tmp_path, postgres16, f'{orders} | "$real" "$@"')
        done = hub.run("drill", PATH=path)
        assert done.code == code, done.said
        assert word in done.said
        assert hub.run("drill").code == 0
        assert hub.derived("drill") == []
    finally:
        hub.drop("scratched")


CLIMBS = """
CREATE ROLE tenant NOSUPERUSER;
CREATE TABLE deeds (said text);
CREATE FUNCTION climb(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
  EXECUTE 'ALTER ROLE tenant SUPERUSER';
  RETURN true;
EXCEPTION WHEN OTHERS THEN
  BEGIN
    RESET ROLE; SET SESSION AUTHORIZATION DEFAULT;
    EXECUTE 'ALTER ROLE tenant SUPERUSER';
  EXCEPTION WHEN OTHERS THEN END;
  RETURN true;
END $$;
CREATE FUNCTION sure(int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
  PERFORM public.climb(1);
  RETURN true;
END $$;
CREATE TABLE rows_of_theirs (i int CHECK (climb(i)));
CREATE INDEX ON rows_of_theirs (i) WHERE sure(1);
CREATE VIEW asked AS SELECT climb(1) AS yes;
INSERT INTO rows_of_theirs VALUES (1);
CREATE POLICY p ON deeds TO tenant USING (climb(1));
ALTER TABLE deeds OWNER TO tenant;
ALTER TABLE rows_of_theirs OWNER TO tenant;
ALTER FUNCTION climb(int) OWNER TO tenant;
GRANT SELECT ON deeds TO pg_monitor;
ALTER ROLE tenant NOSUPERUSER;
"""


@pytest.mark.parametrize("major", [15, 16, 18])
def test_the_databases_own_code_gets_no_rights_in_a_drill(major: int, tmp_path: Path) -> None:
    """In the live server too: a CHECK, an index's condition and what DRILL_SQL asks run as a role that may nothing,
    which is gone afterwards. That the same makes its owner superuser where a superuser loads, the restore shows."""
    with EmbeddedPostgres(major) as server:
        server.create_database("chantier")
        server.psql(CLIMBS, database="chantier")
        hub = for_server(server, "chantier", tmp_path, DRILL_SQL="SELECT yes FROM asked")
        hub.backup()
        server.psql("ALTER ROLE tenant NOSUPERUSER")
        roles = "SELECT string_agg(rolname, ',' ORDER BY 1) FROM pg_roles"
        before = server.psql(roles), databases_of(server)
        done = hub.run("drill", "--json")
        assert done.code == 0, done.said
        assert done.document["place"] == "a scratch database, loaded by a role of its own"
        assert done.document["rows"] == 1
        assert server.psql("SELECT rolsuper FROM pg_roles WHERE rolname = 'tenant'") == "f"
        assert (
            server.psql("SELECT string_agg(rolname, ',' ORDER BY 1) FROM pg_roles"),
            databases_of(server),
        ) == before
        assert hub.run("restore", "--latest", "--yes").code == 0
        assert server.psql("SELECT rolsuper FROM pg_roles WHERE rolname = 'tenant'") == "t"


def test_what_takes_a_superuser_is_loaded_by_one_and_said(embedded: App, postgres16: EmbeddedPostgres) -> None:
    """An event trigger takes one: chosen by name as the live server was, it is done, and the result says by whom."""
    postgres16.psql(
        "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
        "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION e()",
        database=embedded.database,
    )
    embedded.backup()
    assert embedded.drill().result.place == (
        f"a scratch database, loaded by {postgres16.user}, only a superuser may create the event trigger e"
    )


def test_where_the_server_lets_no_role_of_ours_in(tmp_path: Path) -> None:
    """pg_hba.conf names its users: POSTGRES_USER loads, and the result says why; nothing is left."""
    with EmbeddedPostgres(16) as server:
        server.create_database("chantier")
        server.psql(TABLES, database="chantier")
        names = f"local all {server.user} scram-sha-256\nhost all {server.user} 127.0.0.1/32 scram-sha-256\n"
        (server.data_directory / "pg_hba.conf").write_text(names)
        server.psql("SELECT pg_reload_conf()")
        hub = for_server(server, "chantier", tmp_path)
        hub.backup()
        done = hub.run("drill", "--json")
        assert done.code == 0, done.said
        assert f"loaded by {server.user}, the server does not let a role of its own in" in done.document["place"]
        assert server.psql("SELECT count(*) FROM pg_roles WHERE rolname ~ '^hubbackup'") == "0"


def test_a_role_without_superuser_drills_by_a_lesser_one(postgres18: EmbeddedPostgres, tmp_path: Path) -> None:
    """With CREATEDB and CREATEROLE it makes one that has less, and leaves nothing of it."""
    postgres18.psql("CREATE ROLE keeper LOGIN CREATEDB CREATEROLE PASSWORD 'x'")
    try:
        with postgres18.temporary_database() as name:
            postgres18.psql(
                f'{TABLES} GRANT pg_read_all_data TO keeper; ALTER DATABASE "{name}" OWNER TO keeper', database=name
            )
            hub = for_server(postgres18, name, tmp_path, POSTGRES_USER="keeper", POSTGRES_PASSWORD="x")
            hub.backup()
            before = databases_of(postgres18)
            done = hub.run("drill", "--json")
            assert done.code == 0, done.said
            assert done.document["place"] == "a scratch database, loaded by a role of its own"
            assert databases_of(postgres18) == before
            assert postgres18.psql("SELECT count(*) FROM pg_roles WHERE rolname ~ '^hubbackup'") == "0"
    finally:
        postgres18.psql("DROP ROLE keeper")


def test_the_live_server_has_to_be_chosen(embedded: App, postgres16: EmbeddedPostgres, tmp_path: Path) -> None:
    """Over libpq there is no other: without DRILL_TARGET none is scheduled, none is done, and the doctor says why."""
    hub = for_server(postgres16, embedded.database, tmp_path, DRILL_TARGET="")
    hub.backup()
    done = hub.run("drill")
    assert done.code == 2, done.said
    assert "DRILL_TARGET=database" in done.err
    assert load_settings(hub.settings).settings.drills is None
    assert load_settings(hub.but(DRILL_TARGET="database").settings).settings.drills is not None
    (found,) = [one for one in hub.run("doctor", "--json").document["findings"] if one["name"] == "drills"]
    assert found["status"] == "warn"
    assert "own code" in found["sentence"]
    assert "DRILL_TARGET=database" in found["remedy"]


@pytest.fixture(scope="module")
def container(docker_engine: str) -> Iterator[str]:
    """A database server in a container, reached by exec alone."""
    with postgres_container() as name:
        psql_in(name, TABLES)
        yield name


def containerised(container: str, directory: Path, **values: str) -> App:
    return make_app(
        POSTGRES_DB="hub_chantier",
        POSTGRES_USER=USER,
        DB_CONTAINER=container,
        BACKUP_DIR=str(directory),
        **{"POSTGRES_PASSWORD": "x", **values},
    )


def test_a_throwaway_server_is_made_and_removed(container: str, tmp_path: Path) -> None:
    """The drill's server comes from the database's own image, has the backup's roles first, and is removed."""
    psql_in(container, "CREATE ROLE lecture; GRANT SELECT ON utilisateurs TO lecture;")
    try:
        app = containerised(container, tmp_path)
        app.backup()
        left_behind(container, app)
        outcome = app.drill()
        assert outcome.result.place == "a throwaway server"
        assert outcome.result.rows == 502
        assert drill_containers(container) == []
    finally:
        psql_in(container, "DROP OWNED BY lecture; DROP ROLE lecture;")


def test_the_throwaway_server_is_shut_in_and_goes_whatever_happens(container: str, tmp_path: Path) -> None:
    """The database's own image, no network, bounded memory; it is removed where what is done in it fails."""
    app = containerised(container, tmp_path)
    original = json.loads(subprocess.check_output(["docker", "inspect", container]))[0]

    def body(run: Run) -> Outcome[Any]:
        with app.server.drill_server(run, app.database):
            (server,) = drill_containers(container)
            found.extend(json.loads(subprocess.check_output(["docker", "inspect", server])))
            raise ZeroDivisionError

    found: list[dict[str, Any]] = []
    with pytest.raises(ZeroDivisionError):
        app.run(Doing(body, "drill"))
    (server,) = found
    assert server["Image"] == original["Image"]
    assert server["HostConfig"]["NetworkMode"] == "none"
    assert server["HostConfig"]["Memory"] == MEMORY_BYTES
    assert set(server["NetworkSettings"]["Networks"]) <= {"none"}
    assert not server["HostConfig"]["Binds"]
    assert drill_containers(container) == []


NEEDS_A_LOG = """
CREATE EXTENSION pg_stat_statements;
CREATE PUBLICATION all_of_it FOR ALL TABLES;
CREATE SUBSCRIPTION from_afar CONNECTION 'host=192.0.2.1 dbname=nowhere' PUBLICATION theirs
  WITH (connect = false, slot_name = NONE, enabled = false);
CREATE TABLE parts (id int, at date) PARTITION BY RANGE (at);
CREATE TABLE parts_now PARTITION OF parts DEFAULT;
INSERT INTO parts SELECT g, date '2026-01-01' + g FROM generate_series(1, 50) g;
CREATE UNLOGGED TABLE unlogged AS SELECT generate_series(1, 7) i;
SELECT lo_from_bytea(42, 'kept');
"""
"""What has to do with a server's log of changes, or with a library that is loaded at the start."""


def test_a_throwaway_server_keeps_no_log_for_anybody(docker_engine: str, tmp_path: Path) -> None:
    """The drill's server does what is only for crashes and standbys as little as can be, whatever the live one does
    for replication; what belongs to replication restores all the same."""
    live = {"wal_level": "logical", "shared_preload_libraries": "pg_stat_statements", "archive_mode": "on"}
    with postgres_container(settings=live) as name:
        psql_in(name, TABLES + NEEDS_A_LOG)
        app = containerised(
            name,
            tmp_path,
            DRILL_SQL="SELECT string_agg(current_setting(s), ' ') FROM unnest(ARRAY['wal_level', 'archive_mode',"
            " 'max_wal_senders', 'fsync', 'full_page_writes', 'autovacuum', 'shared_preload_libraries']) s;"
            "SELECT count(*) FROM pg_publication, pg_subscription, pg_stat_statements_info",
        )
        app.backup()
        drilled = app.drill().result
    assert drilled.rows == 502 + 50 + 7
    assert list(drilled.checks.values()) == ["minimal off 0 off off off pg_stat_statements", "1"]


def test_a_server_that_demands_its_log_gets_it(container: str, tmp_path: Path) -> None:
    """Where a setting of the image's own forbids what makes a drill fast, the drill is slower, and no failure."""
    app = containerised(container, tmp_path)
    original = app.server.open_restore_runner(app.cancel)
    assert isinstance(original, DockerExecRunner)
    with throwaway_server(
        Engine(app.settings.docker_host),
        original,
        user=USER,
        password="x",
        options={"summarize_wal": "on"},
        cancel=app.cancel,
        idle_seconds=60,
        by="test",
    ) as runner:
        asked = "SELECT current_setting('wal_level'), current_setting('fsync'), current_setting('summarize_wal')"
        assert session.sql(runner, Connection(USER, "x"), "postgres", asked) == "replica|off|on\n"
        assert len(drill_containers(container)) == 1
    assert drill_containers(container) == []


NOWHERE = """SELECT bool_and(position('canari-7f3a'::bytea IN
  pg_read_binary_file('/proc/' || pid || '/' || file, 0, 65536, true)) = 0)
  FROM pg_ls_dir('/proc') AS pid, unnest(ARRAY['environ', 'cmdline']) AS file WHERE pid ~ '^[0-9]+$'"""
"""Whether no process of the server's container has the canary, as the database's own code could see it."""


def test_the_live_password_never_enters_the_drills_server(container: str, tmp_path: Path) -> None:
    """What is loaded there runs with all rights of that server: it has a password of its own, another each time."""
    app = containerised(container, tmp_path, POSTGRES_PASSWORD="canari-7f3a", DRILL_SQL=NOWHERE)
    app.backup()
    assert list(app.drill().result.checks.values()) == ["t"]
    found: list[str] = []

    def body(run: Run) -> Outcome[Any]:
        with app.server.drill_server(run, app.database) as drill:
            (server,) = drill_containers(container)
            said = subprocess.check_output(["docker", "inspect", server], text=True)
            found.extend([said, drill.connection.password])
            raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            app.run(Doing(body, "drill"))
    said, first, again, second = found
    assert "canari-7f3a" not in said + again
    assert first in said
    assert len({"canari-7f3a", first, second}) == 3


def left_behind(of: str, app: App) -> None:
    """A server as a killed drill of this database leaves it."""
    labels = [f"--label={LABEL}={of}", f"--label={BY_LABEL}={lock_id(app.state.lock)}"]
    command = ["docker", "run", "--detach", "--network=none", *labels, "postgres:17", "sleep", "600"]
    subprocess.run(command, check=True, capture_output=True)


def test_two_that_drill_one_database_leave_each_other_alone(container: str, tmp_path: Path) -> None:
    """Each BACKUP_DIR has its own lock: who holds one removes no server of who holds another, and the drills of both
    pass; what is so old that it can't be at work goes, whoever made it."""
    first, second = (containerised(container, tmp_path / name) for name in ("first", "second"))
    for app in (first, second):
        app.settings.backup_dir.mkdir()
        app.backup()

    def body(run: Run) -> Outcome[Any]:
        with first.server.drill_server(run, first.database) as drill:
            mine = drill_containers(container)
            assert second.drill_schema().result.tables == 2
            (kind,) = second.leftovers()
            assert kind.remove() == []
            assert drill_containers(container) == mine
            sql = session.sql(drill.runner, drill.connection, "postgres", "SELECT 1")
            engine, now = Engine(first.settings.docker_host), datetime.now(UTC)
            assert throwaway.remove_leftovers(engine, container, "another", now + timedelta(days=2)) == []
            assert len(throwaway.remove_leftovers(engine, container, "another", now + timedelta(days=4))) == 1
            return done(sql)

    assert first.run(Doing(body, "drill")).message == "1\n"
    assert drill_containers(container) == []


def test_a_drills_server_that_goes_is_no_matter_of_compose(container: str, tmp_path: Path) -> None:
    """Where somebody removes it, or it dies, the drill fails with a sentence about that server: the database runs."""
    app = containerised(container, tmp_path)

    def body(run: Run) -> Outcome[Any]:
        with app.server.drill_server(run, app.database) as drill:
            subprocess.run(["docker", *how, *drill_containers(container)], check=True, capture_output=True)
            session.sql(drill.runner, drill.connection, "postgres", "SELECT 1")
        raise AssertionError

    for command, said in (("rm --force", "was removed"), ("kill", "has ended (exit code 137)")):
        how = command.split()
        with pytest.raises(ContainerError) as caught:
            app.run(Doing(body, "drill"))
        assert str(caught.value) == f"the drill's own server {said} while the backup was restored there"
        assert caught.value.remedy.startswith("hubbackup drill")
        assert drill_containers(container) == []


def test_what_a_killed_drill_left_is_removed_at_the_start(container: str, tmp_path: Path) -> None:
    """The daemon's first job: the servers of this database's drills go, running or not, and no other container."""
    app = containerised(container, tmp_path)
    another = f"another-{secrets.token_hex(4)}"
    with locked(app.state.lock):
        for of in (container, container, another):
            left_behind(of, app)
    stopped, _ = drill_containers(container)
    subprocess.run(["docker", "kill", stopped], check=True, capture_output=True)
    try:
        (kind,) = app.leftovers()
        assert len(kind.remove()) == 2
        assert drill_containers(container) == []
        assert len(drill_containers(another)) == 1
        assert kind.remove() == []
    finally:
        for left in drill_containers(another):
            subprocess.run(["docker", "rm", "--force", "--volumes", left], capture_output=True)


def test_a_missing_role_fails(container: str, tmp_path: Path) -> None:
    """A backup without its roles would not restore on an empty server: the drill says so, and names the role."""
    psql_in(container, "CREATE ROLE comptable; GRANT SELECT ON utilisateurs TO comptable;")
    try:
        app = containerised(container, tmp_path, BACKUP_GLOBALS="false")
        app.backup()
        with pytest.raises(HubbackupError, match="comptable"):
            app.drill()
        assert drill_containers(container) == []
    finally:
        psql_in(container, "DROP OWNED BY comptable; DROP ROLE comptable;")
