"""A database server in a container, as the application's own is: reached by exec, and by nothing else as a rule."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hubbackup.runners.throwaway import LABEL
from tests.support import Psql, psql_through
from tests.support.embedded_postgres import bin_dir_of, memory_disk

USER, DATABASE = "hubchantier", "hub_chantier"
START_SECONDS = 120
QUICK = ("postgres", "-cfsync=off", "-cfull_page_writes=off")
SOCKETS = "/var/run/postgresql"
"""Where a server in a container has its socket."""
NEWEST = 18
"""The psql that knows every server."""

_SOCKETS_OF: dict[str, str] = {}
"""The directories here that are SOCKETS in those containers."""


@contextmanager
def postgres_container(
    image: str = "postgres:17",
    network: str = "none",
    user: str = USER,
    database: str = DATABASE,
    settings: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Start it, with an empty database; its name. Removed at the end with its data.

    In the `network` named `bridge` it can connect to this machine, and so take the data connection.
    """
    name = f"hub-test-{secrets.token_hex(6)}"
    account = [f"-ePOSTGRES_USER={user}", "-ePOSTGRES_PASSWORD=x", f"-ePOSTGRES_DB={database}"]
    account += ["-ePOSTGRES_INITDB_ARGS=--no-sync"]
    run = ["docker", "run", "--detach", f"--network={network}", f"--name={name}", *account]
    with contextlib.ExitStack() as stack:
        if data := stack.enter_context(_memory()):
            run.append(f"--volume={data}:{_volume_of(image)}")
        if sockets := stack.enter_context(_memory()):
            Path(sockets).chmod(0o1777)
            run.append(f"--volume={sockets}:{SOCKETS}")
            _SOCKETS_OF[name] = sockets
            stack.callback(_SOCKETS_OF.pop, name)
        stack.callback(subprocess.run, ["docker", "rm", "--force", "--volumes", name], capture_output=True)
        run += [image, *QUICK, *(f"-c{setting}={value}" for setting, value in (settings or {}).items())]
        subprocess.run(run, check=True, capture_output=True)
        _wait_until_ready(name)
        yield name


@contextmanager
def _memory() -> Iterator[str]:
    """A directory in memory for what a server keeps; nothing where there is none, or it could not be removed.

    Not a tmpfs of the container: the engine shows nobody what is in one, so hubbackup could not see who owns it.
    """
    disk = memory_disk() if os.geteuid() == 0 else None
    if disk is None:
        yield ""
        return
    with tempfile.TemporaryDirectory(prefix="hub-data-", dir=disk) as directory:
        Path(directory).chmod(0o755)
        yield directory


@functools.cache
def _volume_of(image: str) -> str:
    """Where the image keeps its data."""
    inspect = ["docker", "image", "inspect", "--format={{json .Config.Volumes}}", image]
    (volume,) = json.loads(subprocess.run(inspect, check=True, capture_output=True, text=True).stdout)
    return str(volume)


def _wait_until_ready(container: str) -> None:
    """Read its log until the server answers: each question by `docker exec` would cost it a tenth of a second."""
    follow = ["docker", "logs", "--follow", container]
    with subprocess.Popen(follow, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as log:
        assert log.stdout is not None
        overdue = threading.Timer(START_SECONDS, log.kill)
        overdue.start()
        try:
            initialised = False  # before, it is the server that the image starts for initdb
            for line in log.stdout:
                initialised = initialised or "init process complete" in line
                if initialised and "ready to accept connections" in line:
                    return
        finally:
            overdue.cancel()
            log.kill()
    raise AssertionError("the database container does not come up")


def psql_of(container: str, user: str = USER) -> Psql:
    """A psql of the tests' own at the container's socket, else the container's: `docker exec` costs twenty times as
    much as psql does."""
    sockets = _SOCKETS_OF.get(container)
    if sockets is None:
        return psql_through("docker", "exec", "-i", container, "psql", "-U", user)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return psql_through(str(bin_dir_of(NEWEST) / "psql"), "-h", sockets, "-U", user, env=env)


def psql_in(container: str, sql: str) -> str:
    """What psql prints for `sql` in the container's database."""
    return psql_of(container)(sql, database=DATABASE)


def image_with(base: str, *packages: str, files: Mapping[str, str] | None = None) -> str:
    """An image made of `base`, Debian packages that it may have, and files by their paths; built once, in seconds."""
    lines = [f"FROM {base}"]
    if packages:
        install = "apt-get update -qq && apt-get install -qq -y --no-install-recommends"
        lines.append(f"RUN dpkg -s {' '.join(packages)} > /dev/null || {{ {install} {' '.join(packages)}; }}")
    with tempfile.TemporaryDirectory() as directory:
        for number, (path, text) in enumerate((files or {}).items()):
            (Path(directory) / str(number)).write_text(text, encoding="utf-8")
            lines.append(f"COPY {number} {path}")
        (Path(directory) / "Dockerfile").write_text("\n".join(lines), encoding="utf-8")
        built = subprocess.run(["docker", "build", "--quiet", directory], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return built.stdout.split()[-1]


def drill_containers(container: str) -> list[str]:
    """The throwaway servers that there are of this database's container, running or not."""
    command = ["docker", "ps", "-aq", f"--filter=label={LABEL}={container}"]
    return subprocess.run(command, text=True, check=True, capture_output=True).stdout.split()
