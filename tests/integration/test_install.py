"""Beside any application: scripts/install.sh, the compose file from each side, and the scripts that stand in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROD = "services:\n  db:\n    image: postgres:17\n"
INCLUDE = "include: [hubbackup/docker-compose.backup.yml]"
LINKS = ("backup.sh", "check-backup-alert.sh", "hubbackup", "restore.sh")


class Application:
    """A directory as an application's operator has it, with a Dockerfile of its own and hubbackup cloned into it."""

    def __init__(self, directory: Path, compose: str = PROD) -> None:
        self.directory = directory
        clone = directory / "hubbackup"
        clone.mkdir(parents=True)
        for name in ("docker-compose.backup.yml", ".env", "Dockerfile", ".dockerignore", "README.md"):
            shutil.copy(ROOT / name, clone)
        shutil.copytree(ROOT / "scripts", clone / "scripts")
        for name in ("Dockerfile", ".dockerignore", "README.md"):
            (directory / name).write_text("the application's own\n")
        self.compose_file = directory / "docker-compose.prod.yml"
        self.compose_file.write_text(compose)

    def __call__(self, *argv: str, code: int = 0, **environ: str) -> str:
        """Run a command in the directory; what it prints. Fails where the exit code is another."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("COMPOSE_", "BACKUP_"))}
        done = subprocess.run(
            argv, cwd=self.directory, env={**env, **environ}, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def install(self, *options: str, code: int = 0) -> str:
        return self("./hubbackup/scripts/install.sh", *options, code=code)

    def files(self) -> dict[str, str]:
        """Each path outside the clone, and what is in it or where it leads."""
        found = {}
        for path in sorted(self.directory.rglob("*")):
            name = str(path.relative_to(self.directory))
            if not name.startswith("hubbackup") and not path.is_dir():
                found[name] = str(path.readlink()) if path.is_symlink() else path.read_text()
        return found

    def service(self, *files: str) -> dict[str, Any]:
        """The backup service as docker compose understands these files."""
        options = [option for file in files for option in ("-f", file)]
        shown = self("docker", "compose", *options, "--profile", "backup", "config", "--format", "json")
        found: dict[str, Any] = json.loads(shown)["services"]["backup-cron"]
        return found


@pytest.fixture
def application(tmp_path: Path) -> Application:
    return Application(tmp_path / "hub-chantier")


def mounts(service: dict[str, Any]) -> dict[str, str]:
    return {volume["target"]: volume["source"] for volume in service["volumes"]}


def test_install_links_the_commands_and_includes_the_service(application: Application) -> None:
    """The guide's commands are there, the compose file has one line more, and nothing else was written."""
    before = application.files()
    said = application.install()
    added = {f"scripts/{name}": f"../hubbackup/scripts/{name}" for name in LINKS}
    after = application.files()
    assert after.keys() - before.keys() == added.keys()
    assert {name: after[name] for name in added} == added
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"docker-compose.prod.yml"}
    first, _, rest = after["docker-compose.prod.yml"].partition("\n")
    assert first.startswith(INCLUDE)
    assert rest == PROD
    assert "docker compose -f docker-compose.prod.yml --profile backup up -d backup-cron" in said


def test_install_twice_changes_nothing_and_remove_undoes_it(application: Application) -> None:
    """A second time it finds everything in place; `--remove` leaves the directory as it was before the first."""
    before = application.files()
    application.install()
    once = application.files()
    assert "already" in application.install()
    assert application.files() == once
    application.install("--remove")
    assert application.files() == before
    assert not (application.directory / "scripts").exists()


def test_a_dry_run_writes_nothing(application: Application) -> None:
    """`--dry-run` says each thing that would be done, and does none."""
    before = application.files()
    said = application.install("--dry-run")
    assert application.files() == before
    for name in LINKS:
        assert f"would link scripts/{name}" in said
    assert f"would add to the top of docker-compose.prod.yml: {INCLUDE}" in said
    application.install()
    installed = application.files()
    application.install("--remove", "--dry-run")
    assert application.files() == installed


def test_what_is_there_already_is_left_alone(application: Application) -> None:
    """A script of the application's own keeps its name, an include list of its own is not edited; both are said."""
    scripts = application.directory / "scripts"
    scripts.mkdir()
    (scripts / "backup.sh").write_text("the application's own\n")
    listed = "include:\n  - other.yml\n" + PROD
    application.compose_file.write_text(listed)
    said = application.install(code=1)
    assert (scripts / "backup.sh").read_text() == "the application's own\n"
    assert (scripts / "restore.sh").is_symlink()
    assert application.compose_file.read_text() == listed
    assert "scripts/backup.sh is there already" in said
    assert "- hubbackup/docker-compose.backup.yml" in said
    application.install("--remove")
    assert (scripts / "backup.sh").read_text() == "the application's own\n"


