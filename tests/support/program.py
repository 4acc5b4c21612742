"""The program as its users run it: a process of its own, settings in its environment, output to be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from hubbackup.catalog.backup import BackupName, Manifest
from tests.support import Psql, forked, psql_through
from tests.support.backups import key_in
from tests.support.containers import DATABASE, USER, psql_of
from tests.support.embedded_postgres import EmbeddedPostgres

ROOT = Path(__file__).parents[2]
NO_SERVER = psql_through("false")
LONGEST_SECONDS = 120
OF_THE_MACHINE = ("PATH", "HOME", "LANG", "TMPDIR", "DOCKER_HOST")


@dataclass(frozen=True)
class Done:
    """A run that ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document of `--json`."""
        return json.loads(self.out)

    @property
    def said(self) -> str:
        """All of it, for a failing assertion."""
        return f"exit code {self.code}\n{self.out}\n{self.err}"

    @property
    def events(self) -> list[dict[str, Any]]:
        """The log, which the command line writes to stderr."""
        return [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]

    @property
    def sentences(self) -> list[str]:
        """What is on stderr beside the log."""
        return [line for line in self.err.splitlines() if not line.startswith("{")]

    def event(self, name: str) -> dict[str, Any]:
        """The one log line with this event id."""
        (found,) = [event for event in self.events if event["event"] == name]
        return found


@dataclass
class Program:
    """hubbackup for one database and one directory; `settings` go into its environment beside nothing of ours."""

    directory: Path
    """Where it runs; BACKUP_DIR is `backups` in it, unless the settings say otherwise."""
    settings: dict[str, str] = field(default_factory=dict)
    psql: Psql = NO_SERVER
    """What a superuser can do on its server; no server: it fails."""
    before: list[str] = field(default_factory=list)
    """What the command is started by, such as `setpriv`."""

    def __post_init__(self) -> None:
        self.backups.mkdir(parents=True, exist_ok=True)

    @property
    def backups(self) -> Path:
        """BACKUP_DIR."""
        return Path(self.settings.get("BACKUP_DIR", self.directory / "backups"))

    @property
    def database(self) -> str:
        """POSTGRES_DB."""
        return self.settings["POSTGRES_DB"]

    def but(self, **settings: str) -> Program:
        """The same with other settings."""
        return replace(self, settings={**self.settings, **settings})

    def env(self, **more: str) -> dict[str, str]:
        """The environment of a run."""
        machine = {name: os.environ[name] for name in OF_THE_MACHINE if name in os.environ}
        return {
            **machine,
            "PYTHONPATH": str(ROOT),
            "HUBBACKUP_RUNTIME_DIR": str(self.directory / "run"),
            "BACKUP_DIR": str(self.backups),
            **self.settings,
            **more,
        }

    def start(self, *arguments: str, code: str = "", **more: str) -> subprocess.Popen[str]:
        """Start a fresh interpreter with the program (or, with `code`, Python code that ends in it); `finish` it."""
        launch = ["-c", code] if code else ["-m", "hubbackup"]
        return subprocess.Popen(
            [*self.before, sys.executable, *launch, *arguments],
            env=self.env(**more),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def fork(self, *arguments: str, output: Path, **more: str) -> forked.Forked:
        """Start the program from the loaded one, its output in a file: for what is to be killed at any moment."""
        with output.open("wb") as file:
            return forked.start(arguments, self.env(**more), self.directory, file.fileno(), file.fileno())

    def run(self, *arguments: str, **more: str) -> Done:
        """Run a command to its end, with nothing on stdin."""
        if self.before:
            return finish(self.start(*arguments, **more))
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = forked.start(arguments, self.env(**more), self.directory, out.fileno(), err.fileno())
            code = process.wait(LONGEST_SECONDS)
            if code is None:
                process.kill()
            out.seek(0)
            err.seek(0)
            told = out.read(), err.read()
        assert code is not None, f"the program did not end in {LONGEST_SECONDS} s\n{told}"
        return Done(code, *told)

    def backup(self, **more: str) -> Path:
        """Take a good backup; returns its file."""
        done = self.run("backup", "--json", **more)
        assert done.code == 0, done.said
        return self.backups / str(done.document["name"])

    def databases(self) -> set[str]:
        """Every database of the server."""
        return set(json.loads(self.psql("SELECT jsonb_agg(datname) FROM pg_database")))

    def derived(self, word: str) -> list[str]:
        """The databases that restores of ours put aside (`before`), or left (`restore`)."""
        return sorted(name for name in self.databases() if name.startswith(f"{self.database}_{word}_"))

    def sessions(self) -> list[str]:
        """What hubbackup still has open on the server."""
        ours = "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'hubbackup-%'"
        return self.psql(ours).splitlines()

    def drop(self, *names: str) -> None:
        """Remove databases."""
        for name in names:
            self.psql('DROP DATABASE IF EXISTS :"name" WITH (FORCE);', variables={"name": name})

    def files(self) -> dict[str, bytes]:
        """What lies in BACKUP_DIR, but for our own state."""
        return {path.name: path.read_bytes() for path in self.backups.iterdir() if path.is_file()}

    def manifest(self, name: str) -> Manifest:
        """The manifest beside a backup."""
        return Manifest.from_json((self.backups / beside(name)).read_bytes(), name=name)

    def redate(self, name: str, age: timedelta) -> str:
        """Copy a backup as if it had been made `age` earlier; returns its name."""
        manifest = self.manifest(name)
        parsed = BackupName.parse(name)
        assert parsed is not None
        older = replace(parsed, local_time=parsed.local_time - age)
        started_at, finished_at = manifest.started_at - age, manifest.finished_at - age
        changes = {"name": str(older), "started_at": started_at, "finished_at": finished_at}
        (self.backups / str(older)).write_bytes((self.backups / name).read_bytes())
        (self.backups / older.manifest).write_bytes(self.signed(manifest.model_copy(update=changes)).to_json())
        return str(older)

    def signed(self, manifest: Manifest) -> Manifest:
        """As the program itself would sign it."""
        key = key_in(self.backups, self.settings.get("BACKUP_MANIFEST_KEY", "")).trust().key
        return manifest.signed(key) if key is not None else manifest


def beside(name: str) -> str:
    """The manifest's name."""
    parsed = BackupName.parse(name)
    assert parsed is not None, name
    return parsed.manifest


