"""A PostgreSQL server that exists for one drill: made from the database container's own image, without a network.

It is removed with its data whatever happens in it; one that a killed process left is removed at the next start.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from hubbackup.errors import ContainerError, EngineError, HubbackupError, RunnerError
from hubbackup.runners import run
from hubbackup.runners.docker_exec import DockerExecRunner
from hubbackup.runners.engine import Engine
from hubbackup.streams.cancel import Cancel

LABEL = "org.hubbackup.restore.drill-of"
READY_SECONDS = 180.0
INITDB_ARGS = "POSTGRES_INITDB_ARGS"
"""What the image's set-up passes to initdb."""
READY = (
    "for _ in 0 1 2 3 4 5 6 7 8 9; do"
    ' pg_isready --quiet --host=127.0.0.1 --username="$1" && exit; sleep 0.1; done; exit 2'
)
"""Asks for about a second: each command in a container costs ten times what pg_isready itself does."""
MEMORY_BYTES = 1 << 30
FORGETFUL = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""Nothing in this server has to survive a power cut."""
FAST = {
    "wal_level": "minimal",
    "archive_mode": "off",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "shared_buffers": "256MB",
}
"""Nobody follows it, and it serves one load. A setting or a library of the image's own may demand more: then the
server is made without these."""


@contextmanager
def throwaway_server(
    engine: Engine,
    original: DockerExecRunner,
    *,
    user: str,
    password: str,
    options: Mapping[str, str],
    cancel: Cancel,
    idle_seconds: float,
) -> Iterator[DockerExecRunner]:
    """A runner in a fresh server whose superuser is `user`, with that `password`; `options` are further settings.

    Raises ContainerError where the server does not come up, EngineError where the engine refuses.
    """
    remove_leftovers(engine, original.container_name)
    access = {"POSTGRES_USER": user, "POSTGRES_PASSWORD": password, "POSTGRES_DB": "postgres"}
    if INITDB_ARGS not in original.inherited:
        access[INITDB_ARGS] = "--no-sync"
    deadline = time.monotonic() + READY_SECONDS

    @contextmanager
    def ready(settings: Mapping[str, str]) -> Iterator[DockerExecRunner]:
        with _server(engine, original, access, settings) as made:
            runner = DockerExecRunner(
                engine,
                cancel=cancel,
                container=made,
                idle_seconds=idle_seconds,
                no_data_connection="a throwaway server has no network",
                user=original.user,
            )
            _wait_until_ready(runner, user, cancel, deadline)
            yield runner

    with contextlib.ExitStack() as stack:
        try:
            runner = stack.enter_context(ready({**FORGETFUL, **FAST, **options}))
        except ContainerError:
            runner = stack.enter_context(ready({**FORGETFUL, **options}))
        yield runner


@contextmanager
def _server(
    engine: Engine, original: DockerExecRunner, environment: Mapping[str, str], settings: Mapping[str, str]
) -> Iterator[str]:
    """The id of a container that was started, and is removed at the end. Raises ContainerError, EngineError."""
    import docker.errors

    with engine.errors():
        try:
            container = engine.client.containers.create(
                original.identity,
                command=["postgres", *(word for pair in settings.items() for word in ("-c", "=".join(pair)))],
                environment=dict(environment),
                labels={LABEL: original.container_name},
                network_mode="none",
                mem_limit=MEMORY_BYTES,
                name=f"hubbackup-drill-{secrets.token_hex(4)}",
            )
        except docker.errors.ImageNotFound as error:
            raise ContainerError(
                f"the image of {original.container_name} is not on this machine any more",
                remedy="recreate the database's container (docker compose up -d), or set DRILL_TARGET=database",
            ) from error
    try:
        with engine.errors():
            container.start()
        yield str(container.id)
    finally:
        with contextlib.suppress(EngineError), engine.errors():
            container.remove(force=True, v=True)


def remove_leftovers(engine: Engine, of: str) -> list[str]:
    """Remove the servers of drills that were killed; returns their names. Caller's duty: hold the run lock."""
    client = engine.client
    with engine.errors():
        found = client.containers.list(all=True, filters={"label": f"{LABEL}={of}"}, ignore_removed=True)
        for server in found:
            server.remove(force=True, v=True)
    return [str(server.name) for server in found]


def _wait_until_ready(runner: DockerExecRunner, user: str, cancel: Cancel, deadline: float) -> None:
    """Wait for the real server: the image's set-up runs another one first, which listens on no address."""
    while True:
        try:
            run(runner, ["sh", "-c", READY, "sh", user], {})
            return
        except HubbackupError as error:
            cancel.wait(0.1)
            if not isinstance(error, RunnerError) or time.monotonic() > deadline or _has_ended(runner):
                raise ContainerError(
                    f"the drill's server did not come up from the image of the database: {error}",
                    remedy="set DRILL_TARGET=database if the image needs more than POSTGRES_* to start",
                ) from error


def _has_ended(runner: DockerExecRunner) -> bool:
    try:
        runner.detached()
    except HubbackupError:
        return True
    return False
