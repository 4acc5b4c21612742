"""After a restore of ours the backups go on as before: what was loaded is what the next one is measured by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import Program, for_server

FILL = "INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 5000) AS i"


@pytest.fixture
def program(postgres16: EmbeddedPostgres, tmp_path: Path) -> Iterator[Program]:
    with postgres16.temporary_database() as name:
        postgres16.psql("CREATE TABLE t (i int, words text)", database=name)
        yield for_server(postgres16, name, tmp_path, BACKUP_SCHEDULE="0 0 29 2 *")


def warnings(program: Program) -> list[str]:
    """Why the next backup is suspicious."""
    done = program.run("backup", "--json")
    assert done.code == 0, done.said
    found: list[str] = done.document["warnings"]
    return found


def test_a_new_server_is_no_suspicion(program: Program, postgres18: EmbeddedPostgres, tmp_path: Path) -> None:
    """Scenario 3 of the guide: the backups that follow the restore are normal; and a table half lost is not."""
    program.psql(FILL, database=program.database)
    program.backup()
    there = for_server(postgres18, program.database, tmp_path, BACKUP_SCHEDULE="0 0 29 2 *")
    try:
        postgres18.create_database(program.database)
        assert any("the server is not the one" in sentence for sentence in warnings(there)), "not restored by us"
        done = there.run("restore", "--latest", "--yes")
        assert done.code == 0, done.said
        assert [warnings(there) for _ in range(3)] == [[], [], []]
        there.psql("DELETE FROM t WHERE i > 100", database=there.database)
        assert any("public.t has 100 rows" in sentence for sentence in warnings(there))
    finally:
        there.drop(*there.derived("before"), there.database)


def test_an_older_state_is_no_suspicion(program: Program) -> None:
    """On the same server: smaller, and that is what was wanted. Undone, the backups go on by what was before."""
    program.psql("INSERT INTO t VALUES (1, NULL)", database=program.database)
    small = program.backup().name
    program.psql(FILL, database=program.database)
    program.backup()
    try:
        assert program.run("restore", small, "--yes").code == 0
        assert warnings(program) == []
        assert program.run("restore", "--undo", "--yes").code == 0
        assert warnings(program) == []
        assert program.run("restore", small, "--yes").code == 0
        assert program.run("restore", "--undo", "--yes").code == 0
        program.psql("DELETE FROM t", database=program.database)
        assert warnings(program), "an undone restore is no excuse"
    finally:
        program.drop(*program.derived("before"))
