"""`hubbackup backup` as its users run it: what a good one leaves, and what a failed one does not."""

from __future__ import annotations

import gzip
import json
import secrets
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hubbackup.jobs.run import new_run_id
from tests.support import docker_proxy as faults
from tests.support.containers import postgres_container, psql_in
from tests.support.docker_proxy import docker_proxy
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.fingerprint import diff, fingerprint
from tests.support.moments import in_the_middle, locked_table, our_backends, wait_until
from tests.support.program import Done, Program, beside, finish, for_container, for_server
from tests.support.s3 import S3Server
from tests.support.sample import load_sample

# Named like an option of pg_dump, which must not be taken for a complaint about that option.
BIG_TABLE = "compress_log"


@pytest.fixture(scope="module")
def sample(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A small database with something of everything; nobody changes it."""
    with postgres.temporary_database("hub") as name:
        load_sample(postgres.psql, name, 0.5)
        yield name


@pytest.fixture(scope="module")
def big(postgres18: EmbeddedPostgres) -> Iterator[str]:
    """A database whose dump takes long enough to be stopped in the middle; nobody changes it."""
    with postgres18.temporary_database("big") as name:
        postgres18.psql(
            f"CREATE TABLE {BIG_TABLE} AS SELECT i, md5(i::text) || md5((i + 1)::text) AS noise"
            " FROM generate_series(1, 800000) AS i",
            database=name,
        )
        yield name


@pytest.fixture
def small(postgres18: EmbeddedPostgres) -> Iterator[str]:
    """A database of one's own with ten tables."""
    with postgres18.temporary_database("small") as name:
        postgres18.psql(
            "SELECT format('CREATE TABLE t%s AS SELECT generate_series(1, 1000) AS i', n)"
            " FROM generate_series(0, 9) AS n \\gexec",
            database=name,
        )
        yield name


def good(done: Done, code: int = 0) -> str:
    """The name of the backup that was made."""
    assert done.code == code, done.err
    return str(done.document["name"])


def leaves_nothing(program: Program, before: dict[str, bytes]) -> None:
    assert program.files() == before


# -- what a good backup leaves


def test_a_backup_is_whole_in_both_stores(
    postgres: EmbeddedPostgres, sample: str, s3: S3Server, tmp_path: Path
) -> None:
    """File and manifest in the directory and in the bucket, readable by their owner only, with the rows that are
    in the database; and what the guide's `gunzip -c | psql` makes of it is the same database."""
    bucket = s3.bucket()
    program = for_server(postgres, sample, tmp_path, **s3.settings(bucket), TZ="Europe/Paris")
    before = datetime.now(UTC)
    done = program.run("backup", "--json")
    name = good(done)
    facts, manifest = done.document, program.manifest(name)

    assert sorted(program.files()) == sorted([name, beside(name)])
    assert {stat.S_IMODE(path.stat().st_mode) for path in program.backups.glob("hub*")} == {0o600}
    assert name.startswith(f"{sample}_backup_{before.astimezone(manifest.started_at.tzinfo):%Y}")
    assert before - timedelta(seconds=1) < manifest.started_at < manifest.finished_at

    stored = program.files()[name]
    assert manifest.stored_bytes == len(stored) == facts["stored_bytes"]
    assert manifest.plain_bytes == len(gzip.decompress(stored)) == facts["plain_bytes"]
    assert manifest.server_version.startswith(f"{postgres.major}.")
    assert manifest.warnings == ()
    counted = {
        table: int(postgres.psql(f"SELECT count(*) FROM ONLY {table}", database=sample)) for table in manifest.rows
    }
    assert manifest.rows == counted
    assert facts["rows"] == sum(counted.values()) > 1000

    assert facts["copies"] == ["local", "s3"]
    assert sorted(s3.keys(bucket)) == sorted([f"backups/{name}", f"backups/{beside(name)}"])
    for key, data in ((name, stored), (beside(name), program.files()[beside(name)])):
        assert s3.client.get_object(Bucket=bucket, Key=f"backups/{key}")["Body"].read() == data
    assert s3.unfinished(bucket) == []

    with postgres.temporary_database("restored") as restored:
        postgres.psql(gzip.decompress(stored).decode(), database=restored)
        assert diff(fingerprint(postgres.psql, sample), fingerprint(postgres.psql, restored), properties=False) == []


def test_one_closing_line_and_one_document(postgres18: EmbeddedPostgres, small: str, tmp_path: Path) -> None:
    """stdout has one JSON document with `--json`, without it a sentence, and one of what changed; the log is on
    stderr, with one closing line, all lines of one run id; the record of the run agrees."""
    program = for_server(postgres18, small, tmp_path)
    done = program.run("backup", "--json")
    name = good(done)
    assert done.out.startswith("{")
    assert done.sentences == []
    closing = done.event("backup.finished")
    assert closing["message"] == "Backup termine"
    assert (closing["name"], closing["exit_code"], closing["level"]) == (name, 0, "info")
    assert {event["run_id"] for event in done.events} == {closing["run_id"]}
    record = json.loads((program.backups / ".hubbackup" / "history.jsonl").read_text())
    assert (record["run_id"], record["exit_code"]) == (closing["run_id"], 0)

    told = program.run("backup")
    assert told.out.startswith("Backup termine: small_")
    assert [line.split()[0] for line in told.out.splitlines()] == ["Backup", "Since"]
    assert program.run("status", "--json").document["last_run"]["exit_code"] == 0
    listed = program.run("list", "--json").document
    assert [one["proven"] for one in listed] == [True, True]


def test_only_local_where_asked(postgres18: EmbeddedPostgres, small: str, s3: S3Server, tmp_path: Path) -> None:
    """`--no-upload-s3` (the guide's `./scripts/backup.sh`) leaves the bucket alone; a later backup fills it up."""
    bucket = s3.bucket()
    program = for_server(postgres18, small, tmp_path, **s3.settings(bucket))
    first = good(program.run("backup", "--no-upload-s3", "--json"))
    assert s3.keys(bucket) == []
    done = program.run("backup", "--upload-s3", "--json")
    assert done.document["uploaded_late"] == [first]
    assert len(s3.keys(bucket)) == 4


# -- rotation


def test_rotation_by_age_in_both_stores(
    postgres18: EmbeddedPostgres, small: str, s3: S3Server, tmp_path: Path
) -> None:
    """What is older than the policy goes after a good backup, from each store by its own policy, file and manifest;
    foreign files and another database's stay."""
    bucket = s3.bucket()
    program = for_server(postgres18, small, tmp_path, **s3.settings(bucket), S3_RETENTION_DAYS="30")
    first = good(program.run("backup", "--json"))
    old, older = program.redate(first, timedelta(days=9)), program.redate(first, timedelta(days=40))
    foreign = {"notes.txt": b"mine", "other_backup_20200101_030000.sql.gz": b"not mine"}
    for name, data in foreign.items():
        (program.backups / name).write_bytes(data)
    s3.client.put_object(Bucket=bucket, Key=f"backups/{older}", Body=b"x")
    s3.client.put_object(Bucket=bucket, Key="other/notes.txt", Body=b"x")

    done = program.run("backup", "--json")
    name = good(done)
    gone = [f"local:{older}", f"local:{old}", f"s3:{older}"]
    assert sorted(done.document["pruned"]) == sorted(gone)
    kept = {first, beside(first), name, beside(name)}
    assert program.files().keys() == kept | foreign.keys()
    assert foreign.items() <= program.files().items()
    in_bucket = {f"backups/{one}" for one in kept | {old, beside(old)}} | {"other/notes.txt"}
    assert set(s3.keys(bucket)) == in_bucket


def test_a_prune_says_why_and_does_nothing_dry(postgres18: EmbeddedPostgres, small: str, tmp_path: Path) -> None:
    """`hubbackup prune --dry-run` gives every backup its decision and reason and removes nothing."""
    program = for_server(postgres18, small, tmp_path)
    first = good(program.run("backup", "--json"))
    old = program.redate(first, timedelta(days=8))
    oldest = program.redate(first, timedelta(days=9))
    program.redate(first, timedelta(days=1))
    before = program.files()
    document = program.run("prune", "--dry-run", "--json").document
    decisions = {one["name"]: one["action"] for one in document["decisions"]}
    assert (decisions[first], decisions[old], decisions[oldest]) == ("keep", "remove", "remove")
    assert program.files() == before
    assert program.run("prune").code == 0
    assert set(before) - set(program.files()) == {old, beside(old), oldest, beside(oldest)}


# -- degraded, suspicious


def test_degraded_then_caught_up(postgres18: EmbeddedPostgres, small: str, s3: S3Server, tmp_path: Path) -> None:
    """Without its bucket a run is degraded: exit 3, a good local copy, the warning that the guide greps for; the
    next run uploads what is missing."""
    bucket = f"late-{secrets.token_hex(4)}"
    program = for_server(postgres18, small, tmp_path, **s3.settings(bucket))
    done = program.run("backup", "--json")
    first = good(done, code=3)
    assert done.document["copies"] == ["local"]
    assert "there is no bucket" in done.document["problems"][0]
    assert done.event("upload.failed")["message"].startswith("AVERTISSEMENT: Echec upload S3")
    assert done.event("backup.finished")["exit_code"] == 3

    s3.client.create_bucket(Bucket=bucket)
    done = program.run("backup", "--json")
    second = good(done)
    assert done.document["uploaded_late"] == [first]
    expected = [f"backups/{part}" for name in (first, second) for part in (name, beside(name))]
    assert sorted(s3.keys(bucket)) == sorted(expected)


@pytest.mark.parametrize("lost", ["file", "manifest", "half"])
def test_a_damaged_copy_is_made_again(
    postgres18: EmbeddedPostgres, small: str, s3: S3Server, tmp_path: Path, lost: str
) -> None:
    """Whatever part of a copy is gone from the bucket, or cut, the next run makes the copy good again."""
    bucket = s3.bucket()
    program = for_server(postgres18, small, tmp_path, **s3.settings(bucket))
    first = good(program.run("backup", "--json"))
    if lost == "half":
        s3.client.put_object(Bucket=bucket, Key=f"backups/{first}", Body=b"half")
    else:
        s3.client.delete_object(Bucket=bucket, Key=f"backups/{first if lost == 'file' else beside(first)}")
    done = program.run("backup", "--json")
    good(done)
    assert done.document["uploaded_late"] == [first]
    for part in (first, beside(first)):
        assert s3.client.get_object(Bucket=bucket, Key=f"backups/{part}")["Body"].read() == program.files()[part]


def test_half_a_database_is_suspicious(postgres18: EmbeddedPostgres, small: str, tmp_path: Path) -> None:
    """A dump of less than half the last good one's size or tables is kept with a warning, and nothing is pruned;
    the measure stays the last good one."""
    program = for_server(postgres18, small, tmp_path)
    first = good(program.run("backup", "--json"))
    old = program.redate(first, timedelta(days=30))
    program.redate(first, timedelta(days=1))
    postgres18.psql("SELECT format('DROP TABLE t%s', n) FROM generate_series(1, 9) AS n \\gexec", database=small)
    for _ in range(2):
        done = program.run("backup", "--json")
        name = good(done)
        assert len(program.manifest(name).warnings) == 2
        assert first in program.manifest(name).warnings[0]
        assert done.document["warnings"] == list(program.manifest(name).warnings)
        assert [event["level"] for event in done.events if event["event"] == "backup.suspicious"] == ["warning"]
        assert done.event("prune.frozen")
        assert old in program.files()


# -- one at a time


def test_a_second_run_at_once_is_refused(postgres18: EmbeddedPostgres, small: str, tmp_path: Path) -> None:
    """While a run is at work another one exits 4 at once and leaves nothing, not even a record."""
    program = for_server(postgres18, small, tmp_path)
    with locked_table(postgres18, small, "t0"):
        first = program.start("backup", "--json")
        wait_until(lambda: list(program.backups.glob("*.partial")), "the first run's file")
        before = {path.name for path in program.backups.iterdir()}
        second = program.run("backup", "--json")
        assert second.code == second.document["exit_code"] == 4
        assert f"process {first.pid}" in second.document["message"]
        assert {path.name for path in program.backups.iterdir()} == before
    name = good(finish(first))
    assert sorted(program.files()) == sorted([name, beside(name)])
    history = (program.backups / ".hubbackup" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["exit_code"] for line in history] == [0]


# -- failures in the middle


def test_sigterm_in_the_middle_leaves_nothing(
    postgres18: EmbeddedPostgres, big: str, s3: S3Server, tmp_path: Path
) -> None:
    """SIGTERM while the dump streams: exit 143 well within the ten seconds of `docker stop`, one closing line, no
    file, no object, no unfinished upload, no backend."""
    bucket = s3.bucket()
    program = for_server(postgres18, big, tmp_path, **s3.settings(bucket))
    with in_the_middle(program) as process:
        process.send_signal(signal.SIGTERM)
    clock = time.monotonic()
    done = finish(process)
    assert time.monotonic() - clock < 8
    assert done.code == 143, done.err
    assert done.event("backup.failed")["exit_code"] == 143
    assert done.sentences[0].startswith("hubbackup: stopped by a signal")
    leaves_nothing(program, {})
    assert s3.keys(bucket) == s3.unfinished(bucket) == []
    wait_until(lambda: not our_backends(postgres18, big), "no backend of ours")


def test_sigterm_while_pg_dump_waits_for_a_lock(postgres18: EmbeddedPostgres, small: str, tmp_path: Path) -> None:
    """Nothing needs to flow for a stop to be heard."""
    program = for_server(postgres18, small, tmp_path)
    with locked_table(postgres18, small, "t0"):
        process = program.start("backup")
        wait_until(lambda: list(program.backups.glob("*.partial")), "the file")
        process.send_signal(signal.SIGTERM)
        done = finish(process, 8)
        assert done.code == 143, done.err
        wait_until(lambda: not our_backends(postgres18, small), "no backend of ours")
    leaves_nothing(program, {})


def test_kill_9_leaves_no_final_name_and_the_next_run_cleans_up(
    postgres18: EmbeddedPostgres, small: str, s3: S3Server, tmp_path: Path
) -> None:
    """What a killed run leaves is a `.partial`, an unfinished upload, a waiting backend: never a backup. The next
    run is not hindered by a stale lock, and removes them all."""
    bucket = s3.bucket()
    program = for_server(postgres18, small, tmp_path, **s3.settings(bucket))
    with locked_table(postgres18, small, "t0"):
        process = program.start("backup")
        wait_until(lambda: list(program.backups.glob("*.partial")), "the file")
        wait_until(lambda: dumping(postgres18, small), "pg_dump's backend")
        process.kill()
        assert finish(process).code == -signal.SIGKILL
        (left,) = program.files()
        assert left.endswith(".partial")
        name = left.removesuffix(".partial")
        s3.client.create_multipart_upload(Bucket=bucket, Key=f"backups/{name}")  # as one that had begun its parts
        (orphan,) = dumping(postgres18, small)
        again = program.start("backup", "--json")
        wait_until(lambda: orphan not in dumping(postgres18, small), "the orphan is gone")
    done = finish(again)
    made = good(done)
    assert done.event("orphans.ended")["count"] == 1
    removed = [event for event in done.events if event["event"] == "leftovers.removed"]
    assert {event["store"] for event in removed} == {"local", "s3"}
    assert sorted(program.files()) == sorted([made, beside(made)])
    assert s3.unfinished(bucket) == []


def test_only_sessions_of_our_own_dead_runs_are_ended(
    postgres18: EmbeddedPostgres, small: str, tmp_path: Path
) -> None:
    """After a kill -9 the next backup ends what that run left in the database: also after another run in between,
    and neither another daemon's dump of the same database nor a doctor's session."""
    mine = for_server(postgres18, small, tmp_path / "mine")
    theirs = for_server(postgres18, small, tmp_path / "theirs")
    doctor = f"hubbackup-doctor-{new_run_id(datetime.now(UTC))}"
    with locked_table(postgres18, small, "t0"), idle_session(postgres18, small, doctor):
        killed = mine.start("backup")
        wait_until(lambda: dumping(postgres18, small), "pg_dump's backend")
        killed.kill()
        assert finish(killed).code == -signal.SIGKILL
        (orphan,) = dumping(postgres18, small)
        other = theirs.start("backup", "--json")
        wait_until(lambda: len(dumping(postgres18, small)) == 2, "the other daemon's pg_dump")
        (beside_it,) = dumping(postgres18, small) - {orphan}
        assert mine.run("prune").code == 0
        again = mine.run("backup", "--json")
        assert again.code == 4, again.said  # theirs is at work
        assert again.event("orphans.ended")["count"] == 1
        wait_until(lambda: orphan not in our_backends(postgres18, small), "the orphan is gone")
        assert beside_it in our_backends(postgres18, small)
        assert sessions_named(postgres18, doctor) == 1
    good(finish(other))
    assert "orphans.ended" not in {event["event"] for event in mine.run("backup", "--json").events}


def dumping(server: EmbeddedPostgres, database: str) -> set[int]:
    """The backends of ours that wait for a table."""
    found = server.psql(
        "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'hubbackup-%' AND datname = :'name'"
        " AND query LIKE 'LOCK TABLE%'",
        variables={"name": database},
    )
    return {int(pid) for pid in found.split()}


CHANGES = """
CREATE TABLE pointages AS SELECT generate_series(1, 100) AS i;
CREATE TABLE devis AS SELECT generate_series(1, 50) AS i;
CREATE TABLE photos AS SELECT generate_series(1, 50) AS i;
CREATE SCHEMA rh; CREATE TABLE rh."Équipes d'été" (i int);
CREATE TABLE vieux (i int);
"""


def test_a_backup_says_what_changed_since_the_last(postgres: EmbeddedPostgres, database: str, tmp_path: Path) -> None:
    """In the closing line, the answer and the history: rows more and fewer, tables new and gone, those that are the
    same for certain, and those that only moved; nothing of the first backup."""
    postgres.psql(CHANGES, database=database)
    program = for_server(postgres, database, tmp_path)
    first = program.run("backup", "--json")
    assert "changes" not in first.document
    postgres.psql(
        "INSERT INTO pointages SELECT generate_series(1, 412); DELETE FROM devis WHERE i < 4; DROP TABLE vieux;"
        """INSERT INTO rh."Équipes d'été" VALUES (1); CREATE TABLE neuf (i int);"""
        "UPDATE photos SET i = 1 WHERE i = 1",
        database=database,
    )
    second = program.run("backup")
    wanted = (
        """pointages +412, devis -3, rh."Équipes d'été" +1, neuf (new), vieux (gone),"""
        " 1 table changed or moved"
    )
    assert second.out.splitlines()[1] == f"Since {good(first)}: {wanted}"
    finished = second.event("backup.finished")
    assert (finished["changes"], finished["changes_since"]) == (wanted, good(first))
    third = program.run("backup", "--json")
    assert third.document["changes"] == "5 tables unchanged"
    history = (program.backups / ".hubbackup" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line).get("changes") for line in history] == [None, wanted, "5 tables unchanged"]


