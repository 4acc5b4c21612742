"""What can be wrong with the input: each is one sentence that names it, a remedy, its exit code, and no harm done."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import proxy as s3_faults
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import Done, Program, beside, for_server, without_tools
from tests.support.proxy import FaultProxy
from tests.support.s3 import S3Server
from tests.support.small_disk import small_disk

CANARY = "canari-7f3a9b1c"
WITHOUT_ROOTS_POWERS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
"""Root that file permissions hold for, as they hold for any other user."""


@pytest.fixture(scope="module")
def database(postgres18: EmbeddedPostgres) -> Iterator[str]:
    """A database whose backup takes some 60 pages of a file system."""
    with postgres18.temporary_database() as name:
        postgres18.psql(
            "CREATE TABLE t AS SELECT md5(i::text) AS noise FROM generate_series(1, 12000) AS i", database=name
        )
        yield name


@pytest.fixture(scope="module")
def role(postgres18: EmbeddedPostgres) -> Iterator[str]:
    """A role whose password is the canary."""
    postgres18.psql(f"CREATE ROLE canari SUPERUSER LOGIN PASSWORD '{CANARY}'")
    yield "canari"
    postgres18.psql("DROP ROLE canari")


@pytest.fixture(scope="module")
def earlier(postgres18: EmbeddedPostgres, database: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a good backup of the database, to be copied."""
    program = for_server(postgres18, database, tmp_path_factory.mktemp("earlier"))
    assert program.run("backup").code == 0
    return program.backups


@pytest.fixture
def program(postgres18: EmbeddedPostgres, database: str, role: str, earlier: Path, tmp_path: Path) -> Program:
    """The program with good settings, canaries for secrets, and an earlier backup in its directory."""
    program = for_server(postgres18, database, tmp_path, POSTGRES_USER=role, POSTGRES_PASSWORD=CANARY)
    shutil.copytree(earlier, program.backups, dirs_exist_ok=True)
    return program


def refused(program: Program, done: Done, code: int, *words: str) -> None:
    """One sentence with `words` and one remedy on stderr, and the earlier backups as they were."""
    assert done.code == code, done.err
    assert CANARY not in done.out + done.err
    assert "Traceback" not in done.err
    assert len(done.sentences) == 2, done.err
    sentence, remedy = done.sentences
    assert sentence.startswith("hubbackup: ")
    assert remedy.startswith("  what to do: ")
    for word in words:
        assert word in done.err


@contextlib.contextmanager
def unharmed(program: Program) -> Iterator[None]:
    """Whatever happens, the backups are byte for byte what they were, and nothing lies beside them."""
    before = program.files()
    assert len(before) >= 2
    yield
    assert program.files() == before


def test_the_settings_of_these_tests_are_good(program: Program) -> None:
    """Without a fault there is a backup, and the password is nowhere in what it says and writes."""
    done = program.run("backup", "--json", LOG_LEVEL="debug")
    assert done.code == 0, done.err
    assert CANARY not in done.out + done.err
    for path in program.backups.rglob("*"):
        assert path.is_dir() or CANARY.encode() not in path.read_bytes()


# -- the database


def test_wrong_password(program: Program) -> None:
    """The role is named, and which settings to check."""
    with unharmed(program):
        done = program.run("backup", POSTGRES_PASSWORD=f"{CANARY}x")
    refused(program, done, 1, "refuses the password of the role canari", "POSTGRES_PASSWORD")
    assert done.event("backup.failed")["stage"] == "prepare"


def test_missing_database(program: Program) -> None:
    """The name that is not there."""
    with unharmed(program):
        refused(program, program.run("backup", POSTGRES_DB="absent"), 1, "the database absent does not exist")


def test_no_server(program: Program) -> None:
    """Nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    with unharmed(program):
        refused(program, program.run("backup", PGPORT=port), 1, "does not accept connections", "PGHOST")


def test_no_tools(program: Program, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With `direct`, PostgreSQL's client tools are needed here."""
    nowhere = without_tools(program, tmp_path_factory.mktemp("empty"))
    with unharmed(program):
        refused(program, nowhere.run("backup"), 1, "psql is not installed here", "client tools")


def test_a_table_that_may_not_be_read(program: Program, postgres18: EmbeddedPostgres, database: str) -> None:
    """A role without the right to read everything makes no backup of a part; the table is named."""
    postgres18.psql("CREATE ROLE lecteur LOGIN PASSWORD 'secret-lecteur'")
    try:
        with unharmed(program):
            done = program.run("backup", POSTGRES_USER="lecteur", POSTGRES_PASSWORD="secret-lecteur")
        refused(program, done, 1, "the role lecteur may not read table t", "pg_read_all_data")
        assert "secret-lecteur" not in done.err
    finally:
        postgres18.psql("DROP ROLE lecteur")


