"""A restore by several sessions: the same database as by one, or one session starts over, or nothing has changed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_restore_faults import unchanged, wrapped
from tests.support.backups import plain_of, unproven
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.fingerprint import Fingerprint, diff, fingerprint
from tests.support.program import DATABASE, Program, finish, for_server
from tests.support.sample import SMALL

LARGER = """
CREATE TABLE "Journal d'été"
    (id bigint PRIMARY KEY, auteur int REFERENCES utilisateurs, quand timestamptz, "Texte" text);
INSERT INTO "Journal d'été"
    SELECT g, 1 + g % 1000, '2026-01-01'::timestamptz + g * interval '1 s', repeat(md5(g::text), 3)
    FROM generate_series(1, 30000) g;
CREATE INDEX ON "Journal d'été" (auteur, quand);
CREATE INDEX ON "Journal d'été" ("Texte") WHERE id > 10;
CREATE UNIQUE INDEX ON "Journal d'été" (lower("Texte"), id);
CREATE TABLE pages (id int, texte text) PARTITION BY RANGE (id);
CREATE TABLE pages_1 PARTITION OF pages FOR VALUES FROM (0) TO (5000);
CREATE TABLE pages_2 PARTITION OF pages FOR VALUES FROM (5000) TO (20000);
INSERT INTO pages SELECT g, md5(g::text) FROM generate_series(1, 10000) g;
ALTER TABLE pages ADD PRIMARY KEY (id);
CREATE TABLE vide (id int PRIMARY KEY, autre int UNIQUE DEFERRABLE);
CREATE MATERIALIZED VIEW sommaire AS SELECT auteur, count(*) FROM "Journal d'été" GROUP BY auteur;
SELECT lo_from_bytea(0, convert_to(repeat('grand objet', 5000), 'UTF8')) FROM generate_series(1, 3);
"""


PASSING = """\
import sys
from hubbackup import cli
from hubbackup.load import indexed_proof
from hubbackup.dump.census import Census
indexed_proof.PASSED_BYTES = 50_000
pass_rows = Census.pass_rows
def told(self, block):
    print("passed over", block.table, file=sys.stderr)
    return pass_rows(self, block)
Census.pass_rows = told
"""
"""For a dump as small as this, too."""


@pytest.fixture(scope="module", params=[16, 18])
def server(request: pytest.FixtureRequest) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(request.param) as server:
        yield server


@pytest.fixture(scope="module")
def hub(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """One with a database and a backup of it, for two sessions."""
    hub = for_server(server, DATABASE, tmp_path_factory.mktemp("parallel")).but(RESTORE_JOBS="2")
    server.create_database(DATABASE)
    hub.psql(SMALL + LARGER, database=DATABASE)
    hub.backup()
    yield hub
    hub.drop(*hub.databases() - {"postgres", "template0", "template1"})


@pytest.fixture(scope="module")
def live(hub: Program) -> Fingerprint:
    return fingerprint(hub.psql, DATABASE)


@contextlib.contextmanager
def copied(hub: Program, live: Fingerprint) -> Iterator[None]:
    """Inside, `copy` is restored; after it, it is as the live one, and gone."""
    try:
        yield
        assert diff(live, fingerprint(hub.psql, "copy")) == []
    finally:
        hub.drop("copy")
    assert hub.sessions() == []


def restored(hub: Program, *options: str, **settings: str) -> list[str]:
    """The events of a restore into `copy`, by their ids."""
    done = hub.run("restore", *options, "--into", "copy", "--yes", **settings)
    assert done.code == 0, done.said
    events = [event["event"] for event in done.events]
    assert "restore.retried_serially" not in events, done.said
    return events


@pytest.mark.parametrize("jobs", ["1", "2", "5"])
def test_each_number_of_sessions_makes_the_same_database(hub: Program, live: Fingerprint, jobs: str) -> None:
    """Rows, indexes, keys, views, large objects and rights, whether one session loads them or five."""
    with copied(hub, live):
        events = restored(hub, "--latest", "--jobs", jobs)
    assert ("restore.parallel" in events) == (jobs != "1")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_rows_that_are_read_only_once(hub: Program, live: Fingerprint, jobs: str) -> None:
    """A signed backup's large tables are read when they are loaded, and not before: the same database comes of it."""
    code = PASSING + "sys.exit(cli.run(sys.argv[1:]))"
    arguments = ("restore", "--latest", "--jobs", jobs, "--into", "copy", "--yes")
    with copied(hub, live):
        done = finish(hub.start(*arguments, code=code))
        assert done.code == 0, done.said
        assert "restore.retried_serially" not in done.err
    assert "passed over" in done.err


