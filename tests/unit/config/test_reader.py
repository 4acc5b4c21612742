"""Remedies that can be typed where their reader stands: in the container, by the scripts, or with docker compose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hubbackup.cli.commands import COMMANDS
from hubbackup.config.reader import VERBS, Reader, at_terminal, compose_facts, on_host
from tests.support.program import ROOT

TWO_FILES = {"files": ["docker-compose.prod.yml", "hubbackup/docker-compose.backup.yml"]}
FILES = "-f docker-compose.prod.yml -f hubbackup/docker-compose.backup.yml"
IN_CONTAINER = {"HUBBACKUP_IN_CONTAINER": "yes", "BACKUP_ENV_FILE": "/config/.env.production"}


def test_every_command_is_known() -> None:
    """A new command is typable too, and nothing else is."""
    assert sorted(COMMANDS) == VERBS.split("|")


@pytest.mark.parametrize("before", ["", "what to do: ", "(", "`", "look again; then "])
def test_inside_the_container_it_stays(before: str) -> None:
    """A shell there has `hubbackup` on its PATH; docker is the host's, with the guide's file."""
    reader = at_terminal(environ=IN_CONTAINER, parent=17)
    assert reader.typable(f"{before}hubbackup list") == f"{before}hubbackup list"
    assert reader.typable("docker compose restart backup-cron") == (
        "docker compose -f docker-compose.prod.yml --profile backup restart backup-cron"
    )


def test_by_the_scripts() -> None:
    """Who typed `./scripts/restore.sh` reads of `./scripts/…`; a restore has its own script there."""
    reader = at_terminal(environ={**IN_CONTAINER, "HUBBACKUP_CALLED_AS": "./scripts/hubbackup"}, parent=0)
    text = reader.typable("look into it; if it is right: hubbackup accept NAME, or hubbackup restore --undo")
    assert text == "look into it; if it is right: ./scripts/hubbackup accept NAME, or ./scripts/restore.sh --undo"
    called = {"HUBBACKUP_CALLED_AS": "/home/deploy/my app/scripts/hubbackup"}
    assert at_terminal(environ=called).typable("hubbackup list") == "'/home/deploy/my app/scripts/hubbackup' list"


def test_by_docker_exec_from_the_host() -> None:
    """`docker compose exec backup-cron hubbackup …` is typed on the host: so are its remedies."""
    reader = at_terminal(TWO_FILES, environ=IN_CONTAINER, parent=0)
    prefix = f"docker compose {FILES} --profile backup"
    assert reader.typable("hubbackup doctor") == f"{prefix} exec backup-cron hubbackup doctor"
    assert reader.typable("… restart backup-cron") == "… restart backup-cron"
    assert reader.typable("docker compose restart backup-cron") == f"{prefix} restart backup-cron"


@pytest.mark.parametrize("scripts", ["scripts", "hubbackup/scripts"])
def test_who_reads_an_alert_types_the_scripts_where_there_are_any(tmp_path: Path, scripts: str) -> None:
    """Linked by install.sh or in the clone; also where the settings are a private copy."""
    (tmp_path / scripts).mkdir(parents=True)
    (tmp_path / scripts / "hubbackup").touch()
    environ = {**IN_CONTAINER, "BACKUP_ENV_FILE": f"{tmp_path}/.env.production"}
    assert on_host(environ=environ).typable("hubbackup status") == f"./{scripts}/hubbackup status"
    environ |= {"BACKUP_ENV_FILE": f"/copies{tmp_path}/.env.production", "HUBBACKUP_COPIES_DIR": "/copies"}
    assert on_host(environ=environ).typable("hubbackup status") == f"./{scripts}/hubbackup status"


@pytest.mark.parametrize("called", [{}, {"HUBBACKUP_CALLED_AS": "./scripts/hubbackup"}])
def test_a_second_projects_container_has_its_own_name(called: dict[str, str]) -> None:
    """`docker logs` and `docker exec` are of this project's container, whoever reads of them: else the key that
    `hubbackup config` carries to another server would be the first project's."""
    environ = {**IN_CONTAINER, **called, "HUBBACKUP_CONTAINER": "second-backup"}
    text = "docker logs hub-chantier-backup; ssh HOST docker exec hub-chantier-backup cat /x/hub-chantier-backup.log"
    mine = "docker logs second-backup; ssh HOST docker exec second-backup cat /x/hub-chantier-backup.log"
    terminals = [at_terminal(environ=environ, parent=parent) for parent in (0, 7)]
    for reader in (*terminals, on_host(environ=environ)):
        assert reader.typable(text) == mine
    assert at_terminal(environ={**IN_CONTAINER, **called}, parent=0).typable(text) == text


def test_compose_tells_the_container_its_name() -> None:
    """By the same variable that names it."""
    service = yaml.safe_load((ROOT / "docker-compose.backup.yml").read_text())["services"]["backup-cron"]
    assert service["environment"]["HUBBACKUP_CONTAINER"] == service["container_name"]


def test_without_a_container_it_is_the_plain_command() -> None:
    """`BACKUP_SOURCE=direct` on a host: hubbackup is installed there."""
    assert on_host(environ={}).typable("hubbackup status") == "hubbackup status"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a name that hubbackup gives itself; hubbackup restores dumps of one database",
        "networks: in docker-compose.backup.yml, and docker logs hub-chantier-backup",
        "another run of hubbackup is at work; /opt/hubbackup list; hubbackup-list",
        "docker compose is older than 2.20",
    ],
)
def test_what_is_no_command_stays(text: str) -> None:
    """Only commands are changed."""
    assert Reader("X", "Y", ("z.yml",)).typable(text) == text


@pytest.mark.parametrize(
    "reader", [at_terminal(environ=IN_CONTAINER, parent=0), Reader("./scripts/hubbackup", "./r")]
)
def test_it_can_be_done_twice(reader: Reader) -> None:
    """A text that passes two edges is not changed a second time."""
    once = reader.typable("hubbackup list; docker compose -f x.yml --profile backup up -d backup-cron")
    assert reader.typable(once) == once


@pytest.mark.parametrize(
    ("labels", "files"),
    [
        ({}, []),
        (
            {
                "com.docker.compose.project.working_dir": "/srv/hub",
                "com.docker.compose.project.config_files": "/srv/hub/docker-compose.prod.yml,/etc/other.yml",
            },
            ["docker-compose.prod.yml", "/etc/other.yml"],
        ),
    ],
)
def test_composes_labels_tell_the_files(labels: dict[str, str], files: list[str]) -> None:
    """Those of the application's directory by their name alone."""
    assert compose_facts(labels) == {"files": files}


@pytest.mark.parametrize("learned", [None, [], {}, {"files": []}, {"files": [1]}, {"files": "x"}])
def test_nothing_learned_is_the_guides_file(learned: Any) -> None:
    """Also where the state file holds nonsense."""
    assert at_terminal(learned, environ={}, parent=1).files == ("docker-compose.prod.yml",)