# -- the engine


@pytest.mark.docker
def test_missing_container(program: Program) -> None:
    """The container's name, and where to look for the right one."""
    with unharmed(program):
        done = program.run("backup", BACKUP_SOURCE="docker", DB_CONTAINER="hub-absent")
    refused(program, done, 1, "there is no container named hub-absent", "DB_CONTAINER")


def test_missing_socket(program: Program) -> None:
    """The socket that was looked for, and how to mount it."""
    with unharmed(program):
        done = program.run("backup", BACKUP_SOURCE="docker", DOCKER_HOST="unix:///nonexistent/docker.sock")
    refused(program, done, 1, "/nonexistent/docker.sock does not exist here", "mount it")


@pytest.fixture
def nobody() -> pwd.struct_passwd:
    """Another user to own what we may not touch."""
    if os.geteuid() != 0:
        pytest.skip("giving files away takes root")
    return pwd.getpwnam("nobody")


def test_no_permission_on_the_socket(program: Program, nobody: pwd.struct_passwd, tmp_path: Path) -> None:
    """The group that the socket belongs to, and how to get into it."""
    with socket.socket(socket.AF_UNIX) as listener:
        path = tmp_path / "s"
        listener.bind(str(path))
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
        path.chmod(0o600)
        with unharmed(program):
            done = replace(program, before=WITHOUT_ROOTS_POWERS).run(
                "backup", BACKUP_SOURCE="docker", DOCKER_HOST=f"unix://{path}"
            )
    refused(program, done, 1, f"no permission on the Docker socket {path}", f"group_add: ['{nobody.pw_gid}']")


# -- the directory


def test_unwritable_directory(program: Program, nobody: pwd.struct_passwd) -> None:
    """A directory of somebody else: who must be let in is named."""
    os.chown(program.backups, nobody.pw_uid, nobody.pw_gid)
    program.backups.chmod(0o755)
    with unharmed(program):
        done = replace(program, before=WITHOUT_ROOTS_POWERS).run("backup")
    refused(program, done, 1, f"{program.backups} does not let", "Permission denied", "chown")


def test_directory_that_can_not_be_entered(program: Program, nobody: pwd.struct_passwd) -> None:
    """Nor can the directory above it: each command says so, and the settings are shown all the same."""
    above = program.directory / "above"
    inside = above / "backups"
    inside.mkdir(parents=True)
    os.chown(above, nobody.pw_uid, nobody.pw_gid)
    above.chmod(0o700)
    locked = replace(program, before=WITHOUT_ROOTS_POWERS, settings={**program.settings, "BACKUP_DIR": str(inside)})
    for words in (["backup"], ["list"], ["restore", str(inside / "x.sql.gz"), "--yes"], ["show", str(above / "x/y")]):
        refused(locked, locked.run(*words), 1, f"{above}", "Permission denied", "chown")
    assert locked.run("config").code == 0
    found = {one["name"]: one for one in locked.run("doctor", "--json").document["findings"]}
    assert found["directory"]["status"] == "fail"
    assert found["directory"]["sentence"].endswith(": Permission denied")
    assert "broke" not in found["directory"]["sentence"]


def test_missing_directory(program: Program) -> None:
    """The directory that is not there, and that it is to be mounted; it is not made in the container."""
    absent = program.directory / "absent"
    refused(
        program, program.run("backup", BACKUP_DIR=str(absent)), 1, f"the directory {absent} does not exist", "mount"
    )
    assert not absent.exists()


def test_a_file_in_place_of_the_directory(program: Program) -> None:
    """A BACKUP_DIR that is a file."""
    file = program.directory / "file"
    file.write_text("x")
    refused(program, program.run("backup", BACKUP_DIR=str(file)), 1, str(file))
    assert file.read_text() == "x"


