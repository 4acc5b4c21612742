"""The backups as files, and as what people type for them: newest first, their owner's, by path and by address."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import Program, beside, for_server
from tests.support.s3 import S3Server


@pytest.fixture(scope="module")
def database(postgres18: EmbeddedPostgres) -> Iterator[str]:
    with postgres18.temporary_database() as name:
        postgres18.psql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i", database=name)
        yield name


@pytest.fixture
def program(postgres18: EmbeddedPostgres, database: str, tmp_path: Path) -> Program:
    return for_server(postgres18, database, tmp_path)


def newest(program: Program) -> str:
    """What the guide's `ls -lt … | head -2` shows below the total."""
    command = f"ls -lt {program.backups}/ | head -2"
    out = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    return out.splitlines()[1].split()[-1]


def test_the_backup_is_the_newest_file(program: Program) -> None:
    """Not its manifest, and not the mark of an older one: after each backup, and after a pin."""
    first = program.backup().name
    assert newest(program) == first
    second = program.backup().name
    assert newest(program) == second
    for name in (first, second):
        assert program.run("pin", name).code == 0
        assert newest(program) == second


def test_the_group_can_read_where_it_is_let_in(program: Program) -> None:
    """BACKUP_FILE_MODE=0640: backup, manifest and mark have it, the lock and the history never."""
    name = program.backup(BACKUP_FILE_MODE="0640").name
    assert program.run("pin", name, BACKUP_FILE_MODE="0640").code == 0
    modes = {path.name: path.stat().st_mode & 0o777 for path in program.backups.iterdir()}
    state = modes.pop(".hubbackup")
    assert (set(modes.values()), len(modes), state) == ({0o640}, 3, 0o700)


def test_the_doctor_says_who_can_read(program: Program) -> None:
    """By user and group id; it warns where files of others lie there, and where the directory keeps the group out."""

    def said(**settings: str) -> tuple[str, str]:
        found = program.run("doctor", "--json", **settings).document["findings"]
        return next((one["status"], one["sentence"]) for one in found if one["name"] == "readers")

    program.backups.chmod(0o700)
    assert said() == ("ok", f"backups can be read by user id {os.geteuid()} and root alone (mode 0600)")
    assert said(BACKUP_FILE_MODE="0640")[0] == "warn"
    program.backups.chmod(0o755)
    assert said(BACKUP_FILE_MODE="0640")[0] == "ok"
    assert said(BACKUP_FILE_MODE="0644")[0] == "warn"
    older = program.backup()
    assert "1 files that were there before have another mode" not in said()[1]
    assert "2 files that were there before have another mode" in said(BACKUP_FILE_MODE="0640")[1]
    os.chown(older, 1234, 1234)
    status, sentence = said()
    assert (status, "1 files" in sentence, "belong to user id 1234" in sentence) == ("warn", True, True)


def test_a_backup_is_known_by_each_of_its_names(program: Program, s3: S3Server) -> None:
    """`verify`, `pin` and `unpin` take name, path, manifest and the address in S3; the bucket may be typed with s3://."""
    bucket = s3.bucket()
    program = program.but(**s3.settings(bucket)).but(S3_BACKUP_BUCKET=f"s3://{bucket}")
    path = program.backup()
    manifest = beside(path.name)
    for typed in (path.name, str(path), manifest, f"{path.parent}/{manifest}", f"backups/{path.name}"):
        assert program.run("verify", typed).out.count(f"ok        {path.name}") == 2, typed
    for command in ("pin", "unpin"):
        done = program.run(command, f"s3://{bucket}/backups/{path.name}", "--json")
        assert done.document["stores"] == ["local", "s3"]
    refused = program.run("pin", f"s3://other/backups/{path.name}")
    assert refused.code == 2
    assert f"what to do: give the name alone: {path.name}" in refused.err


@pytest.mark.parametrize("way", ["manifest", "--from-s3 key", "--from-s3 manifest", "s3 address"])
def test_a_restore_takes_what_is_copied_from_a_listing(program: Program, s3: S3Server, way: str) -> None:
    """From `ls -lt`, where the manifest of old backups comes first, and from `aws s3 ls`."""
    bucket = s3.bucket()
    program = program.but(**s3.settings(bucket))
    path = program.backup()
    typed = {
        "manifest": [f"{path.parent}/{beside(path.name)}"],
        "--from-s3 key": ["--from-s3", f"backups/{path.name}"],
        "--from-s3 manifest": ["--from-s3", f"backups/{beside(path.name)}"],
        "s3 address": [f"s3://{bucket}/backups/{path.name}"],
    }[way]
    if way != "manifest":
        path.unlink()
    into = f"{program.database}_again"
    try:
        done = program.run("restore", *typed, "--into", into, "--yes", "--json")
        assert done.code == 0, done.said
        assert (done.document["name"], done.document["proven"]) == (path.name, True)
    finally:
        program.drop(into)


def test_a_path_of_the_host_is_answered_with_what_to_type(program: Program) -> None:
    """The container knows no /srv/backups: the remedy is the name alone, not to make a directory there."""
    path = program.backup()
    done = program.run("restore", f"/srv/backups/{path.name}", "--yes")
    assert done.code == 1
    assert "the directory /srv/backups does not exist" in done.err
    assert "is named by its name alone" in done.err


@pytest.mark.parametrize(("mode", "ids"), [("0600", (1001, 1001)), ("0640", (1002, 1001))])
def test_deploy_reads_and_cleans_up_as_in_the_guide(program: Program, mode: str, ids: tuple[int, int]) -> None:
    """The directory's owner can do all that the guide does by hand; its group can read, where the mode lets it."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        backups = Path(directory) / "hub-chantier"
        backups.mkdir(mode=0o750)
        os.chown(backups, 1001, 1001)
        path = program.but(BACKUP_DIR=str(backups), BACKUP_FILE_MODE=mode).backup()
        for found in backups.rglob("*"):
            os.chown(found, 1001, 1001)  # as the container does, which runs as the directory's owner
        become = ["setpriv", f"--reuid={ids[0]}", f"--regid={ids[1]}", "--clear-groups", "sh", "-ec"]
        subprocess.run([*become, f"gunzip -t {path} && gunzip -c {path} | head -100 >/dev/null"], check=True)
        if ids[0] == 1001:
            assert subprocess.run([*become, f"du -sh {backups}"], check=True, capture_output=True).stderr == b""
            find = f"find {backups} -name '*_backup_*.sql.gz' -mtime -3 -delete"
            subprocess.run([*become, find], check=True)
            assert not path.exists()
