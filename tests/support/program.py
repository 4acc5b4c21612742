"""The program as its users run it: a process of its own, settings in its environment, output to be read."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from hubbackup.catalog.backup import BackupName, Manifest
from tests.support.embedded_postgres import EmbeddedPostgres

ROOT = Path(__file__).parents[2]
LONGEST_SECONDS = 60
OF_THE_MACHINE = ("PATH", "HOME", "LANG", "TMPDIR")


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
    settings: dict[str, str] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    """What the command is started by, such as `setpriv`."""

    @property
    def backups(self) -> Path:
        """BACKUP_DIR."""
        return Path(self.settings["BACKUP_DIR"])

    def env(self, **more: str) -> dict[str, str]:
        """The environment of a run."""
        machine = {name: os.environ[name] for name in OF_THE_MACHINE if name in os.environ}
        return {
            **machine,
            "PYTHONPATH": str(ROOT),
            "HUBBACKUP_RUNTIME_DIR": str(self.directory / "run"),
            **self.settings,
            **more,
        }

    def start(self, *arguments: str, code: str = "", **more: str) -> subprocess.Popen[str]:
        """Start the program (or, with `code`, Python code that ends in it); the caller waits for it."""
        launch = ["-c", code] if code else ["-m", "hubbackup"]
        return subprocess.Popen(
            [*self.before, sys.executable, *launch, *arguments],
            env=self.env(**more),
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **more: str) -> Done:
        """Run a command to its end."""
        return finish(self.start(*arguments, **more))

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
        changes = {"name": str(older), "started_at": manifest.started_at - age}
        (self.backups / str(older)).write_bytes((self.backups / name).read_bytes())
        (self.backups / older.manifest).write_bytes(manifest.model_copy(update=changes).to_json())
        return str(older)


def beside(name: str) -> str:
    """The manifest's name."""
    parsed = BackupName.parse(name)
    assert parsed is not None, name
    return parsed.manifest


def for_server(server: EmbeddedPostgres, database: str, directory: Path, **settings: str) -> Program:
    """The program over libpq, with the server's own pg_dump; BACKUP_DIR is `directory`/backups."""
    backups = directory / "backups"
    backups.mkdir(parents=True, exist_ok=True)
    return Program(
        directory,
        {
            "BACKUP_SOURCE": "direct",
            "PATH": f"{server.bin_dir}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PGHOST": server.host,
            "PGPORT": str(server.port),
            "POSTGRES_USER": server.user,
            "POSTGRES_PASSWORD": server.password,
            "POSTGRES_DB": database,
            "BACKUP_DIR": str(backups),
            **settings,
        },
    )


def finish(process: subprocess.Popen[str], timeout_seconds: float = LONGEST_SECONDS) -> Done:
    """Wait for a started program; it is killed where it does not end."""
    try:
        out, err = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"the program did not end in {timeout_seconds} s\n{out}\n{err}") from None
    return Done(process.returncode, out, err)


def wait_until(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Poll until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not in {seconds} s")
        time.sleep(0.002)


@contextmanager
def in_the_middle(program: Program, *arguments: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    """A backup that is stopped (SIGSTOP) while its file grows; it goes on when the block ends or by SIGCONT."""
    process = program.start("backup", *arguments, **more)
    try:
        wait_until(
            lambda: any(path.stat().st_size for path in existing(program.backups.glob("*.partial"))),
            "a growing file",
        )
        process.send_signal(signal.SIGSTOP)
        assert list(program.backups.glob("*.partial")), "the dump was over before it could be stopped: make it larger"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        if process.poll() is None and sys.exc_info()[0] is not None:
            process.kill()


def existing(paths: Iterator[Path]) -> list[Path]:
    """Those that have not vanished meanwhile."""
    return [path for path in paths if path.exists()]


@contextmanager
def locked_table(server: EmbeddedPostgres, database: str, table: str) -> Iterator[None]:
    """Somebody holds an ACCESS EXCLUSIVE lock: pg_dump waits for it."""
    psql = subprocess.Popen(
        [server.bin_dir / "psql", "-X", "-q", "-A", "-t", "-d", database],
        env=server.env(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert psql.stdin is not None
    assert psql.stdout is not None
    psql.stdin.write(f"BEGIN; LOCK TABLE {table}; SELECT 'locked';\n")
    psql.stdin.flush()
    assert psql.stdout.readline() == "locked\n"
    try:
        yield
    finally:
        psql.communicate("ROLLBACK;\n", timeout=10)


def our_backends(server: EmbeddedPostgres, database: str) -> list[int]:
    """The process ids of the server's backends that a run of ours uses."""
    found = server.psql(
        "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'hubbackup-%' AND datname = :'name'",
        variables={"name": database},
    )
    return [int(pid) for pid in found.split()]