def test_full_disk(program: Program, earlier: Path, tmp_path: Path) -> None:
    """At every size that is too small, down to room for the file and not for its manifest: exit 1 with the free
    bytes, the earlier backup whole, and nothing of the new one. With a page more there is a backup."""
    name = next(name for name in program.files() if name.endswith(".sql.gz"))
    pages = {part: -(-len(data) // 4096) for part, data in program.files().items()}
    with small_disk(tmp_path / "small", "4m") as disk:
        small = replace(program, settings={**program.settings, "BACKUP_DIR": str(disk.directory)})
        shutil.copytree(earlier, disk.directory, dirs_exist_ok=True)
        codes = []
        # Two pages are for the lock and the record of the run.
        whole = pages[name] + pages[beside(name)] + 2
        for free in (0, 1, whole // 2, pages[name], whole - 3, whole - 2, whole - 1, whole + 1):
            disk.leave(free * 4096)
            before = small.files()
            done = small.run("backup")
            codes.append(done.code)
            if done.code == 0:
                break
            refused(small, done, 1, "no space left", "bytes are free", "BACKUP_RETENTION_DAYS")
            assert small.files() == before
        assert codes[:4] == [1] * 4
        assert codes[-1] == 0


# -- S3


def with_s3(program: Program, s3: S3Server, bucket: str, endpoint_url: str = "") -> Program:
    settings = {
        "S3_BACKUP_BUCKET": bucket,
        "S3_ENDPOINT_URL": endpoint_url or s3.endpoint_url,
        "AWS_ACCESS_KEY_ID": s3.access_key_id,
        "AWS_SECRET_ACCESS_KEY": CANARY,
    }
    return replace(program, settings={**program.settings, **settings})


def degraded(program: Program, *words: str) -> None:
    """A good local copy, exit 3, the reason on stderr; the earlier backups are untouched."""
    before = program.files()
    done = program.run("backup", "--json")
    assert done.code == done.document["exit_code"] == 3, done.err
    assert CANARY not in done.out + done.err
    assert "Traceback" not in done.err
    assert done.document["copies"] == ["local"]
    problems = " ".join(done.document["problems"]) + done.event("upload.failed")["remedy"]
    for word in words:
        assert word in problems
    name = done.document["name"]
    after = program.files()
    assert before.items() <= after.items()
    assert after.keys() - before.keys() == {name, beside(name)}


def test_a_backup_directory_that_is_a_file(program: Program, s3: S3Server, tmp_path: Path) -> None:
    """It is said what it is, and is left alone; with S3 the copy there is made all the same."""
    file = tmp_path / "file"
    file.write_text("not yours")
    for words in (("backup",), ("list",), ("verify", "--all"), ("prune",)):
        done = program.run(*words, BACKUP_DIR=str(file))
        assert done.code == 1, done.said
        assert f"{file} is a file, and no directory for backups" in done.err
    done = program.run("backup", "--json", BACKUP_DIR=str(file), **s3.settings(s3.bucket()))
    assert (done.code, done.document["copies"]) == (3, ["s3"]), done.said
    assert "is a file" in " ".join(done.document["problems"])
    assert file.read_text() == "not yours"


def test_missing_bucket(program: Program, s3: S3Server) -> None:
    """The bucket that is not there."""
    degraded(with_s3(program, s3, "no-such-bucket"), "there is no bucket no-such-bucket", "S3_BACKUP_BUCKET")


def test_wrong_s3_key(program: Program, s3: S3Server) -> None:
    """What the server said, and which settings to check, without an endless retry."""
    with FaultProxy(s3.endpoint_url) as proxy:
        proxy.fault(s3_faults.answer(403, "InvalidAccessKeyId"))
        degraded(with_s3(program, s3, "bucket", proxy.url), "InvalidAccessKeyId", "AWS_ACCESS_KEY_ID")
        assert len(proxy.seen) < 20


# -- the settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"BACKUP_RETENTION_DAYS": "sept"}, ["BACKUP_RETENTION_DAYS=sept"]),
        ({"BACKUP_RETENTION_DAYS": "-1"}, ["BACKUP_RETENTION_DAYS=-1"]),
        ({"BACKUP_SCHEDULE": "0 3 * *"}, ["BACKUP_SCHEDULE=0 3 * *", "4 fields"]),
        ({"POSTGRES_DB": ""}, ["POSTGRES_DB is not set"]),
        ({"POSTGRES_PASSWORD_FILE": "/nonexistent"}, ["POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE are both set"]),
        (
            {"AWS_SECRET_ACCESS_KEY_FILE": "/nonexistent"},
            ["AWS_SECRET_ACCESS_KEY_FILE: /nonexistent", "No such file"],
        ),
        ({"AWS_SECRET_ACCESS_KEY": CANARY}, ["AWS_ACCESS_KEY_ID"]),
        ({"DOCKER_HOST": "ssh://db", "BACKUP_SOURCE": "docker"}, ["DOCKER_HOST=ssh://db"]),
    ],
)
def test_bad_settings(program: Program, settings: dict[str, str], words: list[str]) -> None:
    """Exit 2 before anything is done: the variable is named, a secret is not shown."""
    with unharmed(program):
        refused(program, program.run("backup", **settings), 2, *words)


def test_a_misspelt_setting_is_a_warning(program: Program) -> None:
    """A name that is nearly ours is told with the one that was meant, and the backup is made."""
    done = program.run("backup", BACKUP_RETENTION_DAY="30")
    assert done.code == 0
    assert "did you mean BACKUP_RETENTION_DAYS?" in done.event("settings.warning")["message"]
    shown = program.run("config", BACKUP_RETENTION_DAY="30")
    assert "did you mean BACKUP_RETENTION_DAYS?" in shown.err