def seeing(program: Program, shown: Mapping[str, Path]) -> Program:
    """The program in a world of its own, in which each path shows another one; it starts afresh there."""
    binds = "".join(f"/bin/mount --bind '{there}' '{path}' && " for path, there in shown.items())
    root = [] if os.geteuid() == 0 else ["--map-root-user"]
    return replace(program, before=["/usr/bin/unshare", "--mount", *root, "/bin/sh", "-c", f'{binds}exec "$0" "$@"'])


def without_tools(program: Program, directory: Path) -> Program:
    """The program where PostgreSQL's client tools are nowhere; `directory` is empty."""
    there = Path("/usr/lib/postgresql")
    return seeing(program.but(PATH=str(directory)), {str(there): directory} if there.is_dir() else {})


def for_server(server: EmbeddedPostgres, database: str, directory: Path, **settings: str) -> Program:
    """The program over libpq, with the server's own pg_dump."""
    named = {
        "BACKUP_SOURCE": "direct",
        "PATH": f"{server.bin_dir}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PGHOST": server.host,
        "PGPORT": str(server.port),
        "POSTGRES_USER": server.user,
        "POSTGRES_PASSWORD": server.password,
        "POSTGRES_DB": database,
        "DRILL_TARGET": "database",
        "BACKUP_SCHEMA_DRILL": "false",
        "RESTORE_JOBS": "2",  # as large databases are loaded, though the tests' are small
    }
    return Program(directory, {**named, **settings}, server.psql)


def for_container(
    container: str, directory: Path, user: str = USER, database: str = DATABASE, **settings: str
) -> Program:
    """The program over the Docker engine, by exec in the database's container."""
    named = {"POSTGRES_USER": user, "POSTGRES_PASSWORD": "x", "POSTGRES_DB": database, "DB_CONTAINER": container}
    named["BACKUP_SCHEMA_DRILL"] = "false"  # a server of its own for each first backup
    named["RESTORE_JOBS"] = "2"
    return Program(directory, {**named, **settings}, psql_of(container, user))


def finish(process: subprocess.Popen[str], timeout_seconds: float = LONGEST_SECONDS) -> Done:
    """Wait for a started program; it is killed where it does not end."""
    try:
        out, err = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"the program did not end in {timeout_seconds} s\n{out}\n{err}") from None
    return Done(process.returncode, out, err)
