"""What fails in the middle of a restore, or would: exit 1 with the cause, and the live database as it was."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support import PsqlError
from tests.support.backups import plain_of, signed_text, unproven
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.fingerprint import Fingerprint, diff, fingerprint
from tests.support.program import DATABASE, Program, for_server, without_tools
from tests.support.sample import SMALL

TRAILER = b"\n--\n-- PostgreSQL database dump complete\n"
ROWS_BEGIN = b"COPY public.utilisateurs "


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A server of this module's own: with slots and prepared transactions, and some tests let everybody in."""
    options = {"wal_level": "logical", "max_wal_senders": "2", "max_prepared_transactions": "5"}
    with EmbeddedPostgres(16, configuration=options) as server:
        yield server


@pytest.fixture
def hub(server: EmbeddedPostgres, tmp_path: Path) -> Iterator[Program]:
    hub = for_server(server, DATABASE, tmp_path).but(RESTORE_JOBS="1")  # several: test_restore_parallel
    before = hub.databases()
    server.create_database(DATABASE)
    hub.psql(SMALL, database=DATABASE)
    yield hub
    hub.drop(*(hub.databases() - before))


@contextlib.contextmanager
def unchanged(hub: Program) -> Iterator[Fingerprint]:
    """Inside, a restore fails; after it nothing of it is left: no database, no session, no changed row."""
    databases, live = hub.databases(), fingerprint(hub.psql, DATABASE)
    yield live
    assert diff(live, fingerprint(hub.psql, DATABASE)) == []
    assert hub.databases() == databases
    assert hub.sessions() == []


# ------------------------------------------------------------------------------------------------ what fails half-way


def test_an_error_in_the_middle(hub: Program) -> None:
    """The server's own words are the cause, and the remedy says that nothing was changed."""
    plain = plain_of(hub.backup()).replace(ROWS_BEGIN, b"SELECT pg_catalog.lo_create(1 / 0);\n" + ROWS_BEGIN, 1)
    file = unproven(hub.backups, plain)
    with unchanged(hub):
        done = hub.run("restore", str(file), "--yes")
    assert done.code == 1, done.said
    assert "could not be loaded: psql ended with exit code 3: ERROR:  division by zero" in done.err
    assert "the live database is as it was" in done.err
    document = hub.run("restore", str(file), "--yes", "--json").document
    assert (document["exit_code"], "division by zero" in document["message"]) == (1, True)


def wrapped(directory: Path, server: EmbeddedPostgres, script: str, tool: str = "psql") -> str:
    """A PATH whose first `psql` (or other tool) is this script; `$real` is the true one."""
    wrapper = directory / "bin" / tool
    wrapper.parent.mkdir(exist_ok=True)
    wrapper.write_text(f"#!/bin/sh\nreal={server.bin_dir / tool}\n{script}\n")
    wrapper.chmod(0o755)
    return f"{wrapper.parent}:{server.env()['PATH']}"


LOADING = 'case "$*$PGDATABASE" in *_restore_*) ;; *) exec "$real" "$@";; esac\n'


def test_a_psql_that_takes_half_for_all(hub: Program, server: EmbeddedPostgres, tmp_path: Path) -> None:
    """psql sees an end inside of COPY, commits, and exits 0: the nonce is not answered, so nothing is swapped."""
    path = wrapped(tmp_path, server, LOADING + 'head -n 1000 | "$real" "$@"')
    hub.backup()
    with unchanged(hub):
        done = hub.run("restore", "--latest", "--yes", PATH=path)
    assert done.code == 1, done.said
    assert "psql ended without an error before it had read all of" in done.err


def test_a_psql_that_answers_and_has_lost_rows(hub: Program, server: EmbeddedPostgres, tmp_path: Path) -> None:
    """Should psql answer the nonce all the same, the rows are counted, and the table is named."""
    script = LOADING + 'grep -v -a "^17\t" | "$real" "$@"'
    hub.backup()
    with unchanged(hub):
        done = hub.run("restore", "--latest", "--yes", PATH=wrapped(tmp_path, server, script))
    assert done.code == 1, done.said
    assert re.search(r"the server took \d+ rows for public\.\w+, the dump held \d+", done.err), done.err


