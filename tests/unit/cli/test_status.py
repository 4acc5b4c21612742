"""`hubbackup status`: the same judgement as the page's, on a terminal and as JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hubbackup.cli import run
from hubbackup.health import PATH_VARIABLE, beat
from hubbackup.jobs.state_file import write_json
from tests.support.hub_chantier import CANARY, Site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A directory with an old unproven backup and a good one of an hour ago; the daemon is alive."""
    for name, value in {
        "BACKUP_DIR": str(tmp_path),
        "POSTGRES_DB": "hub_chantier",
        "TZ": "Europe/Paris",
        "STATUS_USER": "op",
        "STATUS_PASSWORD": CANARY,
        PATH_VARIABLE: str(tmp_path / "run"),
    }.items():
        monkeypatch.setenv(name, value)
    write_json(tmp_path / "run" / "health.json", beat("soon"))
    site = Site(tmp_path)
    now = datetime.now(UTC)
    site.add_backup(now - timedelta(days=2), stores=("local",), proven=False)
    site.add_backup(now - timedelta(hours=1), stores=("local",), plain_bytes=10_000)
    return site


def test_for_people(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """The verdict first, then what it rests on."""
    assert run(["status"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("All right. The last good backup is 1 h old and on this server only.\n")
    assert "last run    " in out
    assert f"local       {site.local.directory}: 1 good, 1.0 kB" in out


def test_for_machines(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """One document: the verdict, every backup, run and store, and nothing secret."""
    site.add_failure(datetime.now(UTC), cause="no room")
    assert run(["status", "--json"]) == 0
    out = capsys.readouterr().out
    document = json.loads(out)
    assert (document["verdict"], document["daemon_healthy"]) == ("critical", True)
    assert document["findings"][0]["text"].endswith("failed at the stage prepare: no room.")
    assert document["stores"]["local"]["good_backups"] == 1
    assert document["last_good_age_seconds"] in range(3599, 3700)
    assert document["last_run"]["result"] == "failed"
    assert [backup["good_in"] for backup in document["backups"]] == [["local"], []]
    assert CANARY not in out
