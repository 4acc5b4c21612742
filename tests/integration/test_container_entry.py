"""docker/backup-cron/hubbackup, as the image starts it: as whom the program runs, and what it may read."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hubbackup.config.settings import Settings, is_secret
from tests.support.program import ROOT

pytestmark = pytest.mark.docker

Start = Callable[..., list[str]]
IMAGE = "python:3.13-slim"
STAND_IN = """#!/bin/sh
echo "ids $(id -u) $(id -g)"
echo "parent $PPID $HUBBACKUP_IN_CONTAINER"
for name in BACKUP_ENV_FILE POSTGRES_PASSWORD_FILE BACKUP_IDENTITY_FILE PGSSLKEY PGPASSFILE; do
    eval "path=\\${$name:-}"
    [ -z "$path" ] || echo "$name $(cat "$path")"
done
echo "log ${LOG_FILE:-}"
sleep "${HOLD:-0}"
find "${HUBBACKUP_COPIES_DIR:-/nowhere}" -type f 2>/dev/null | while read -r file; do
    echo "copy ${file#"$HUBBACKUP_COPIES_DIR"} $(cat "$file")"
done
touch "$HUBBACKUP_RUNTIME_DIR/mine" && ! touch "$HUBBACKUP_COPIES_DIR/mine" 2>/dev/null && echo "apart"
"""


def docker(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *words], capture_output=True, text=True, timeout=60)


def container_of(directory: Path) -> list[str]:
    """The options that make the image's own container, as compose does."""
    mounts = {
        ROOT / "docker/backup-cron/hubbackup": "/usr/local/bin/hubbackup",
        directory / "program": "/opt/venv/bin/hubbackup",
        directory / "config": "/config",
        directory / "backups": "/var/backups/hub-chantier",
    }
    volumes = [word for here, there in mounts.items() for word in ("-v", f"{here}:{there}")]
    return [*volumes, "-e", "HUBBACKUP_RUNTIME_DIR=/run/hubbackup"]


@pytest.fixture
def start(docker_engine: str, tmp_path: Path) -> Start:
    """Runs the entry in a container, with a stand-in that tells what the program would see."""
    (tmp_path / "program").write_text(STAND_IN)
    (tmp_path / "program").chmod(0o755)
    (tmp_path / "config").mkdir()
    (tmp_path / "backups").mkdir()

    def run(*options: str, command: tuple[str, ...] = ("hubbackup",)) -> list[str]:
        words = ("--entrypoint", command[0], IMAGE, *command[1:])
        done = docker("run", "--rm", *container_of(tmp_path), *options, *words)
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


def test_a_private_key_of_root_is_handed_on(start: Start, tmp_path: Path) -> None:
    """BACKUP_IDENTITY_FILE, PGSSLKEY and PGPASSFILE, in the container's environment or in the settings file."""
    config = tmp_path / "config"
    named = {"BACKUP_IDENTITY_FILE": "AGE-SECRET-KEY-1", "PGSSLKEY": "key of TLS", "PGPASSFILE": "*:*:*:hub:x"}
    for name, text in named.items():
        (config / name).write_text(text)
    (config / ".env.production").write_text("".join(f"{name}=/config/{name}\n" for name in named))
    for file in config.iterdir():
        file.chmod(0o600)
    lines = start(*(word for name in named for word in ("-e", f"{name}=/config/{name}")))
    assert {f"{name} {text}" for name, text in named.items()} <= set(lines)
    lines = start("-e", "BACKUP_ENV_FILE=/config/.env.production")
    assert {f"copy /config/{name} {text}" for name, text in named.items()} <= set(lines)


def test_a_command_from_the_host_is_told_from_one_of_a_shell_in_the_container(start: Start) -> None:
    """`docker exec` gives a process no parent, so its remedies are the host's; config/reader.py relies on it."""
    assert "parent 0 yes" in start()
    (line,) = [line for line in start(command=("sh", "-c", "hubbackup; true")) if line.startswith("parent ")]
    assert line != "parent 0 yes"


def test_the_entry_knows_every_secret() -> None:
    """Each that can come from a file can be a file that only root may read."""
    words = (ROOT / "docker/backup-cron/hubbackup").read_text().replace('"', " ").split()
    assert [
        name for name in map(str.upper, Settings.model_fields) if is_secret(name) and f"{name}_FILE" not in words
    ] == []


