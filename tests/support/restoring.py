"""What the tests of `restore` share: a server with a database to damage, and the program as its users call it."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest import mock

from hubbackup import cli
from tests.support import Psql, psql_through
from tests.support.embedded_postgres import EmbeddedPostgres

ROOT = Path(__file__).parents[2]
DATABASE = "hub_chantier"
SMALL = """
CREATE TABLE chantiers (id int PRIMARY KEY, nom text NOT NULL, note text);
INSERT INTO chantiers SELECT g, 'chantier ' || g, repeat(md5(g::text), 4) FROM generate_series(1, 2000) g;
CREATE TABLE utilisateurs (id int PRIMARY KEY, chantier int REFERENCES chantiers, nom text);
INSERT INTO utilisateurs SELECT g, g, md5(g::text) FROM generate_series(1, 1000) g;
CREATE INDEX ON utilisateurs (nom);
"""
"""Two tables, some 400 kB: enough to be cut anywhere, little enough to be restored a hundred times."""


@dataclass(frozen=True)
class Done:
    """How one call of the program ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document of `--json`."""
        return json.loads(self.out)

    @property
    def said(self) -> str:
        """All of it, for a failing assertion."""
        return f"exit code {self.code}\n{self.out}\n{self.err}"


@dataclass
class Hub:
    """The program with the settings of one server and one backup directory."""

    psql: Psql
    directory: Path
    settings: Mapping[str, str]
    database: str = DATABASE
    user: str = "hubchantier"
    environment: dict[str, str] = field(default_factory=dict)

    def env(self, **more: str) -> dict[str, str]:
        """The whole environment of the program: ours, without any setting of its own, and these."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "BACKUP_", "S3_"))}
        names = {"POSTGRES_DB": self.database, "BACKUP_DIR": str(self.directory), "PYTHONPATH": str(ROOT)}
        return {**plain, "HUBBACKUP_RUNTIME_DIR": str(self.directory / "run"), **names, **self.settings, **more}

    def __call__(self, *arguments: str, **more: str) -> Done:
        """The command line, in this process: what `python -m hubbackup` does, without its start."""
        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, self.env(**more), clear=True),
            mock.patch("sys.stdin", io.StringIO()),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            _logs_and_signals_kept(),
        ):
            code = cli.run(arguments)
        return Done(code, out.getvalue(), err.getvalue())

    def process(self, *arguments: str, **more: str) -> Done:
        """The same as a process of its own."""
        command = [sys.executable, "-m", "hubbackup", *arguments]
        done = subprocess.run(
            command, env=self.env(**more), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, output: Path) -> BaseProcess:
        """The same in the background, forked from a process that has the program loaded: for killing."""
        context = get_context("forkserver")
        context.set_forkserver_preload(["tests.support.restoring", "hubbackup.app", "hubbackup.restore.job"])
        process = context.Process(target=_run_in_fork, args=(list(arguments), self.env(), str(output)))
        process.start()
        return process

    def backup(self, **more: str) -> Path:
        """Take a backup; returns its file."""
        done = self("backup", "--json", **more)
        assert done.code == 0, done.said
        return self.directory / done.json["name"]

    def databases(self) -> set[str]:
        """Every database of the server."""
        return set(json.loads(self.psql("SELECT jsonb_agg(datname) FROM pg_database")))

    def derived(self, word: str) -> list[str]:
        """The databases that restores of ours put aside (`before`), or left (`restore`)."""
        return sorted(name for name in self.databases() if name.startswith(f"{self.database}_{word}_"))

    def sessions(self) -> list[str]:
        """What hubbackup still has open on the server."""
        return self.psql(
            "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'hubbackup-%'"
        ).splitlines()

    def drop(self, *names: str) -> None:
        """Remove databases."""
        for name in names:
            self.psql('DROP DATABASE IF EXISTS :"name" WITH (FORCE);', variables={"name": name})


def embedded_hub(server: EmbeddedPostgres, directory: Path, database: str = DATABASE) -> Hub:
    """The program with the `direct` runner on an embedded server."""
    settings = {
        "PATH": server.env()["PATH"],
        "BACKUP_SOURCE": "direct",
        "POSTGRES_USER": server.user,
        "POSTGRES_PASSWORD": server.password,
        "PGHOST": server.host,
        "PGPORT": str(server.port),
    }
    return Hub(server.psql, directory, settings, database, server.user)


def container_hub(container: str, directory: Path, user: str = "hubchantier", database: str = DATABASE) -> Hub:
    """The program with the `docker` runner on a container."""
    psql = psql_through("docker", "exec", "-i", container, "psql", "-U", user)
    settings = {"POSTGRES_USER": user, "POSTGRES_PASSWORD": "x", "DB_CONTAINER": container}
    return Hub(psql, directory, settings, database, user)


@contextmanager
def container(major: int, user: str = "hubchantier", database: str = DATABASE) -> Iterator[str]:
    """A database container without a network, removed at the end; gives its name."""
    name = f"hub-restore-{secrets.token_hex(4)}"
    options = ["--network=none", f"--name={name}", f"-ePOSTGRES_USER={user}", f"-ePOSTGRES_DB={database}"]
    options += ["-ePOSTGRES_PASSWORD=x", "-ePOSTGRES_INITDB_ARGS=--no-sync"]
    server = ["postgres", "-cfsync=off", "-cfull_page_writes=off"]
    subprocess.run(
        ["docker", "run", "--detach", *options, f"postgres:{major}", *server], check=True, capture_output=True
    )
    try:
        ready = ["docker", "exec", name, "pg_isready", "-h127.0.0.1", f"-U{user}"]
        deadline = time.monotonic() + 60
        while subprocess.run(ready, capture_output=True).returncode != 0:
            assert time.monotonic() < deadline, "the database container does not come up"
            time.sleep(0.1)
        yield name
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True)


def plain_of(file: Path) -> bytes:
    """A backup's dump."""
    return gzip.decompress(file.read_bytes())


def unproven(directory: Path, plain: bytes, name: str = "from_elsewhere.sql.gz") -> Path:
    """A dump as a file without a manifest, whose gzip is right."""
    path = directory / name
    path.write_bytes(gzip.compress(plain, 1))
    return path


@contextmanager
def _logs_and_signals_kept() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        root.handlers[:], logging.raiseExceptions = handlers, raising
        root.setLevel(level)
        for number, handler in previous.items():
            signal.signal(number, handler)


def _run_in_fork(arguments: list[str], environment: dict[str, str], output: str) -> None:
    """The program, in a process forked for it; it ends with the program's exit code."""
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    code = cli.run(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
