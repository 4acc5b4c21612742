"""A PostgreSQL server that exists for one drill: made from the database container's own image, without a network.

It is removed with its data whatever happens in it; one that a killed process left is removed at the next start. That
of another hubbackup, which may drill the same database at the same moment, is left alone.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from hubbackup.errors import ContainerError, EngineError, HubbackupError, RunnerError
from hubbackup.runners import run
from hubbackup.runners.docker_exec import DockerExecRunner
from hubbackup.runners.engine import Engine
from hubbackup.streams.cancel import Cancel

LABEL = "org.hubbackup.restore.drill-of"
"""Of which database's container."""
BY_LABEL = "org.hubbackup.restore.drill-by"
"""By whom: the id of the run lock that its maker held."""
OLD = timedelta(days=3)
"""At this age it is not at work any more, whoever made it."""
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
    by: str,
) -> Iterator[DockerExecRunner]:
    """A runner in a fresh server whose superuser is `user`, with that `password`; `options` are further settings.
    `by`: the id of the run lock that the caller holds.

    Raises ContainerError where the server does not come up, or goes before its time, EngineError where the engine
    refuses.
    """
    remove_leftovers(engine, original.container_name, by)
    access = {"POSTGRES_USER": user, "POSTGRES_PASSWORD": password, "POSTGRES_DB": "postgres"}
    if INITDB_ARGS not in original.inherited:
        access[INITDB_ARGS] = "--no-sync"
    deadline = time.monotonic() + READY_SECONDS

    @contextmanager
    def ready(settings: Mapping[str, str]) -> Iterator[DockerExecRunner]:
        with _server(engine, original, access, settings, by) as made:
            runner = DockerExecRunner(
                engine,
                cancel=cancel,
                container=made,
                idle_seconds=idle_seconds,
                no_data_connection="a throwaway server has no network",
                user=original.user,
            )
            _wait_until_ready(runner, user, cancel, deadline)
            try:
                yield runner
            except ContainerError as error:
                raise ContainerError(
                    f"the drill's own server {_end_of(engine, made)} while the backup was restored there",
                    remedy="hubbackup drill tries it again; what ended it is in docker events --since 1h",
                ) from error

    with contextlib.ExitStack() as stack:
        try:
            runner = stack.enter_context(ready({**FORGETFUL, **FAST, **options}))
        except ContainerError:
            runner = stack.enter_context(ready({**FORGETFUL, **options}))
        yield runner


@contextmanager
def _server(
    engine: Engine, original: DockerExecRunner, environment: Mapping[str, str], settings: Mapping[str, str], by: str
) -> Iterator[str]:
    """The id of a container that was started, and is removed at the end. Raises ContainerError, EngineError."""
    import docker.errors

    with engine.errors():
        try:
            container = engine.client.containers.create(
                original.identity,
                command=["postgres", *(word for pair in settings.items() for word in ("-c", "=".join(pair)))],
                environment=dict(environment),
                labels={LABEL: original.container_name, BY_LABEL: by},
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


def remove_leftovers(engine: Engine, of: str, by: str, now: datetime | None = None) -> list[str]:
    """Remove the servers of drills that were killed; returns their names. Those of others only when they are old.

    Caller's duty: hold the run lock `by`, so that none of its own is at work.
    """
    import docker.errors

    old = (now or datetime.now(UTC)) - OLD
    client, removed = engine.client, []
    with engine.errors():
        found = client.containers.list(all=True, filters={"label": f"{LABEL}={of}"}, ignore_removed=True)
        for server in found:
            if server.labels.get(BY_LABEL) != by and datetime.fromisoformat(server.attrs["Created"]) > old:
                continue
            try:
                server.remove(force=True, v=True)
            except docker.errors.APIError as error:
                if error.status_code in (404, 409):  # another one was quicker, or is about to
                    continue
                raise
            removed.append(str(server.name))
    return removed


def _end_of(engine: Engine, made: str) -> str:
    """What became of a server that is not there any more."""
    import docker.errors

    client = engine.client
    with contextlib.suppress(EngineError), engine.errors():
        try:
            state = client.containers.get(made).attrs["State"]
        except docker.errors.NotFound:
            return "was removed"
        if state.get("OOMKilled"):
            return "ran out of memory"
        if not state.get("Running"):
            return f"has ended (exit code {state.get('ExitCode')})"
    return "stopped answering"


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
