"""A real psql that is given a text, and whether it ran the canary in it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.embedded_postgres import EmbeddedPostgres, bin_dir_of, installed_versions
from tests.support.hostile_dumps import CANARY

TABLES = "CREATE TABLE public.t (a text, b text, stdin text);"
KEY = b"canary"
SECONDS = 20


@dataclass(frozen=True)
class Psqls:
    """The psql of each major version at hand, before one server."""

    server: EmbeddedPostgres
    database: str

    def runs_the_canary(self, major: int, text: bytes, *, stops: bool, restricted: bool = False) -> bool:
        """Whether that psql said the canary. `stops`: at the first error, in fresh tables, as a restore does."""
        if stops:
            self.server.psql(f"DROP SCHEMA public CASCADE; CREATE SCHEMA public; {TABLES}", database=self.database)
        done = subprocess.run(
            [str(bin_dir_of(major) / "psql"), "-qXAt", f"--set=ON_ERROR_STOP={int(stops)}"],
            input=(b"\\restrict " + KEY + b"\n" if restricted else b"") + text,
            env=self._env(),
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
        return CANARY in done.stdout

    def _env(self) -> dict[str, str]:
        names = {"PGHOST": str(self.server.socket_directory), "PGDATABASE": self.database, "EDITOR": "/bin/false"}
        return self.server.env() | names | {"PGOPTIONS": "-c client_min_messages=warning -c statement_timeout=5s"}


@contextmanager
def psqls(major: int) -> Iterator[Psqls]:
    """A server of that version, whose socket asks for no password: that saves a third of the time."""
    with EmbeddedPostgres(major) as server:
        hba = server.data_directory / "pg_hba.conf"
        hba.write_text("local all all trust\n" + hba.read_text())
        server.psql("SELECT pg_reload_conf();")
        with server.temporary_database("canary") as database:
            server.psql(TABLES, database=database)
            yield Psqls(server, database)


def majors() -> list[int]:
    """Whose psql is here."""
    return sorted(installed_versions())
