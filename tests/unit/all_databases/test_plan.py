"""What a restore of a whole server does with each database, decided from manifests and the server alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hubbackup.all_databases.plan import Planned, ServerPlan, check_room, made_plan
from hubbackup.catalog.backup import Backup, BackupName
from hubbackup.catalog.origin import Origin
from hubbackup.catalog.restored import Loaded, Restored
from hubbackup.errors import HubbackupError, UsageError
from hubbackup.postgres.server import Server, ServerDatabase
from hubbackup.restore.preflight import Request
from hubbackup.verify.choice import Choice
from tests.support.backups import manifest_of

NOW = datetime(2026, 2, 8, 3, 0, tzinfo=UTC)
SERVER = Server("17.6", 170006, "", {}, frozenset({"postgres"}), {"vector": "0.8"}, True, system_identifier="74")
REQUEST = Request("", replace=True)
PROPERTIES: dict[str, Any] = {
    "database": "",
    "server_version": "17.6",
    "server_version_num": 170006,
    "system_identifier": "74",
    "owner": "postgres",
    "encoding": "UTF8",
    "size_bytes": 1_000_000,
    "catalog_row": {},
    "settings": [],
}


def planned(
    database: str, age: timedelta = timedelta(), properties: dict[str, Any] | None = None, **facts: Any
) -> Planned:
    """A database with a good backup of so long ago."""
    name = BackupName(database, (NOW - age).replace(tzinfo=None))
    manifest = manifest_of(name, b"", properties=PROPERTIES | (properties or {}), **facts)
    backup = Backup(name, NOW - age, manifest, origin=Origin.OURS)
    return Planned(Choice(database, backup)).with_manifest(manifest)


def plan(*databases: Planned, server: Server = SERVER, **options: Any) -> ServerPlan:
    occupied = options.pop("occupied", {})
    restored = options.pop("restored", None) or Restored(lambda: Path("/nowhere/restored.json"))
    return made_plan(databases, server, replace(REQUEST, **options), occupied, restored, "me")


def why_not(found: ServerPlan) -> dict[str, str]:
    return {one.database: one.why_not for one in found.others}


def test_the_newest_backup_comes_first() -> None:
    """Its roles are the latest; one that is much older than the others is noted."""
    found = plan(planned("a", timedelta(days=9)), planned("b"), planned("c", timedelta(hours=2)))
    assert [one.database for one in found.restored] == ["b", "c", "a"]
    assert found.notes == ("the newest good backup of a is 9 days older than the newest of the others",)


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (
            Planned(Choice("x", passed_over=(("N", "it is suspicious: empty"),))),
            "no good backup of it: N: it is suspi",
        ),
        (planned("template1"), "template1 is a template of the server"),
        (planned("x", server_version="18.1"), "comes from PostgreSQL 18.1, this server is 17.6"),
        (planned("x", extensions=("postgis", "vector")), "the server lacks the extensions postgis"),
        (planned("x", properties={"encoding": None, "settings": None}), "does not tell what its database was like"),
    ],
)
def test_one_that_can_not_be_restored_is_left_out(one: Planned, why: str) -> None:
    """With the reason and what to do about it, before anything is asked; the others are restored."""
    found = plan(one, planned("good"))
    assert [other.database for other in found.restored] == ["good"]
    assert why in why_not(found)[one.database]
    assert found.others[0].remedy
    assert found.others[0].ending().ending == "left out"


def test_roles_that_are_missing() -> None:
    """Without an option for them nothing is done; with --globals only a database whose roles no backup has is out."""
    has = planned("has", roles=("api",), globals_sql="CREATE ROLE api; CREATE ROLE unused;")
    other = planned("other", timedelta(hours=1), roles=("old",), globals_sql="CREATE ROLE old; CREATE ROLE gone;")
    lacks = planned("lacks", timedelta(hours=2), roles=("lost",))
    with pytest.raises(HubbackupError, match="do not exist on this server: api, lost, old") as refused:
        plan(has, other, lacks)
    assert "--no-owner gives what is theirs to me" in refused.value.remedy
    found = plan(has, other, lacks, with_globals=True)
    assert found.roles.made == ("api", "unused")
    assert [one.database for one in found.restored] == ["has", "other"]
    assert "nor in its backup: lost" in why_not(found)["lacks"]
    assert len(plan(has, other, lacks, no_owner=True).restored) == 3
    with pytest.raises(UsageError, match="none of these backups has globals"):
        plan(lacks, with_globals=True)


def test_what_a_restore_of_ours_has_made_stays(tmp_path: Path) -> None:
    """Known by the server's identifier and the database's own number: not by its name, nor on another server.

    One that was about to be swapped in when the restore was killed counts, if it was. So does an empty one: else each
    call would put it aside and make it again.
    """
    restored = Restored(lambda: tmp_path / "restored.json")
    restored.note("a", Loaded("older", 1, 1, {}), NOW)
    restored.arriving("a", "older.sql.gz", "74/500", NOW)
    for noted in (False, True):
        if noted:
            restored.note("a", Loaded("older.sql.gz", 1, 1, {}), NOW)
        there = replace(SERVER, databases={"a": ServerDatabase("a", 1, 0, oid=500), "z": ServerDatabase("z", 1, 0)})
        found = plan(planned("a"), planned("b"), server=there, occupied={"a": "has 2 tables"}, restored=restored)
        assert [one.database for one in found.restored] == ["b"]
        assert found.others[0].ending().ending == "present"
        assert any(
            "a is there from older.sql.gz, and its newest good backup is a_backup_" in note for note in found.notes
        )
        assert "no backup of it is here, and it stays as it is: z" in found.notes
        empty = plan(planned("a"), planned("b"), server=there, restored=restored)
        assert [one.database for one in empty.restored] == ["b"]
    for other in (
        replace(SERVER, databases={"a": ServerDatabase("a", 1, 0, oid=501)}),
        replace(there, system_identifier="75"),
    ):
        with pytest.raises(UsageError, match="on this one a has 2 tables") as refused:
            plan(planned("a"), planned("b"), server=other, occupied={"a": "has 2 tables"}, restored=restored)
        assert "hubbackup restore --latest --database a" in refused.value.remedy
    restored.forget("a")
    assert restored.whence("a", "74/500") == ""


def test_room_for_all_of_them() -> None:
    """Too little for their sum is refused before anything; --force goes on, and so does what can't be known."""
    found = plan(planned("a"), planned("b"))
    check_room(found, 2_500_000, force=False)
    check_room(found, None, force=False)
    check_room(found, 1_000, force=True)
    with pytest.raises(HubbackupError, match="has 1,500,000 bytes free, these 2 databases need some 2,400,000"):
        check_room(found, 1_500_000, force=False)
