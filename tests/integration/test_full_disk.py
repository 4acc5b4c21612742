"""A disk without room: the retention makes some before the dump, and once more where a dump still ran out of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hubbackup.catalog.backup import BackupName, Mark
from hubbackup.catalog.marks import put_mark
from hubbackup.stores.local import LocalStore
from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import Program, beside, for_server
from tests.support.small_disk import SmallDisk, small_disk

PAGES = 64 << 10
"""For manifests, the lock, the record of runs."""
RANDOM_TEXT = "INSERT INTO t SELECT md5(random()::text || i) FROM generate_series(1, 20000) AS i"
"""Some 400 KB that no compression makes less of."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", "8m") as made:
        yield made


@pytest.fixture
def database(postgres18: EmbeddedPostgres) -> Iterator[str]:
    with postgres18.temporary_database() as name:
        postgres18.psql("CREATE TABLE t (words text)", database=name)
        yield name


@pytest.fixture
def program(postgres18: EmbeddedPostgres, database: str, tmp_path: Path, disk: SmallDisk) -> Program:
    return for_server(postgres18, database, tmp_path, BACKUP_DIR=str(disk.directory))


def aged(program: Program, days: int) -> str:
    """A backup of now, made to look `days` old; returns its name."""
    made = program.backup().name
    old = program.redate(made, timedelta(days=days))
    for part in (made, beside(made)):
        (program.backups / part).unlink()
    return old


def test_room_is_made_before_the_dump(program: Program, postgres18: EmbeddedPostgres, disk: SmallDisk) -> None:
    """Where a backup like the last would not fit, what the retention no longer keeps goes first, and it is said; the
    last good one stays."""
    postgres18.psql(RANDOM_TEXT, database=program.database)
    old, last = aged(program, 8), aged(program, 2)
    size = len(program.files()[last])
    disk.leave(size // 2)
    done = program.run("backup", "--json")
    assert done.code == 0, done.said
    assert done.document["pruned"] == [f"local:{old}"]
    assert [event["event"] for event in done.events][:2] == ["room.made", "backup.started"]
    assert done.event("room.made")["names"] == [f"local:{old}"]
    assert last in program.files()


def test_a_dump_that_ran_out_of_room_is_tried_once_more(
    program: Program, postgres18: EmbeddedPostgres, disk: SmallDisk
) -> None:
    """A database that has grown: the dump finds the disk full, the retention is applied, and it is taken again."""
    small = aged(program, 2)
    postgres18.psql(RANDOM_TEXT, database=program.database)
    old = aged(program, 8)
    disk.leave(PAGES)
    done = program.run("backup", "--json")
    assert done.code == 0, done.said
    assert done.document["pruned"] == [f"local:{old}"]
    assert "no space left" in done.event("backup.again")["message"]
    assert len([event for event in done.events if event["event"] == "backup.started"]) == 2
    files = program.files()
    assert {small, done.document["name"]} <= files.keys()
    assert not [name for name in files if name.endswith(".partial")]
    manifest = program.manifest(done.document["name"])
    assert manifest.rows["public.t"] == 20000


def test_nothing_the_policy_keeps_is_removed_for_room(
    program: Program, postgres18: EmbeddedPostgres, disk: SmallDisk
) -> None:
    """Exit 1, once, with the commands that help; every backup is as it was: the only good one however old it is."""
    postgres18.psql(RANDOM_TEXT, database=program.database)
    aged(program, 20)
    disk.leave(PAGES)
    before = program.files()
    done = program.run("backup")
    assert done.code == 1, done.said
    assert len([event for event in done.events if event["event"] == "backup.started"]) == 1
    assert "hubbackup prune" in done.event("room.short")["remedy"]
    assert "hubbackup prune" in done.event("backup.failed")["remedy"]
    assert program.files() == before


@pytest.mark.parametrize("doubt", ["suspicious", "unrestorable"])
def test_a_backup_in_doubt_freezes_this_too(
    program: Program, postgres18: EmbeddedPostgres, disk: SmallDisk, doubt: str
) -> None:
    """The old good ones may be all there is: nothing goes, and it is said why, and what ends that, for this doubt."""
    postgres18.psql(RANDOM_TEXT, database=program.database)
    for days in (9, 8):
        aged(program, days)
    if doubt == "suspicious":
        postgres18.psql("TRUNCATE t", database=program.database)
    newest = aged(program, 1)
    if doubt == "suspicious":
        postgres18.psql(RANDOM_TEXT, database=program.database)
        remedy = f"hubbackup accept {newest}, then: hubbackup prune"
    else:
        name = BackupName.parse(newest)
        assert name is not None
        put_mark(LocalStore(program.backups), name, Mark.UNRESTORABLE, why="no such function", now=datetime.now(UTC))
        remedy = f"hubbackup drill --schema {newest}, then: hubbackup prune"
    disk.leave(PAGES)
    before = program.files()
    done = program.run("backup")
    assert done.code == 1, done.said
    failed = done.event("backup.failed")
    assert f"nothing is pruned, since {newest} is {doubt}" in failed["cause"]
    assert remedy in failed["remedy"]
    assert remedy in done.event("room.short")["remedy"]
    assert ("accept" in failed["remedy"]) == (doubt == "suspicious")
    assert program.files() == before
