"""Two restores of one database at once, from two hosts or with two BACKUP_DIRs: neither takes the other for dead."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.moments import wait_until
from tests.support.program import Program, for_server

WAITS = """
CREATE FUNCTION wait(i int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
  WHILE current_database() ~ '_restore_' AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'go_on') LOOP
    PERFORM pg_catalog.pg_sleep(0.02);
  END LOOP;
  RETURN true;
END $$;
CREATE TABLE t (i int CHECK (wait(i)));
INSERT INTO t SELECT generate_series(1, 20);
"""
"""A load of it stays where it is for as long as there is no role `go_on`."""


@pytest.fixture
def two(postgres18: EmbeddedPostgres, tmp_path: Path) -> tuple[Program, Program]:
    name = "twice"
    postgres18.create_database(name)
    postgres18.psql(WAITS, database=name)
    key = {"BACKUP_MANIFEST_KEY": secrets.token_hex(32)}
    first, second = (for_server(postgres18, name, tmp_path / word, **key) for word in ("first", "second"))
    first.backup()
    return first, second


def test_only_what_is_dead_is_removed(two: tuple[Program, Program], postgres18: EmbeddedPostgres) -> None:
    """Half-filled databases that a restore is at work on stay, whoever's it is; both restores end well, and what a
    third one that was killed left is gone."""
    first, second = two
    postgres18.create_database("twice_restore_20200101_000000")
    file = str(next(first.backups.glob("*.sql.gz")))
    try:
        one = first.fork("restore", file, "--yes", output=first.directory / "said")
        wait_until(lambda: any("20200101" not in name for name in first.derived("restore")), "a restore")
        (of_the_first,) = first.derived("restore")
        other = second.fork("restore", file, "--yes", output=second.directory / "said")
        wait_until(lambda: len(first.derived("restore")) == 2, "a second one beside the first")
        assert of_the_first in first.derived("restore")
        findings = {found["name"]: found for found in first.run("doctor", "--json").document["findings"]}
        assert findings["old databases"]["status"] == "ok", findings["old databases"]
        postgres18.psql("CREATE ROLE go_on")
        for restore, program in ((one, first), (other, second)):
            assert restore.wait(60) == 0, (program.directory / "said").read_text()
        assert postgres18.psql("SELECT count(*) FROM t", database="twice") == "20"
        assert len(first.derived("before")) == 2
        assert first.derived("restore") == []
    finally:
        postgres18.psql("DROP ROLE IF EXISTS go_on")
        first.drop(*first.derived("before"), *first.derived("restore"), "twice")