def test_the_log_is_beside_the_hosts_own(start: Start, tmp_path: Path) -> None:
    """The guide's /var/log is root's: the log is made there, the program's to write and everybody's to read. Where it
    can't be made there is none; and what was there already stays whose it was."""
    logs = tmp_path / "log"
    logs.mkdir()
    options = ("-e", "LOG_FILE=/var/log/hub-chantier-backup.log", "-v", f"{logs}:/var/log")
    assert "log /var/log/hub-chantier-backup.log" in start(*options)
    for file in ("hub-chantier-backup.log", "hub-chantier-backup.log.1"):
        figures = (logs / file).stat()
        assert (figures.st_uid, figures.st_mode & 0o777) == (10001, 0o644)
        (logs / file).unlink()
    assert "log " in start(*options[:-1], f"{logs}:/var/log:ro")
    (logs / "hub-chantier-backup.log").symlink_to("/etc/passwd")
    start(*options)
    assert (logs / "hub-chantier-backup.log").is_symlink()


def test_it_needs_no_root_at_all(start: Start) -> None:
    """Started as another user from the beginning (`user:` in compose) it stays that user, with a place to write."""
    lines = start("--user=1000:1000")
    assert (lines[0], lines[-1]) == ("ids 1000 1000", "apart")


class Running:
    """A container in which `docker exec` starts the entry again and again."""

    def __init__(self, name: str) -> None:
        self.name = name

    def hubbackup(self, *words: str, **environ: str) -> list[str]:
        """As root, as `docker compose exec` and HEALTHCHECK start it."""
        options = [word for name, value in environ.items() for word in ("-e", f"{name}={value}")]
        done = docker("exec", *options, self.name, "hubbackup", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def sh(self, script: str, user: str = "0") -> str:
        done = docker("exec", "--user", user, self.name, "sh", "-c", script)
        return done.stdout + done.stderr


@pytest.fixture
def running(start: Start, tmp_path: Path) -> Iterator[Running]:
    """It has a settings file that only root may read, and has been used once."""
    settings = tmp_path / "config" / ".env.production"
    settings.write_text("POSTGRES_DB=first")
    settings.chmod(0o600)
    name = f"hub-test-{secrets.token_hex(6)}"
    environ = ("-e", "BACKUP_ENV_FILE=/config/.env.production", "-e", "HUBBACKUP_COPY_SECONDS=0.1")
    docker("run", "--detach", "--init", "--name", name, *container_of(tmp_path), *environ, IMAGE, "sleep", "600")
    try:
        found = Running(name)
        assert "BACKUP_ENV_FILE POSTGRES_DB=first" in found.hubbackup("config")
        yield found
    finally:
        docker("rm", "--force", "--volumes", name)


ATTACK = """
cd /run/hubbackup && rm -rf ./*
for name in BACKUP_ENV_FILE POSTGRES_PASSWORD_FILE config .copies; do ln -s /etc "$name"; done
ln -sfn /etc /run/hubbackup.copies; ln -sfn /etc /run/hubbackup.copies/config; ln -sfn /etc /run/hubbackup
rm -rf /run/hubbackup.copies/config; mv /run/hubbackup /run/mine
cd /var/backups/hub-chantier && ln -s /etc below && ln -s /etc/shadow password && mkdir real && ln -s / real/up
"""


def test_no_link_of_the_users_leads_root_astray(running: Running) -> None:
    """Whatever the user that hubbackup runs as puts in its way: root changes nothing else, and hands nothing on."""
    running.sh(ATTACK, user="10001")
    said: list[str] = []
    mine = "/var/backups/hub-chantier"
    for word in ("health", "config", "daemon"):
        said += running.hubbackup(word)
        for directory in (f"{mine}/below", f"{mine}/real/up/etc"):
            said += running.hubbackup(word, BACKUP_DIR=directory)
        for password in (f"{mine}/password", f"{mine}/below/shadow", f"{mine}/real/up/etc/shadow"):
            script = f"BACKUP_DIR={mine} POSTGRES_PASSWORD_FILE={password} hubbackup {word}"
            said.append(running.sh(script))
    assert "ids 0" not in "\n".join(said)
    assert "root:" not in "\n".join(said)
    assert running.sh("stat -c '%u %a' /etc /etc/passwd /etc/shadow /run /").split("\n")[:5] == [
        "0 755",
        "0 644",
        "0 640",
        "0 755",
        "0 755",
    ]
    changed = docker("diff", running.name).stdout.splitlines()
    assert [line for line in changed if line[2:].startswith("/etc")] == []
    assert "BACKUP_ENV_FILE POSTGRES_DB=first" in running.hubbackup("config")


def test_the_health_check_does_nothing_as_root(running: Running, tmp_path: Path) -> None:
    """It copies nothing, so it can be led nowhere; any other command takes the edited file up."""
    settings = tmp_path / "config" / ".env.production"
    settings.write_text("POSTGRES_DB=second")
    assert running.hubbackup("health")[0] == "ids 10001 10001"
    copy = "/run/hubbackup.copies/config/.env.production"
    assert running.sh(f"cat {copy}") == "POSTGRES_DB=first"
    running.hubbackup("config")
    assert running.sh(f"cat {copy}") == "POSTGRES_DB=second"


def test_commands_of_the_same_moment_do_not_hinder_each_other(running: Running) -> None:
    """The daemon's start and somebody's `docker compose exec`: each hands on the same files, and all of them run."""
    started = 'for i in $(seq 30); do hubbackup config > /dev/null 2>&1 & pids="$pids $!"; done'
    ended = 'for pid in $pids; do wait "$pid" && echo well; done'
    assert running.sh(f"pids=; {started}; {ended}").split() == ["well"] * 30
    assert running.sh("ls -A /run/hubbackup.copies/config").split() == [".env.production"]


COPIES = "/run/hubbackup.copies/config"


def edit(path: Path, text: str, mode: int = 0o600) -> None:
    """As an editor does, which replaces the file."""
    fresh = path.with_name("new")
    fresh.write_text(text)
    fresh.chmod(mode)
    fresh.replace(path)


def copied(container: Running, name: str, text: str) -> None:
    """The copy of that file becomes this text."""
    deadline = time.monotonic() + 30
    while container.sh(f"cat {COPIES}/{name}") != text:
        assert time.monotonic() < deadline, container.sh(f"ls -lR {COPIES}")
        time.sleep(0.05)
    assert container.sh(f"stat -c '%u %a' {COPIES}/{name}").strip() == "10001 400"


def test_the_daemon_sees_an_edit_of_what_only_root_may_read(running: Running, tmp_path: Path) -> None:
    """Its copy follows, also where an editor replaces the file; and stays whole while the file is away."""
    docker("exec", "--detach", "--env", "HOLD=30", running.name, "hubbackup", "daemon")
    edit(tmp_path / "config" / ".env.production", "POSTGRES_DB=third")
    copied(running, ".env.production", "POSTGRES_DB=third")


def test_the_daemon_sees_what_becomes_roots_alone_later(running: Running, tmp_path: Path) -> None:
    """The settings file, and a secret that an edit is the first to name: each edit from then on, and also those of
    what anybody may read again. What the user could read all along is not copied."""
    config = tmp_path / "config"
    settings = config / ".env.production"
    running.sh(f"rm -r {COPIES}")
    edit(settings, "POSTGRES_DB=open", 0o644)
    docker("exec", "--detach", "--env", "HOLD=60", running.name, "hubbackup", "daemon")
    edit(config / "password", "hunter2")
    edit(config / "key", "in the open", 0o644)
    settings.chmod(0o600)
    copied(running, ".env.production", "POSTGRES_DB=open")
    named = (
        "POSTGRES_PASSWORD_FILE=/config/old\nPGSSLKEY=/config/key\nexport POSTGRES_PASSWORD_FILE='/config/password'"
    )
    edit(settings, named)
    copied(running, ".env.production", named)
    copied(running, "password", "hunter2")
    edit(config / "password", "hunter3")
    copied(running, "password", "hunter3")
    edit(settings, "POSTGRES_PASSWORD_FILE=/config/password", 0o644)
    copied(running, ".env.production", "POSTGRES_PASSWORD_FILE=/config/password")
    assert running.sh(f"ls -A {COPIES}").split() == [".env.production", "password"]
