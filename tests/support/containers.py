"""A database server in a container, as the application's own is: reached by exec, and by nothing else as a rule."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

USER, DATABASE = "hub", "hub_chantier"
START_SECONDS = 60


@contextmanager
def postgres_container(image: str = "postgres:17", network: str = "none") -> Iterator[str]:
    """Start it, with an empty database; its name. Removed at the end with its data.

    In the `network` named `bridge` it can connect to this machine, and so take the data connection.
    """
    name = f"hub-test-{time.time_ns():x}"
    account = [f"-ePOSTGRES_USER={USER}", "-ePOSTGRES_PASSWORD=x", f"-ePOSTGRES_DB={DATABASE}"]
    run = ["docker", "run", "--detach", f"--network={network}", f"--name={name}", *account, image]
    subprocess.run(run, check=True, capture_output=True)
    try:
        ready = ["docker", "exec", name, "pg_isready", "-h127.0.0.1", f"-U{USER}"]
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run(ready, capture_output=True).returncode != 0:
            assert time.monotonic() < deadline, "the database container does not come up"
            time.sleep(0.2)
        yield name
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True)


def psql_in(container: str, sql: str) -> str:
    """What psql prints for `sql`."""
    command = ["docker", "exec", "-i", container, "psql", "-qAtv", "ON_ERROR_STOP=1", f"-U{USER}", DATABASE]
    return subprocess.run(command, input=sql, text=True, check=True, capture_output=True).stdout