def test_a_small_dump_takes_one_session(hub: Program, live: Fingerprint) -> None:
    """Left to itself, a restore of few rows starts no more."""
    with copied(hub, live):
        assert "restore.parallel" not in restored(hub, "--latest", RESTORE_JOBS="auto")


def test_a_file_that_cannot_be_entered(hub: Program, live: Fingerprint) -> None:
    """Without a manifest there is no index: one reader hands the rows to the sessions."""
    latest = max(hub.backups.glob("*.sql.gz"))
    with copied(hub, live):
        events = restored(hub, str(unproven(hub.backups, plain_of(latest))))
    assert "restore.parallel" in events


def test_zstd(hub: Program, live: Fingerprint) -> None:
    """Frames are entered as members are."""
    file = hub.backup(BACKUP_COMPRESSION="zstd")
    with copied(hub, live):
        assert "restore.parallel" in restored(hub, file.name)
    for path in hub.backups.glob(f"{file.name.removesuffix('.sql.zst')}*"):
        path.unlink()


def test_rows_are_frozen(hub: Program, live: Fingerprint) -> None:
    """What the restore has written needs no visit by a vacuum, but for a few half-filled pages."""
    with copied(hub, live):
        restored(hub, "--latest")
        pages = (
            "SELECT relpages > 100, relallvisible > relpages * 0.9 FROM pg_class WHERE relname LIKE 'Journal d_%t_'"
        )
        assert hub.psql(pages, database="copy") == "t|t"


def test_statistics_are_there(hub: Program, live: Fingerprint) -> None:
    """Each table has been analyzed when the restore says that it is finished."""
    with copied(hub, live):
        restored(hub, "--latest")
        none = "SELECT string_agg(relname, ' ') FROM pg_class WHERE relkind = 'r' AND oid >= 16384 AND reltuples < 0"
        assert hub.psql(none, database="copy") == ""


def test_a_role_with_few_connections(hub: Program, live: Fingerprint) -> None:
    """A limit of the role leaves one session, and the log says why."""
    hub.psql("ALTER ROLE CURRENT_USER CONNECTION LIMIT 5")
    try:
        done = hub.run("restore", "--latest", "--into", "copy", "--yes", "--jobs", "4")
    finally:
        hub.psql("ALTER ROLE CURRENT_USER CONNECTION LIMIT -1")
    assert done.code == 0, done.said
    assert "connections free" in done.event("restore.serial")["why"]
    with copied(hub, live):
        pass


@pytest.mark.parametrize("jobs", ["0", "33", "many", "-1", ""])
def test_no_number_of_sessions(hub: Program, jobs: str) -> None:
    """What is no number from 1 to 32 is refused before anything is read."""
    done = hub.run("restore", "--latest", "--into", "copy", "--yes", "--jobs", jobs)
    assert done.code == 2, done.said


# --------------------------------------------------------------------------------------------------- what goes wrong


IN_LOAD = 'case "$PGAPPNAME" in *-load) ;; *) exec "$real" "$@";; esac\n'


def test_one_session_starts_over(hub: Program, server: EmbeddedPostgres, live: Fingerprint, tmp_path: Path) -> None:
    """Where several sessions fail, the new database is dropped, and one session does it all; both say so."""
    refusing = IN_LOAD + 'sed -u "s/WITH (FREEZE true)/WITH (FREEZE nonsense)/" | "$real" "$@"\n'
    path = wrapped(tmp_path, server, refusing)
    done = hub.run("restore", "--latest", "--into", "copy", "--yes", "--json", PATH=path)
    assert done.code == 0, done.said
    assert (
        "FREEZE" in done.event("restore.retried_serially")["cause"] or "freeze" in done.document["retried_serially"]
    )
    assert done.document["retried_serially"] == done.event("restore.retried_serially")["cause"]
    with copied(hub, live):
        pass
    assert hub.derived("restore") == []