def test_a_document_start_stays_the_first_line(application: Application) -> None:
    """Behind `---` the include belongs to the application's document; before it, it would be one of its own."""
    application.compose_file.write_text("---\n" + PROD)
    application.install()
    first, second, rest = application.compose_file.read_text().split("\n", 2)
    assert first == "---"
    assert second.startswith(INCLUDE)
    assert rest == PROD


@pytest.mark.parametrize(
    ("words", "where", "sentence"),
    [
        (["--force"], ".", "--force is not an option"),
        ([], "hubbackup", "run it in the application's directory"),
    ],
)
def test_install_refuses_in_one_sentence(
    application: Application, words: list[str], where: str, sentence: str
) -> None:
    """A wrong option, or the wrong directory: exit 2, what to type instead, nothing written."""
    before = application.files()
    script = application.directory / "hubbackup" / "scripts" / "install.sh"
    done = subprocess.run(
        [script, *words], cwd=application.directory / where, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "what to do: " in done.stderr
    assert application.files() == before


@pytest.mark.docker
def test_both_ways_of_naming_the_files_give_the_same_service(application: Application) -> None:
    """With `include`, short or long, and with two `-f`: hubbackup's own Dockerfile, the application's settings."""
    two = application.service("docker-compose.prod.yml", "hubbackup/docker-compose.backup.yml")
    clone, own = str(application.directory / "hubbackup"), str(application.directory)
    assert two["build"]["context"] == clone
    assert mounts(two)["/config"] == own
    assert two["container_name"] == "hub-chantier-backup"
    assert mounts(two)["/var/backups/hub-chantier"] == "/var/backups/hub-chantier"
    application.install()
    assert application.service("docker-compose.prod.yml") == two
    long = "include:\n  - path: hubbackup/docker-compose.backup.yml\n    project_directory: .\n"
    application.compose_file.write_text(long + PROD)
    assert application.service("docker-compose.prod.yml") == two


@pytest.mark.docker
@pytest.mark.parametrize("included", [True, False])
def test_a_second_project_on_the_host(application: Application, included: bool) -> None:
    """Its `.env` gives the container another name and the backups another directory, in both ways."""
    (application.directory / ".env").write_text("BACKUP_CONTAINER=second-backup\nBACKUP_HOST_DIR=/srv/second\n")
    files = ["docker-compose.prod.yml", "hubbackup/docker-compose.backup.yml"]
    if included:
        application.install()
        files.pop()
    service = application.service(*files)
    assert service["container_name"] == "second-backup"
    assert mounts(service)["/var/backups/hub-chantier"] == "/srv/second"
    assert mounts(service)["/config"] == str(application.directory)


@pytest.mark.docker
@pytest.mark.parametrize("script", ["./scripts/backup.sh", "./hubbackup/scripts/backup.sh"])
def test_a_script_names_the_container_of_its_project(application: Application, script: str) -> None:
    """Typed through the link or in the clone, it looks for the container that the application's `.env` names."""
    (application.directory / ".env").write_text("OTHER=1\nBACKUP_CONTAINER=hubbackup-absent\n")
    application.install()
    said = application(script, code=1)
    assert "there is no container hubbackup-absent" in said
    assert "what to do: docker compose -f docker-compose.prod.yml --profile backup up -d backup-cron" in said


def test_the_removal_names_what_is_this_projects(application: Application) -> None:
    """The container to remove and the backups that stay: never another project's."""
    application.install()
    assert "backups in /var/backups/hub-chantier stay. The service: docker rm -f hub-chantier-backup" in (
        application("./hubbackup/scripts/install.sh", "--remove")
    )
    application.install()
    (application.directory / ".env").write_text("BACKUP_CONTAINER='second-backup'\nBACKUP_HOST_DIR=/srv/second\n")
    said = application("./hubbackup/scripts/install.sh", "--remove")
    assert "The backups in /srv/second stay. The service: docker rm -f second-backup" in said


def test_a_container_that_restarts_says_why(application: Application, tmp_path: Path) -> None:
    """Where the container does not run, the script gives its last words, and the compose files that it came from."""
    stub = tmp_path / "bin" / "docker"
    stub.parent.mkdir()
    stub.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        "    *State.Status*) echo restarting ;;\n"
        "    *config_files*) echo /srv/app/docker-compose.prod.yml,/srv/app/hubbackup/docker-compose.backup.yml ;;\n"
        "    *working_dir*) echo /srv/app ;;\n"
        '    logs*) echo \'{"event": "settings.invalid", "message": "BACKUP_KEEP_MIN=x is not a number"}\' ;;\n'
        "    *) exit 9 ;;\n"
        "esac\n"
    )
    stub.chmod(0o755)
    said = application("./hubbackup/scripts/backup.sh", code=1, PATH=f"{stub.parent}{os.pathsep}{os.environ['PATH']}")
    assert "the container hub-chantier-backup is restarting" in said
    assert "its last words: BACKUP_KEEP_MIN=x is not a number" in said
    files = "-f docker-compose.prod.yml -f hubbackup/docker-compose.backup.yml"
    assert f"what to do: docker compose {files} --profile backup up -d backup-cron" in said
