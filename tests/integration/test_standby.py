"""A standby: a good source for backups, and no place for a restore."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.embedded_postgres import EmbeddedPostgres
from tests.support.program import Program, for_server

TABLES = """
CREATE TABLE visits (n int); INSERT INTO visits SELECT generate_series(1, 100);
CREATE UNLOGGED TABLE carts (n int); INSERT INTO carts VALUES (1);
CREATE MATERIALIZED VIEW most AS SELECT max(n) FROM visits;
"""


@pytest.fixture(scope="module", params=[16, 18])
def standby(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A server that was filled, and only lets read now."""
    settings = {"wal_level": "replica", "max_wal_senders": "4"}
    with EmbeddedPostgres(request.param, configuration=settings) as server:
        server.create_database("hub")
        server.psql(TABLES, database="hub")
        server.become_standby()
        yield for_server(server, "hub", tmp_path_factory.mktemp("standby"))


def test_a_standby_can_be_backed_up_and_not_restored_to(standby: Program) -> None:
    """The backup is good, row for row. A restore is refused before anything, with where to do it."""
    name = standby.backup().name
    manifest = standby.manifest(name)
    assert manifest.rows["public.visits"] == 100
    assert "public.carts" not in manifest.rows
    found = standby.run("doctor", "--json").document["findings"]
    sentences = {finding["name"]: finding["sentence"] for finding in found}
    assert "the server is a standby" in sentences["restorable"]
    assert sentences["left out"] == "not in a backup: the rows of unlogged tables, on a standby: public.carts"
    before = standby.databases()
    for way in (["--yes"], ["--into", "beside", "--yes"], ["--in-place", "--yes"]):
        done = standby.run("restore", name, *way)
        assert done.code == 1, done.said
        assert "only lets read" in done.err
        assert "restore on the primary server" in done.err
    assert standby.databases() == before