@contextmanager
def idle_session(server: EmbeddedPostgres, database: str, name: str) -> Iterator[None]:
    """A session that is there and does nothing, under this application name."""
    psql = subprocess.Popen(
        [server.bin_dir / "psql", "-X", "-q", "-d", database],
        env={**server.env(), "PGAPPNAME": name},
        stdin=subprocess.PIPE,
    )
    try:
        wait_until(lambda: sessions_named(server, name) == 1, "the session")
        yield
    finally:
        psql.communicate(timeout=10)


def sessions_named(server: EmbeddedPostgres, name: str) -> int:
    """How many sessions have this application name."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = :'name'"
    return int(server.psql(sql, variables={"name": name}))


def test_kill_9_while_bytes_flow(postgres18: EmbeddedPostgres, big: str, tmp_path: Path) -> None:
    """A half-written file has no final name, whenever the program dies."""
    program = for_server(postgres18, big, tmp_path)
    with in_the_middle(program) as process:
        process.kill()
    finish(process)
    (left,) = program.files()
    assert left.endswith(".partial")
    wait_until(lambda: not our_backends(postgres18, big), "pg_dump ends with its pipe")
    assert program.run("list", "--json").document == []


def test_a_terminated_backend_is_a_failure(postgres18: EmbeddedPostgres, big: str, tmp_path: Path) -> None:
    """pg_terminate_backend in the middle of the dump: exit 1, the cause named, nothing published, and what was
    written is not written to a second time."""
    program = for_server(postgres18, big, tmp_path)
    with in_the_middle(program, "--json") as process:
        for pid in our_backends(postgres18, big):
            postgres18.psql(f"SELECT pg_terminate_backend({pid})")
        wait_until(lambda: not our_backends(postgres18, big), "the backend is gone")
    done = finish(process)
    assert done.code == done.document["exit_code"] == 1
    assert "the server ended the connection in the middle of the work" in done.document["message"]
    assert done.event("backup.failed")["stage"] == "dump"
    leaves_nothing(program, {})


# -- names


@pytest.mark.parametrize(
    "database",
    ["l'été \"2026\"", "日本語", "--help", "host=evil dbname=postgres", "postgresql://evil/x", "two\nlines", "%2e%2e",
     "../$(id)\\"],
)  # fmt: skip
def test_a_hostile_name_is_only_a_name(postgres18: EmbeddedPostgres, tmp_path: Path, database: str) -> None:
    """Whatever characters a database has in its name, it is that one that is backed up, into one file of its own."""
    canary = secrets.token_hex(4)
    postgres18.create_database(database)
    try:
        postgres18.psql(f"CREATE TABLE t_{canary} AS SELECT 1 AS i", database=database)
        program = for_server(postgres18, database, tmp_path)
        done = program.run("backup", "--json")
        name = good(done)
        assert sorted(program.files()) == sorted([name, beside(name)])
        manifest = program.manifest(name)
        assert (manifest.database, manifest.rows) == (database, {f"public.t_{canary}": 1})
    finally:
        postgres18.drop_database(database)


def test_tables_named_in_another_encoding_are_counted_apart(postgres18: EmbeddedPostgres, tmp_path: Path) -> None:
    """A LATIN1 database is dumped in its own encoding; its tables' names are bytes that are not UTF-8."""
    database = f"latin_{secrets.token_hex(4)}"
    postgres18.create_database(database, options="TEMPLATE template0 ENCODING 'LATIN1'")
    try:
        postgres18.psql(
            'CREATE TABLE "é" AS SELECT 1 AS "ü"; CREATE TABLE "è" AS SELECT generate_series(1, 2);',
            database=database,
        )
        program = for_server(postgres18, database, tmp_path)
        name = good(program.run("backup", "--json"))
        assert program.manifest(name).rows == {'public."\\xe9"': 1, 'public."\\xe8"': 2}
    finally:
        postgres18.drop_database(database)


