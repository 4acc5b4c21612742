"""What the tests stand on: real servers, a sample database, and a fingerprint to compare two databases by.

`Psql` is the seam between them. The sample and the fingerprint only need something that runs psql, so they
work alike on an embedded server (`EmbeddedPostgres.psql`) and in a container (`psql_through("docker", …)`).
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from typing import Protocol

# What a test does to a database (`ALTER DATABASE … SET statement_timeout = '1ms'`) must not end the test's own psql.
WITHOUT_TIMEOUT = " options='-c statement_timeout=0'"

PSQL_OPTIONS = ("-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1")


class PsqlError(AssertionError):
    """psql ended with an error; the message is what it wrote to stderr."""


class Psql(Protocol):
    """Runs a psql script in a database and returns what it prints, unaligned and without headers."""

    def __call__(
        self, sql: str, *, database: str = "postgres", variables: Mapping[str, str] | None = None
    ) -> str: ...


def conninfo(database: str) -> str:
    r"""The connection string that names `database` and nothing else, whatever characters are in its name.

    A bare `-d 'host=elsewhere'` or `-d 'postgresql://…'` would be read as a connection string, not as a name.
    """
    quoted = database.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{quoted}'"


def psql_through(*argv: str, env: Mapping[str, str] | None = None, timeout_seconds: float = 300) -> Psql:
    """A `Psql` that starts `argv` (a psql, or a command ending in one) with the options the tests need.

    `psql_through("docker", "exec", "-i", container, "psql", "-U", "hubchantier")` runs psql in a container.
    """

    def psql(sql: str, *, database: str = "postgres", variables: Mapping[str, str] | None = None) -> str:
        assignments = [f"--set={name}={value}" for name, value in (variables or {}).items()]
        done = subprocess.run(
            [*argv, *PSQL_OPTIONS, *assignments, "-d", conninfo(database) + WITHOUT_TIMEOUT],
            input=sql.encode(),
            capture_output=True,
            env=env,
            timeout=timeout_seconds,
            check=False,
        )
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()
            raise PsqlError(f"psql exited with {done.returncode} in database {database!r}: {said}")
        return done.stdout.decode().removesuffix("\n")

    return psql