@pytest.mark.parametrize("number", ["KILL", "TERM"])
def test_a_dying_psql(hub: Program, server: EmbeddedPostgres, tmp_path: Path, number: str) -> None:
    """A psql that is killed in the middle is told as such."""
    hub.backup()
    with unchanged(hub):
        path = wrapped(tmp_path, server, LOADING + f"head -c 100000 > /dev/null; kill -{number} $$")
        done = hub.run("restore", "--latest", "--yes", PATH=path)
    assert done.code == 1, done.said
    assert f"psql ended with exit code {137 if number == 'KILL' else 143}" in done.err


def test_a_missing_psql(hub: Program, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without the tools, the cause is that, with what to install."""
    hub.backup()
    with unchanged(hub):
        done = without_tools(hub, tmp_path_factory.mktemp("empty")).run("restore", "--latest", "--yes")
    assert (done.code, "psql is not installed here" in done.err) == (1, True), done.said


def test_a_killed_session(hub: Program, server: EmbeddedPostgres, tmp_path: Path) -> None:
    """The server ends the restore's session: its words, and nothing is left."""
    hub.backup()
    ending = f'PGDATABASE=postgres {server.bin_dir}/psql -Xqc "SELECT pg_terminate_backend(pid) FROM pg_stat_activity'
    ending += f" WHERE datname LIKE '{DATABASE}_restore_%'\" > /dev/null"
    script = LOADING + f'{{ head -c 150000; sleep 0.3; {ending}; cat; }} | "$real" "$@"'
    with unchanged(hub):
        done = hub.run("restore", "--latest", "--yes", PATH=wrapped(tmp_path, server, script))
    assert done.code == 1, done.said
    assert "terminating connection" in done.err or "server closed the connection" in done.err


# ------------------------------------------------------------------------------------------------------ hostile dumps


OLD_PSQL = '"$real" --set=VERSION_NAME=16.9 "$@"'


def test_our_own_restrict_opens_the_load(hub: Program, server: EmbeddedPostgres, tmp_path: Path) -> None:
    """psql is told to run SQL alone before it sees a byte of the dump, by a key of ours in the place of pg_dump's."""
    hub.backup()
    script = LOADING + f'tee {tmp_path}/seen.$$ | "$real" "$@"'
    done = hub.run("restore", "--latest", "--yes", PATH=wrapped(tmp_path, server, script))
    assert done.code == 0, done.said
    (text,) = [text for seen in tmp_path.glob("seen.*") if b"database dump complete" in (text := seen.read_bytes())]
    commands = [line for line in text.split(b"\n") if line.startswith(b"\\") and line != b"\\."]
    *of_the_preamble, restrict = commands
    assert all(re.match(rb"\\(?:un)?set ", one) for one in of_the_preamble), "psql's own settings, and nothing else"
    assert re.fullmatch(rb"\\restrict [0-9a-f]{64}", restrict)
    assert text.index(restrict) < text.index(b"-- PostgreSQL database dump")
    assert text.rstrip().endswith(b"';"), "the nonce is asked for in SQL, and nothing takes the restriction back"


def test_an_old_psql_loads_only_what_is_ours(hub: Program, server: EmbeddedPostgres, tmp_path: Path) -> None:
    """A psql that can't be told to run SQL alone gets a backup with its manifest, and no file of anybody's."""
    path = wrapped(tmp_path, server, OLD_PSQL)
    file = hub.backup()
    with unchanged(hub):
        done = hub.run("restore", str(unproven(hub.backups, plain_of(file))), "--yes", PATH=path)
    assert done.code == 1, done.said
    assert "from_elsewhere.sql.gz is of unproven origin, and this psql 16.9 could run commands" in done.err
    assert "update PostgreSQL to 16.10 or newer" in done.err
    seen = tmp_path / "seen"
    script = f"tee -a {seen} | {OLD_PSQL}"
    done = hub.run("restore", "--latest", "--yes", PATH=wrapped(tmp_path, server, script))
    assert done.code == 0, done.said
    assert b"restrict" not in seen.read_bytes()


def test_a_function_named_begin(hub: Program) -> None:
    """psql waits forever for the end of its body: the backup is whole, and a restore says why it can't be."""
    hub.psql("CREATE FUNCTION begin() RETURNS int LANGUAGE sql AS 'SELECT 1'", database=DATABASE)
    hub.backup()
    with unchanged(hub):
        done = hub.run("restore", "--latest", "--yes")
    assert done.code == 1, done.said
    assert "to psql the word begin opens a body" in done.err
    assert "CREATE FUNCTION public.begin" in done.err
    assert "ALTER FUNCTION … RENAME TO" in done.err


COMMANDS = [
    r"\! touch {canary}",
    r"\connect postgres",
    r"\c postgres",
    r"\copy utilisateurs to program 'touch {canary}'",
    r"\o {canary}",
    r"SELECT 1 \g {canary}",
    r"\i /etc/passwd",
    r"COPY public.utilisateurs FROM PROGRAM 'touch {canary}; true';",
    r"COPY public.utilisateurs TO PROGRAM 'touch {canary}';",
]


def test_a_command_in_a_dump_is_refused(hub: Program, tmp_path: Path) -> None:
    """What makes psql or the server run a program, or go elsewhere, is found before anything is loaded."""
    canary = tmp_path / "canary"
    plain = plain_of(hub.backup())
    with unchanged(hub):
        for line in COMMANDS:
            hostile = b"\n" + line.format(canary=canary).encode() + b"\n"
            for place in (ROWS_BEGIN, TRAILER):
                file = unproven(hub.backups, plain.replace(place, hostile + place, 1))
                done = hub.run("restore", str(file), "--yes")
                assert done.code == 1, done.said
                cause = (
                    "no pg_dump wrote it",
                    "pg_dump --create",
                    "not of pg_dump's making",
                    "ends inside a statement",
                    "pg_dump does not write",
                    "pg_dump never writes",
                )
                assert any(words in done.err for words in cause), done.said
    assert not canary.exists()


@pytest.mark.parametrize("line", [b"COMMIT;", b"BEGIN;", b"ROLLBACK;", b"BEGIN;\nCOMMIT;", b"BEGIN;\nABORT;"])
def test_a_transaction_in_a_dump_is_harmless(hub: Program, line: bytes) -> None:
    """There is no transaction to be ended early; where one is left open, its rows are missed, and it is refused.

    One that is given up would undo settings that psql reads strings by: pg_dump writes none.
    """
    live = fingerprint(hub.psql, DATABASE)
    plain = plain_of(hub.backup()).replace(ROWS_BEGIN, line + b"\n" + ROWS_BEGIN, 1)
    done = hub.run("restore", str(unproven(hub.backups, plain)), "--yes")
    assert done.code == (0 if line.endswith(b"COMMIT;") else 1), done.said
    assert diff(live, fingerprint(hub.psql, DATABASE)) == []


NAMES = [
    "../hub_chantier_backup_20260208_030000.sql.gz",
    "/var/backups/hub_chantier_backup_20260208_030000.sql.gz",
    "backups/x/hub_chantier_backup_20260208_030000.sql.gz",
    "other/hub_chantier_backup_20260208_030000.sql.gz",
    "hub_chantier_backup_20260208_030000.sql.gz\n",
    "hub_chantier_backup_20260208_030000.sql.gz\nx",
    "hub_chantier%2e_backup_20260208_030000.sql.gz",
    "%2e%2e%2fhub_chantier_backup_20260208_030000.sql.gz",
    "%2E%2E%2Fx_backup_20260208_030000.sql.gz/../y",
    "hub_chantier_backup_20260208_030000.sql.gz\0",
    "hub_chantier_backup_20260230_030000.sql.gz",
    "hub_chantier_backup_٢٠٢٦٠٢٠٨_030000.sql.gz",
    "hub_chantier_backup_20260208_030000.json",
    "s3://b/hub_chantier_backup_20260208_030000.sql.gz",
    "s3://bucket/backups/hub_chantier_backup_20260208_030000.sql.gz",
    "..",
    ".",
    " ",
    "*",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_s3_is_exactly_one_of_ours(tmp_path: Path, name: str) -> None:
    """Anything else is exit 2, before S3 or the server is asked (there is neither here)."""
    settings = {"BACKUP_SOURCE": "direct", "PGHOST": "127.0.0.1", "PGPORT": "1", "S3_BACKUP_BUCKET": "b"}
    settings |= {"S3_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    hub = Program(tmp_path, settings | {"POSTGRES_DB": DATABASE, "AWS_DEFAULT_REGION": "us-east-1"})
    done = hub.run("restore", "--from-s3", name, "--yes")
    assert done.code == 2, done.said
    assert "is not a name of a backup" in done.err or "is not in s3://b/backups/" in done.err


# ------------------------------------------------------------------------------------------- what is found beforehand


def test_a_missing_extension(hub: Program) -> None:
    """An extension that the server lacks is named before anything is created."""
    plain = plain_of(hub.backup()).replace(
        ROWS_BEGIN, b"CREATE EXTENSION IF NOT EXISTS postgis WITH SCHEMA public;\n" + ROWS_BEGIN, 1
    )
    with unchanged(hub):
        done = hub.run("restore", str(unproven(hub.backups, plain)), "--yes")
    assert done.code == 1, done.said
    assert "the server lacks the extensions postgis" in done.err
    assert "install them" in done.err


def test_too_little_room(hub: Program, server: EmbeddedPostgres, tmp_path: Path) -> None:
    """Too little room stops the restore; --force goes on; a df that tells nothing is passed over."""
    hub.backup()
    answer = 'printf "Filesystem 1024-blocks Used Available Capacity Mounted\\n/dev/x 9 9 %s 9%% /\\n"'
    path = wrapped(tmp_path, server, f"{answer} 4096", "df")
    with unchanged(hub):
        done = hub.run("restore", "--latest", "--yes", PATH=path)
        assert done.code == 1, done.said
        assert "4,194,304 bytes free" in done.err
        assert "--in-place" in done.err
    assert hub.run("restore", "--latest", "--yes", "--force", PATH=path).code == 0
    # What a killed restore has left counts as room: it goes first.
    left = f"{DATABASE}_restore_20260101_000000"
    hub.psql('CREATE DATABASE :"n"', variables={"n": left})
    assert hub.run("restore", "--latest", "--yes", PATH=wrapped(tmp_path, server, f"{answer} 6000", "df")).code == 0
    for nothing in ("exit 1", "echo nonsense", f"{answer} none"):
        path = wrapped(tmp_path, server, nothing, "df")
        assert hub.run("restore", "--latest", "--yes", PATH=path).code == 0, nothing


def test_prepared_transactions_and_slots(hub: Program) -> None:
    """A prepared transaction would hold the swap up: it is named first. A replication slot is told of, and stays."""
    hub.backup()
    hub.psql("SELECT pg_create_logical_replication_slot('hub_slot', 'pgoutput')", database=DATABASE)
    try:
        hub.psql("BEGIN; DELETE FROM utilisateurs WHERE id = 1; PREPARE TRANSACTION 'hub-gid';", database=DATABASE)
        with unchanged(hub):
            done = hub.run("restore", "--latest", "--yes")
        assert done.code == 1, done.said
        assert "held by prepared transactions: hub-gid" in done.err
        assert "ROLLBACK PREPARED" in done.err
        hub.psql("ROLLBACK PREPARED 'hub-gid'", database=DATABASE)
        done = hub.run("restore", "--latest", "--yes")
        assert done.code == 0, done.said
        assert "the logical replication slots hub_slot stay with the old database" in done.err
    finally:
        hub.psql("SELECT pg_drop_replication_slot('hub_slot')")


def test_a_kept_database_that_cannot_be_dropped(hub: Program) -> None:
    """The backup is good all the same: the run is degraded and says which database stays, and why."""
    old = f"{DATABASE}_before_20200101_000000"
    hub.psql('CREATE DATABASE :"n" IS_TEMPLATE true', variables={"n": old})
    try:
        done = hub.run("backup", "--json")
        assert done.code == 3, done.said
        assert f"the old database {old} can't be dropped" in done.err
        assert hub.run("restore", "--latest", "--yes").code == 0
    finally:
        hub.psql('ALTER DATABASE :"n" IS_TEMPLATE false', variables={"n": old})


def test_a_template_is_not_replaced(hub: Program) -> None:
    """A live database that is a template is refused, with the statement that makes it none."""
    hub.backup()
    hub.psql(f"ALTER DATABASE {DATABASE} IS_TEMPLATE true")
    try:
        with unchanged(hub):
            done = hub.run("restore", "--latest", "--yes")
        assert done.code == 1, done.said
        assert f'ALTER DATABASE "{DATABASE}" IS_TEMPLATE false' in done.err
    finally:
        hub.psql(f"ALTER DATABASE {DATABASE} IS_TEMPLATE false")


# --------------------------------------------------------------------------------------------------- who is connected


def test_a_session_in_the_way_is_ended(hub: Program, server: EmbeddedPostgres) -> None:
    """One that sits in an open transaction too; the restore waits for nobody."""
    hub.backup()
    command = ["psql", "-X", "-q", "-d", DATABASE]
    with subprocess.Popen(command, env=server.env(), stdin=subprocess.PIPE, stderr=subprocess.PIPE) as session:
        assert session.stdin is not None
        session.stdin.write(b"BEGIN; LOCK TABLE chantiers; SELECT pg_sleep(60);\n")
        session.stdin.flush()
        while (
            hub.psql("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND pid <> pg_backend_pid()")
            == "0"
        ):
            time.sleep(0.05)
        done = hub.run("restore", "--latest", "--yes")
        assert done.code == 0, done.said
        assert "1 live connections will be ended" in done.err
        session.wait(10)


class Pool(threading.Thread):
    """A client as eager as can be: connects, holds on, and connects again the moment it is cut off."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.connections = 0
        self.over = threading.Event()

    def run(self) -> None:
        words = b"user\0hubchantier\0database\0" + DATABASE.encode() + b"\0\0"
        startup = struct.pack(">ii", 8 + len(words), 196608) + words
        while not self.over.is_set():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as client:
                client.settimeout(0.2)
                client.sendall(startup)
                while not self.over.is_set():
                    with contextlib.suppress(TimeoutError):
                        data = client.recv(4096)
                        if not data:
                            break
                        self.connections += b"Z\0\0\0\x05I" in data


@pytest.fixture
def open_server(server: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    """The server, without asking for a password: a raw client needs no SCRAM."""
    access = server.data_directory / "pg_hba.conf"
    before = access.read_text()
    access.write_text("local all all trust\nhost all all 127.0.0.1/32 trust\n")
    server.psql("SELECT pg_reload_conf()")
    try:
        yield server
    finally:
        access.write_text(before)
        server.psql("SELECT pg_reload_conf()")


def test_a_pool_that_reconnects_at_once(hub: Program, open_server: EmbeddedPostgres) -> None:
    """Thirty clients that come back the moment they are ended: the swap gets through, and the undo too."""
    hub.backup()
    good = fingerprint(hub.psql, DATABASE)
    clients = [Pool(open_server.port) for _ in range(30)]
    for client in clients:
        client.start()
    try:
        while not all(client.connections for client in clients):
            time.sleep(0.05)
        for arguments in (["--latest"], ["--undo"], ["--undo"]):
            done = hub.run("restore", *arguments, "--yes")
            assert done.code == 0, done.said
        deadline = time.monotonic() + 20
        while hub.psql(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{DATABASE}'") != "30":
            assert time.monotonic() < deadline, "the clients do not all come back"
            time.sleep(0.05)
    finally:
        for client in clients:
            client.over.set()
        for client in clients:
            client.join(10)
    assert min(client.connections for client in clients) >= 3
    assert diff(good, fingerprint(hub.psql, DATABASE)) == []


def test_a_lost_answer_to_the_swap_is_no_failure(hub: Program, server: EmbeddedPostgres, tmp_path: Path) -> None:
    """psql dies after the COMMIT: the server is asked, and the restore has succeeded; before it: nothing has."""
    hub.backup()
    # Passed on as it comes: some sessions stay open for the whole of a restore.
    die = f"grep -q RENAME {tmp_path}/seen.$$ && kill -KILL $$; exit $code"
    after = wrapped(tmp_path, server, f'tee {tmp_path}/seen.$$ | "$real" "$@"; code=$?\n{die}')
    done = hub.run("restore", "--latest", "--yes", PATH=after)
    assert done.code == 0, done.said
    assert hub.derived("before")
    hub.drop(*hub.derived("before"))
    with unchanged(hub):
        before = f'tee {tmp_path}/seen.$$ | sed -u /RENAME/Q | "$real" "$@"; code=$?\n{die}'
        done = hub.run("restore", "--latest", "--yes", PATH=wrapped(tmp_path, server, before))
        assert done.code == 1, done.said


# ----------------------------------------------------------------------------------------------------------- in place


def test_in_place(hub: Program) -> None:
    """A safety backup first; then the database is dropped, filled, and nothing is kept beside."""
    good = fingerprint(hub.psql, DATABASE)
    file = hub.backup()
    hub.psql("DROP TABLE utilisateurs", database=DATABASE)
    damaged = fingerprint(hub.psql, DATABASE)
    done = hub.run("restore", file.name, "--in-place", "--yes")
    assert done.code == 0, done.said
    assert "RISK" in done.err
    assert diff(good, fingerprint(hub.psql, DATABASE)) == []
    assert hub.derived("before") == hub.derived("restore") == []
    back = done.out.split("To go back: hubbackup ")[1].splitlines()[0].split()
    assert hub.run(*back, "--yes").code == 0
    assert diff(damaged, fingerprint(hub.psql, DATABASE)) == []


def test_in_place_of_another_database(hub: Program) -> None:
    """With --database the safety backup is of that database, not of POSTGRES_DB."""
    hub.psql("CREATE DATABASE other_one")
    hub.psql("CREATE TABLE only_here AS SELECT 1 AS n", database="other_one")
    other = hub.but(POSTGRES_DB="other_one")
    file = other.backup()
    hub.psql("INSERT INTO only_here VALUES (2)", database="other_one")
    live, two = fingerprint(hub.psql, DATABASE), fingerprint(hub.psql, "other_one")
    done = hub.run("restore", file.name, "--database", "other_one", "--in-place", "--yes")
    assert done.code == 0, done.said
    back = done.out.split("To go back: hubbackup ")[1].splitlines()[0].split()
    done = hub.run(*back, "--yes")
    assert done.code == 0, done.said
    assert diff(two, fingerprint(hub.psql, "other_one")) == []
    assert diff(live, fingerprint(hub.psql, DATABASE)) == []


def test_in_place_prunes_nothing(hub: Program) -> None:
    """The safety backup removes no old backup: the one that is being restored could be among them."""
    file = hub.backup()
    old = file.with_name(f"{DATABASE}_backup_20200101_000000.sql.gz")
    file.rename(old)
    beside = Path(str(file).replace(".sql.gz", ".manifest.json"))
    document = json.loads(beside.read_text()) | {"name": old.name, "started_at": "2020-01-01T00:00:00Z"}
    beside.unlink()
    Path(str(old).replace(".sql.gz", ".manifest.json")).write_text(signed_text(hub.backups, document))
    done = hub.run("restore", old.name, "--in-place", "--yes")
    assert done.code == 0, done.said
    assert old.exists()


def test_in_place_that_fails_names_the_way_back(hub: Program) -> None:
    """After the drop there is no live database: the error names the safety backup, and that brings it back."""
    live = fingerprint(hub.psql, DATABASE)
    plain = plain_of(hub.backup()).replace(ROWS_BEGIN, b"SELECT pg_catalog.lo_create(1 / 0);\n" + ROWS_BEGIN, 1)
    done = hub.run("restore", str(unproven(hub.backups, plain)), "--in-place", "--yes")
    assert done.code == 1, done.said
    assert "division by zero" in done.err
    assert f"the database {DATABASE} had been dropped (--in-place)" in done.err
    with pytest.raises(PsqlError, match="does not exist"):
        hub.psql("SELECT 1", database=DATABASE)
    back = done.err.strip().splitlines()[-1].split("safety backup: hubbackup ")[1].split()
    assert back[-1] == "--yes"
    done = hub.run(*back)
    assert done.code == 0, done.said
    assert diff(live, fingerprint(hub.psql, DATABASE)) == []


ORDERS = '[ -n "$PGCLIENTENCODING" ] || exec "$real" "$@"\n'
"""But for the sessions that stay open."""


@contextlib.contextmanager
def inside(server: EmbeddedPostgres, sql: str, database: str = DATABASE) -> Iterator[None]:
    """A session in the live database that has said this, which has one line for an answer."""
    command = ["psql", "-XqAt", "-d", database]
    with subprocess.Popen(command, env=server.env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as session:
        assert session.stdin is not None
        assert session.stdout is not None
        session.stdin.write(f"{sql};\n".encode())
        session.stdin.flush()
        assert session.stdout.readline()
        yield
        session.stdin.close()


@contextlib.contextmanager
def held_by_a_subscription(server: EmbeddedPostgres) -> Iterator[str]:
    server.psql("CREATE SUBSCRIPTION s CONNECTION 'host=' PUBLICATION p WITH (connect = false)", database=DATABASE)
    try:
        yield "the subscription s"
    finally:
        server.psql("ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s", database=DATABASE)


@contextlib.contextmanager
def held_by_a_reader(server: EmbeddedPostgres) -> Iterator[str]:
    """A temporary slot is read from for as long as its session lives."""
    with inside(server, "SELECT slot_name FROM pg_create_logical_replication_slot('reads', 'pgoutput', true)"):
        yield "the replication slot reads"


@pytest.mark.parametrize("held", [held_by_a_subscription, held_by_a_reader])
def test_in_place_of_what_the_server_does_not_drop(
    hub: Program, server: EmbeddedPostgres, held: Callable[[EmbeddedPostgres], AbstractContextManager[str]]
) -> None:
    """A database that subscribes, or that somebody replicates from, can't be dropped: that is found out before the
    safety backup, and what holds it is named. Beside it can be restored all the same."""
    file = hub.backup()
    with held(server) as what, unchanged(hub):
        done = hub.run("restore", file.name, "--in-place", "--yes")
        assert done.code == 1, done.said
        assert f"--in-place can't drop the database {DATABASE}: it is held by {what}" in done.err
    assert list(hub.backups.glob("*.sql.gz")) == [file]


def test_in_place_where_the_server_refuses_the_drop(hub: Program, server: EmbeddedPostgres, tmp_path: Path) -> None:
    """What came after all checks: nothing is said to be dropped, the empty new database goes, the live one stays."""
    file = hub.backup()
    unforced = f"""sed -u 's/^\\(DROP DATABASE IF EXISTS "{DATABASE}"\\) WITH (FORCE)/\\1/' | "$real" "$@"\n"""
    path = wrapped(tmp_path, server, ORDERS + unforced)
    with inside(server, "SELECT 'here'"), unchanged(hub):
        done = hub.run("restore", file.name, "--in-place", "--yes", PATH=path)
    assert done.code == 1, done.said
    assert "--in-place has not dropped the live database, since the server refuses that" in done.err
    assert "is being accessed by other users" in done.err
    assert "had been dropped" not in done.said
    assert hub.derived("loaded") == []


def test_in_place_whose_drop_is_not_answered(hub: Program, server: EmbeddedPostgres, tmp_path: Path) -> None:
    """Nobody knows whether the live database is gone: that is said so, and the safety backup is named, which brings
    it back."""
    live = fingerprint(hub.psql, DATABASE)
    file = hub.backup()
    die = f"grep -q 'DROP DATABASE IF EXISTS \"{DATABASE}\"' {tmp_path}/seen.$$ && kill -KILL $$; exit $code"
    path = wrapped(tmp_path, server, ORDERS + f'tee {tmp_path}/seen.$$ | "$real" "$@"; code=$?\n{die}')
    done = hub.run("restore", file.name, "--in-place", "--yes", PATH=path)
    assert done.code == 1, done.said
    assert f"the database {DATABASE} was being dropped, and may be gone (--in-place)" in done.err
    back = done.err.strip().splitlines()[-1].split("safety backup: hubbackup ")[1].split()
    done = hub.run(*back)
    assert done.code == 0, done.said
    assert diff(live, fingerprint(hub.psql, DATABASE)) == []


def test_in_place_finds_out_first(hub: Program) -> None:
    """What can be known beforehand (a locale that is not there) stops it before the safety backup and the drop."""
    file = hub.backup()
    beside = Path(str(file).replace(".sql.gz", ".manifest.json"))
    document = json.loads(beside.read_text())
    document["properties"]["catalog_row"] |= {"datcollate": "xx_XX.UTF-8", "datctype": "xx_XX.UTF-8"}
    beside.write_text(signed_text(hub.backups, document))
    files = set(hub.backups.iterdir())
    with unchanged(hub):
        done = hub.run("restore", "--latest", "--in-place", "--yes")
    assert done.code == 1, done.said
    assert 'invalid LC_COLLATE locale name: "xx_XX.UTF-8"' in done.err
    assert {path for path in hub.backups.iterdir() if path.suffix == ".gz"} <= files