# -- over the Docker engine


@pytest.fixture(scope="module")
def database_container(docker_engine: str) -> Iterator[str]:
    """A PostgreSQL 17 in a container, reached only by exec, with a table that takes many frames."""
    with postgres_container() as name:
        psql_in(name, "CREATE TABLE t AS SELECT md5(i::text) AS a FROM generate_series(1, 50000) AS i")
        yield name


@pytest.mark.docker
def test_lost_bytes_on_the_way_are_no_backup(database_container: str, tmp_path: Path) -> None:
    """Through the engine the dump comes whole; where the engine's stream loses its end, even at the edge of a frame
    and with exit code 0, there is no backup, and the one before stays."""
    program = for_container(database_container, tmp_path, POSTGRES_PASSWORD="canari-7f3a")
    with docker_proxy() as proxy:
        program = program.but(DOCKER_HOST=proxy.url)
        name = good(program.run("backup", "--json"))
        assert program.manifest(name).rows == {"public.t": 50_000}
        before = program.files()
        for frames, more_bytes in ((3, 0), (3, 4), (3, 100)):
            proxy.stream = faults.cut_after(frames, more_bytes)
            done = program.run("backup", "--json")
            assert done.code == done.document["exit_code"] == 1, done.err
            assert "canari" not in done.out + done.err
            leaves_nothing(program, before)
        proxy.stream = None
        good(program.run("backup", "--json"))
