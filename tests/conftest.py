"""Fixtures of every test: real PostgreSQL servers, a fresh database, and the guard of tests that need Docker.

A server starts when the first test asks for it and serves the whole session; under pytest-xdist each worker
has its own.
"""

from __future__ import annotations

import functools
import gc
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from hubbackup import shown_text
from hubbackup.shown_text import Secrets
from tests.support.embedded_postgres import EmbeddedPostgres, memory_disk

if TYPE_CHECKING:
    from tests.support.s3 import S3Server

# Temporary files in memory, where there is room: half of what the tests do to a disk is to wait for it.
if "TMPDIR" not in os.environ and (disk := memory_disk()) is not None:
    os.environ["TMPDIR"] = tempfile.tempdir = str(disk)

# A busy machine is not a slow program: no example has a deadline, the whole test has pytest's timeout.
hypothesis.settings.register_profile("hubbackup", deadline=None)
hypothesis.settings.load_profile("hubbackup")

# One word to look for in the skips: without an engine the run may be green, but it is not complete.
DOCKER_MISSING = "DOCKER-MISSING"
TESTS = Path(__file__).parent
ORDER = ("e2e", "integration", "contract", "unit")
FIRST = (
    "e2e/test_documents.py",  # it builds the image; while it does, nobody else needs it
    "integration/test_restore_killed.py",
    "integration/test_three_daemons.py",
    "integration/test_restore_parallel.py",
)
REQUIRE_DOCKER = "HUBBACKUP_REQUIRE_DOCKER"
"""Set by .ci/run: a test that needs Docker and finds none fails."""


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> Secrets:
    """What this test alone has read as a secret: another's would mask words of it."""
    fresh = Secrets()
    monkeypatch.setattr(shown_text, "SECRETS", fresh)
    return fresh


@pytest.fixture(scope="session")
def postgres16() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL 16 server, shared by the session."""
    with EmbeddedPostgres(16) as server:
        yield server


@pytest.fixture(scope="session")
def postgres18() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL 18 server, shared by the session."""
    with EmbeddedPostgres(18) as server:
        yield server


@pytest.fixture(scope="session", params=["postgres16", "postgres18"])
def postgres(request: pytest.FixtureRequest) -> EmbeddedPostgres:
    """Runs the test once on each of the two servers."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, EmbeddedPostgres)
    return server


@pytest.fixture
def database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The name of a new empty database on `postgres`, dropped after the test."""
    with postgres.temporary_database() as name:
        yield name


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A real S3 server, shared by the session: each test takes its own `s3.bucket()`."""
    from tests.support.s3 import s3_server  # boto3 takes longer to import than most unit tests to run

    with s3_server() as server:
        yield server


@pytest.fixture(scope="session")
def docker_engine() -> str:
    """The version of the Docker engine; skips the test where there is none."""
    version, problem = docker_info()
    if problem:
        pytest.skip(problem)
    return version


@functools.cache
def docker_info() -> tuple[str, str]:
    """The engine's version, or an empty string and why there is none."""
    try:
        done = subprocess.run(
            ["docker", "info", "--format", "{{.ServerVersion}}"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except FileNotFoundError:
        return "", f"{DOCKER_MISSING} no Docker engine: there is no docker command in PATH"
    except subprocess.TimeoutExpired:
        return "", f"{DOCKER_MISSING} no Docker engine: docker info gave no answer in 60 s"
    version = done.stdout.strip()
    # Without an engine, docker info may exit 0 with an empty version and say why on stderr.
    if done.returncode != 0 or not version:
        said = done.stderr.strip().splitlines() or [f"docker info exited with {done.returncode}"]
        return "", f"{DOCKER_MISSING} no Docker engine: {said[-1].strip()}"
    return version, ""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that uses `docker_engine` has the marker `docker`, so that `-m docker` finds them all.

    Files go to the workers in this order, the longest kinds first: at the end there are only short ones to share out.
    """
    for item in items:
        if "docker_engine" in getattr(item, "fixturenames", ()):
            item.add_marker("docker")
    items.sort(key=_place)


def _place(item: pytest.Item) -> tuple[int, int]:
    path = item.path.relative_to(TESTS)
    place = FIRST.index(path.as_posix()) if path.as_posix() in FIRST else len(FIRST)
    return place, ORDER.index(path.parts[0])


def pytest_collection_finish() -> None:
    """What is loaded by now stays: the collector need not look at it again."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked `docker` where there is no engine, before any fixture of it is set up."""
    if item.get_closest_marker("docker"):
        _, problem = docker_info()
        if problem and os.environ.get(REQUIRE_DOCKER):
            pytest.fail(f"{problem}; {REQUIRE_DOCKER} is set, so this is not a skip", pytrace=False)
        if problem:
            pytest.skip(problem)
