"""The commands that the page offers for a backup: those that make sense for it, as they are typed."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from hubbackup.config.reader import of_scripts
from hubbackup.web.commands import commands_of
from tests.support.hub_chantier import NOW, Site

NAME = "hub_chantier_backup_20260208_090400.sql.gz"


def commands(tmp_path: Path, **facts: Any) -> list[str]:
    site = Site(tmp_path)
    site.add_backup(NOW, **facts)
    snapshot = site.snapshot()
    return [
        command
        for _, command in commands_of(snapshot.backups[0], snapshot, of_scripts("./scripts/hubbackup").typable)
    ]


def test_a_good_backup(tmp_path: Path) -> None:
    """Restore, restore beside, try, read, keep, and fetch from each store that has it."""
    compose = "docker compose -f docker-compose.prod.yml --profile backup"
    assert commands(tmp_path) == [
        f"./scripts/restore.sh {NAME}",
        f"./scripts/restore.sh {NAME} --into hub_chantier_copy",
        f"./scripts/hubbackup drill {NAME} --store local",
        f"./scripts/hubbackup verify {NAME}",
        f"./scripts/hubbackup pin {NAME}",
        f"{compose} cp backup-cron:/var/backups/hub-chantier/{NAME} .",
        f"aws s3 cp s3://hub-chantier-backups/backups/{NAME} .",
    ]


def test_one_that_is_only_in_s3(tmp_path: Path) -> None:
    """It is restored from there."""
    found = commands(tmp_path, stores=("s3",))
    assert found[0] == f"./scripts/restore.sh --from-s3 {NAME}"
    assert f"./scripts/hubbackup drill {NAME} --store s3" in found
    assert not any("docker compose" in command for command in found)


def test_one_that_is_not_good_is_not_offered_for_a_restore(tmp_path: Path) -> None:
    """An unproven one can be read and fetched, no more."""
    found = commands(tmp_path, proven=False)
    assert not any("restore" in command or "drill" in command for command in found)
    assert any(" verify " in command for command in found)


def test_a_suspicious_one_can_be_accepted(tmp_path: Path) -> None:
    """After it was looked at."""
    assert f"./scripts/hubbackup accept {NAME}" in commands(tmp_path, warnings=("it has 3 % of the rows",))


@pytest.mark.parametrize("database", ["mit leer", "d'oh", "-x", "données", "a" * 63, "数据库"])
def test_no_name_needs_care(tmp_path: Path, database: str) -> None:
    """A shell takes each command as it stands, whatever the database is called."""
    site = Site(tmp_path, database)
    site.add_backup(NOW)
    snapshot = site.snapshot()
    for _, command in commands_of(snapshot.backups[0], snapshot, str):
        assert shlex.join(shlex.split(command)) == command
