"""A database server in a container, as the application's own is: reached by exec, and by nothing else as a rule."""

from __future__ import annotations

import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hubbackup.runners.throwaway import LABEL
from tests.support import Psql, psql_through

USER, DATABASE = "hubchantier", "hub_chantier"
START_SECONDS = 120
QUICK = ("postgres", "-cfsync=off", "-cfull_page_writes=off")


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
    run = ["docker", "run", "--detach", f"--network={network}", f"--name={name}", *account, image, *QUICK]
    run += [f"-c{setting}={value}" for setting, value in (settings or {}).items()]
    subprocess.run(run, check=True, capture_output=True)
    try:
        # By TCP: the server that the image starts for initdb has only its socket.
        ready = ["docker", "exec", name, "pg_isready", "-h127.0.0.1", f"-U{user}"]
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run(ready, capture_output=True).returncode != 0:
            assert time.monotonic() < deadline, "the database container does not come up"
            time.sleep(0.1)
        yield name
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True)


def psql_of(container: str, user: str = USER) -> Psql:
    """The container's own psql."""
    return psql_through("docker", "exec", "-i", container, "psql", "-U", user)


def psql_in(container: str, sql: str) -> str:
    """What psql prints for `sql` in the container's database."""
    return psql_of(container)(sql, database=DATABASE)


def image_with(base: str, *packages: str, files: Mapping[str, str] | None = None) -> str:
    """An image made of `base`, Debian packages and files by their paths; built once, in some seconds."""
    lines = [f"FROM {base}"]
    if packages:
        lines.append(f"RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends {' '.join(packages)}")
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