def test_one_session_starts_over_once_the_database_is_gone(postgres18: EmbeddedPostgres, tmp_path: Path) -> None:
    """A drop takes its time after a large load: a checkpoint, gigabytes of files."""
    hub = for_server(postgres18, "large", tmp_path)
    postgres18.create_database("large")
    postgres18.psql("CREATE TABLE t AS SELECT repeat('x', 99) AS x FROM generate_series(1, 2000)", database="large")
    hub.backup()
    script = """case "$PGAPPNAME$PGCLIENTENCODING" in
*-load) sed -u "s/WITH (FREEZE true)/WITH (nonsense)/" | "$real" "$@";;
*UTF8) sed -u "s/^DROP DATABASE IF EXISTS .large_restore/SELECT pg_sleep(5); &/" | "$real" "$@";;
*) exec "$real" "$@";;
esac"""
    try:
        path = wrapped(tmp_path, postgres18, script)
        done = hub.run("restore", "--latest", "--yes", "--json", "--jobs", "2", PATH=path)
        assert done.code == 0, done.said
        assert "nonsense" in done.document["retried_serially"]
        assert hub.derived("restore") == []
    finally:
        hub.drop("large", *hub.derived("before"))


LATE = """
import threading, time
from hubbackup.load.parallel import _Work
from hubbackup.load.tasks import Fill
take, do = _Work._take, _Work._do
def late(self):
    if threading.current_thread().name == "load-1":
        time.sleep(1)
    return take(self)
def slow(self, session, tasks):
    do(self, session, tasks)
    if isinstance(tasks[0], Fill):
        time.sleep(2)
_Work._take, _Work._do = late, slow
import sys
from hubbackup import cli
sys.exit(cli.run(sys.argv[1:]))
"""
"""The second session comes when the first one has done all but what comes at the very end."""


def test_each_session_has_the_dumps_settings(postgres18: EmbeddedPostgres, tmp_path: Path) -> None:
    """Also one that does nothing but what comes at the very end: an index that pg_dump writes for the tablespace that
    it has named long before goes there."""
    postgres18.psql("SET allow_in_place_tablespaces = on; CREATE TABLESPACE fast LOCATION ''")
    hub = for_server(postgres18, "placed", tmp_path)
    postgres18.create_database("placed")
    try:
        postgres18.psql(
            "SET default_tablespace = fast; CREATE TABLE t AS SELECT g AS i FROM generate_series(1, 20000) g;"
            "CREATE MATERIALIZED VIEW v AS SELECT * FROM t; CREATE INDEX v_i ON v (i)",
            database="placed",
        )
        hub.backup()
        restore = ("restore", "--latest", "--into", "copy", "--yes", "--jobs", "2")
        done = finish(hub.start(*restore, code=LATE))
        assert done.code == 0, done.said
        placed = (
            "SELECT string_agg(relname || ' ' || spcname, ', ' ORDER BY 1) FROM pg_class c"
            " JOIN pg_tablespace s ON s.oid = reltablespace WHERE spcname = 'fast'"
        )
        assert postgres18.psql(placed, database="copy") == postgres18.psql(placed, database="placed")
    finally:
        hub.drop("copy", "placed")
        postgres18.psql("DROP TABLESPACE fast")


