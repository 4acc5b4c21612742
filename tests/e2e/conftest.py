"""The one stack that all end-to-end tests share, and its removal whatever happens."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e import stack as stacks
from tests.e2e.stack import EVENTS, Stack
from tests.support.sample import load_sample

QUIET = {
    "BACKUP_SCHEDULE": "0 3 29 2 *",
    "BACKUP_ON_START": "false",
    "BACKUP_ON_FIRST_START": "false",
    "BACKUP_RETENTION_DAYS": "3",
    "BACKUP_RETENSION_DAYS": "30",
}


@pytest.fixture(scope="session")
def stack(docker_engine: str, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The user's application with some data, and beside it the backup service, which runs at once and each minute."""
    stacks.build_image()
    project = stacks.new_project()
    application = stacks.GUIDE[:1]
    try:
        project.compose("up", "-d", "--wait", "db", files=application)
        project.compose("up", "-d", "s3", files=application)
        load_sample(project.psql, stacks.DATABASE, 5)
        project.until(project.create_bucket, 60, "a bucket")
        assert not project.backups.exists()
        with watched(project):
            project.compose("up", "-d")
            yield project
        if request.session.testsfailed:
            print(project.raw_logs())
    finally:
        project.remove()


@contextmanager
def watched(project: Stack) -> Iterator[None]:
    """Meanwhile, what `docker events` tells of the project goes to a file: the engine keeps only the last 256."""
    label = f"label=com.docker.compose.project={project.project}"
    argv = ["docker", "events", "--filter", label, "--format", "{{json .}}"]
    with (project.directory / EVENTS).open("wb") as file, subprocess.Popen(argv, stdout=file) as watcher:
        try:
            yield
        finally:
            watcher.terminate()


@pytest.fixture(scope="session")
def quiet(stack: Stack) -> Stack:
    """The stack, from now on with a schedule that never comes, so that a test's own runs are the only ones.

    .env.production also has another retention, and a misspelt name.
    """
    stack.until(lambda: stack.logs("daemon.started"), 60, "the daemon's first start")
    stack.set_env(**QUIET)
    stack.restart()
    return stack
