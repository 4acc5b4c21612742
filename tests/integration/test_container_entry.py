"""docker/backup-cron/hubbackup, as the image starts it: as whom the program runs, and what it may read."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.program import ROOT

pytestmark = pytest.mark.docker

Start = Callable[..., list[str]]
IMAGE = "python:3.13-slim"
STAND_IN = """#!/bin/sh
echo "ids $(id -u) $(id -g)"
echo "parent $PPID $HUBBACKUP_IN_CONTAINER"
for name in BACKUP_ENV_FILE POSTGRES_PASSWORD_FILE; do
    eval "path=\\${$name:-}"
    [ -z "$path" ] || echo "$name $(cat "$path")"
done
find "${HUBBACKUP_COPIES_DIR:-/nowhere}" -type f 2>/dev/null | while read -r file; do
    echo "copy ${file#"$HUBBACKUP_COPIES_DIR"} $(cat "$file")"
done
touch "$HUBBACKUP_RUNTIME_DIR/mine" && ! touch "$HUBBACKUP_COPIES_DIR/mine" 2>/dev/null && echo "apart"
"""


@pytest.fixture
def start(docker_engine: str, tmp_path: Path) -> Start:
    """Runs the entry in a container, with a stand-in that tells what the program would see."""
    (tmp_path / "program").write_text(STAND_IN)
    (tmp_path / "program").chmod(0o755)
    (tmp_path / "config").mkdir()
    (tmp_path / "backups").mkdir()

    def run(*options: str, command: tuple[str, ...] = ("hubbackup",)) -> list[str]:
        mounts = {
            ROOT / "docker/backup-cron/hubbackup": "/usr/local/bin/hubbackup",
            tmp_path / "program": "/opt/venv/bin/hubbackup",
            tmp_path / "config": "/config",
            tmp_path / "backups": "/var/backups/hub-chantier",
        }
        volumes = [word for here, there in mounts.items() for word in ("-v", f"{here}:{there}")]
        runtime = ("-e", "HUBBACKUP_RUNTIME_DIR=/run/hubbackup")
        argv = [
            "docker",
            "run",
            "--rm",
            *volumes,
            *runtime,
            *options,
            "--entrypoint",
            command[0],
            IMAGE,
            *command[1:],
        ]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


@pytest.mark.parametrize(
    ("owner", "ids"),
    [((0, 0), "ids 10001 10001"), ((0, 1002), "ids 10001 1002"), ((1001, 1002), "ids 1001 1002")],
)
def test_it_runs_as_the_directorys_owner_and_group(
    start: Start, tmp_path: Path, owner: tuple[int, int], ids: str
) -> None:
    """Files belong to whom the directory belongs to, user and group; never to root."""
    os.chown(tmp_path / "backups", *owner)
    assert start()[0] == ids
    figures = (tmp_path / "backups").stat()
    assert f"ids {figures.st_uid} {figures.st_gid}" == ids


@pytest.mark.parametrize("spelling", ["{}", "'{}'", '"{}"  ', "{} # the database's"])
def test_a_secret_named_inside_a_private_settings_file_is_handed_on(
    start: Start, tmp_path: Path, spelling: str
) -> None:
    """`.env.production` and the password's file are root's with 0600, as they should be: the program reads both."""
    password, settings = tmp_path / "config" / "db password", tmp_path / "config" / ".env.production"
    password.write_text("hunter2")
    settings.write_text(f"POSTGRES_DB=hub\nexport POSTGRES_PASSWORD_FILE={spelling.format('/config/db password')}\n")
    for file in (password, settings):
        file.chmod(0o600)
    lines = start("-e", "BACKUP_ENV_FILE=/config/.env.production")
    assert "BACKUP_ENV_FILE POSTGRES_DB=hub" in lines
    assert "copy /config/db password hunter2" in lines
    assert lines[-1] == "apart"  # root follows no link that the program's user could have made


def test_a_secret_of_the_environment_is_handed_on(start: Start, tmp_path: Path) -> None:
    """`POSTGRES_PASSWORD_FILE` in the container's environment, as docker secrets have it."""
    password = tmp_path / "config" / "password"
    password.write_text("hunter2")
    password.chmod(0o600)
    assert "POSTGRES_PASSWORD_FILE hunter2" in start("-e", "POSTGRES_PASSWORD_FILE=/config/password")


def test_a_command_from_the_host_is_told_from_one_of_a_shell_in_the_container(start: Start) -> None:
    """`docker exec` gives a process no parent, so its remedies are the host's; config/reader.py relies on it."""
    assert "parent 0 yes" in start()
    (line,) = [line for line in start(command=("sh", "-c", "hubbackup; true")) if line.startswith("parent ")]
    assert line != "parent 0 yes"