@pytest.mark.parametrize("options", [(), ("--in-place",), ("--no-owner",)])
def test_starting_over_is_a_restore_like_any_other(
    hub: Program, server: EmbeddedPostgres, live: Fingerprint, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """Roles that stand in, a database that was dropped: what surrounds a load is there for the second one, too."""
    file = max(hub.backups.glob("*.sql.gz"))
    hub.psql("UPDATE utilisateurs SET nom = 'damaged'", database=DATABASE)
    path = wrapped(tmp_path, server, IN_LOAD + 'sed -u "s/WITH (FREEZE true)/WITH (nonsense)/" | "$real" "$@"\n')
    done = hub.run("restore", file.name, "--yes", "--json", *options, PATH=path)
    assert done.code == 0, done.said
    assert done.document["retried_serially"]
    assert diff(live, fingerprint(hub.psql, DATABASE)) == []
    assert hub.derived("restore") == hub.derived("loaded") == []
    hub.drop(*hub.derived("before"))
    for path_of_backup in hub.backups.glob("*.sql.gz"):
        if path_of_backup != file:  # a safety backup
            path_of_backup.unlink()


def test_stand_ins_of_a_restore_that_starts_over(hub: Program, server: EmbeddedPostgres, tmp_path: Path) -> None:
    """A role that is missing stands in once more, and is gone afterwards."""
    hub.psql("CREATE ROLE absente; CREATE DATABASE other OWNER absente")
    hub.psql("CREATE TABLE t AS SELECT g AS id, repeat('x', 99) x FROM generate_series(1, 2000) g;", database="other")
    hub.psql("ALTER TABLE t OWNER TO absente; ALTER TABLE t ADD PRIMARY KEY (id)", database="other")
    other = for_server(server, "other", tmp_path)
    file = other.backup()
    hub.drop("other")
    hub.psql("DROP ROLE absente")
    path = wrapped(tmp_path, server, IN_LOAD + 'sed -u "s/WITH (FREEZE true)/WITH (nonsense)/" | "$real" "$@"\n')
    done = other.run(
        "restore", file.name, "--into", "copy", "--no-owner", "--yes", "--json", "--jobs", "2", PATH=path
    )
    assert done.code == 0, done.said
    assert done.document["retried_serially"]
    assert hub.psql("SELECT count(*), max(x) = repeat('x', 99) FROM t", database="copy") == "2000|t"
    assert hub.psql("SELECT count(*) FROM pg_roles WHERE rolname = 'absente' OR rolname LIKE 'hubbackup%'") == "0"
    hub.drop("copy")


def test_what_one_session_cannot_do_either(hub: Program) -> None:
    """The error is that of the second attempt, and nothing is left."""
    latest = max(hub.backups.glob("*.sql.gz"))
    plain = plain_of(latest)
    name = b"CREATE MATERIALIZED VIEW public.sommaire AS\n"
    assert name in plain
    file = unproven(hub.backups, plain.replace(name, name + b" SELECT 1 / (1 - 1) UNION ALL", 1))
    with unchanged(hub):
        done = hub.run("restore", str(file), "--yes")
    assert done.code == 1, done.said
    assert "restore.retried_serially" in [event["event"] for event in done.events]
    assert "the live database is as it was" in done.err


def test_a_session_that_is_killed(hub: Program, server: EmbeddedPostgres, live: Fingerprint, tmp_path: Path) -> None:
    """One of the sessions dies in the middle of a table: the others are ended, and one starts over."""
    path = wrapped(
        tmp_path,
        server,
        IN_LOAD
        + f"""mkdir {tmp_path}/first 2>/dev/null || exec "$real" "$@"
"$real" "$@" <&0 & sleep 0.15; kill -KILL $!; exit 137
""",
    )
    with copied(hub, live):
        done = hub.run("restore", "--latest", "--into", "copy", "--yes", PATH=path)
        assert done.code == 0, done.said
        assert "exit code 137" in done.event("restore.retried_serially")["cause"]


@pytest.mark.parametrize("before", ["import sys\nfrom hubbackup import cli\n", PASSING], ids=["read", "passed over"])
def test_a_file_that_changes_behind_the_proof(hub: Program, before: str) -> None:
    """What is loaded is what was proven: other bytes are loaded by neither way, also where they decode."""
    file = hub.backup()
    data = file.read_bytes()
    other = hub.backups / "other"
    changed = bytearray(data)
    changed[len(data) * 2 // 3] ^= 1
    other.write_bytes(changed)
    code = before + "from hubbackup.restore.filling import Filling\nfill = Filling.fill\n"
    code += "def changed(self):\n    open(sys.argv[1], 'wb').write(open(sys.argv[2], 'rb').read())\n"
    code += "    return fill(self)\nFilling.fill = changed\nsys.exit(cli.run(['restore', sys.argv[1], '--yes']))"
    with unchanged(hub):
        done = finish(hub.start(str(file), str(other), code=code))
    assert done.code == 1, done.said
    assert "restore.retried_serially" in done.err
    assert "damaged" in done.err or "not any more what was proven" in done.err
    other.unlink()
    file.unlink()
    (hub.backups / f"{file.name.removesuffix('.sql.gz')}.manifest.json").unlink()
