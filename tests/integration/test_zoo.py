"""One of each kind of object, restored: to the same database, by whatever loads it, on every major that is supported.

An extension with tables of its own needs a server whose files are ours: so these are containers, one for each major.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import zoo
from tests.support.containers import DATABASE, postgres_container
from tests.support.fingerprint import Fingerprint, diff, fingerprint
from tests.support.program import Program, for_container

MAJORS = (15, 16, 17, 18)


@pytest.fixture(scope="module", params=MAJORS)
def hub(
    request: pytest.FixtureRequest, docker_engine: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    """A zoo with its extension and a tablespace, and a backup of it."""
    with postgres_container(f"postgres:{request.param}", settings={"wal_level": "logical"}) as container:
        made = for_container(container, tmp_path_factory.mktemp(f"zoo{request.param}"))
        zoo.install_extension(container)
        zoo.make_tablespace(container)
        zoo.load(made.psql, DATABASE, extension=zoo.EXTENSION, tablespace=zoo.TABLESPACE)
        made.backup()
        yield made


@pytest.fixture(scope="module")
def live(hub: Program) -> Fingerprint:
    return fingerprint(hub.psql, DATABASE)


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_the_zoo_comes_back(hub: Program, live: Fingerprint, jobs: str) -> None:
    """Every object, row, right and comment is as it was."""
    done = hub.run("restore", "--latest", "--into", "zoo_copy", "--yes", "--json", "--jobs", jobs)
    assert done.code == 0, done.said
    assert done.document["retried_serially"] == "", done.said
    assert ("restore.parallel" in [event["event"] for event in done.events]) == (jobs != "1")
    assert diff(live, fingerprint(hub.psql, "zoo_copy")) == []
    found = done.event("restore.objects")["objects"]
    assert found["index"] > 20
    assert found["foreign key"] > 8
    assert found["trigger"] >= 8
    hub.drop("zoo_copy")
