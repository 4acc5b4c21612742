"""The ways of restoring one and the same backup that are compared, on one server. Each gets a fresh database."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figures import Result
from bench.measure import BenchError
from bench.program import Workbench
from bench.ways import RESTORED, Way

PSQL = "`gunzip -c \\| docker exec -i psql`"
PG_RESTORE = "`pg_restore -j2` from a directory dump"
SERIAL = "hubbackup restore --jobs 1"
PARALLEL = "hubbackup restore"
BEFORE = "hubbackup restore, before"
DRILL = "hubbackup drill"
DUMP = "/var/tmp/hubbackup-bench.dump"
"""In the database's container: what pg_restore reads."""


@dataclass(frozen=True)
class Kept:
    """A backup to be restored: the directory that holds it, and the program that made it."""

    directory: Path
    database: str
    name: str
    plain_bytes: int


def make(bench: Workbench, database: str, directory: str) -> Kept:
    """A backup by hubbackup. Raises BenchError."""
    made = bench.backup(database, keep_in=directory)
    (file,) = (bench.directory / directory).glob("*.sql.gz")
    return Kept(bench.directory / directory, database, file.name, made.plain_bytes or 0)


def make_directory_dump(bench: Workbench, database: str) -> None:
    """What pg_restore restores, in the container."""
    argv = [*bench.container.exec_argv, "sh", "-c"]
    bench.watch.measure([*argv, f"rm -rf {DUMP}; pg_dump --format=directory --jobs=2 --file={DUMP} {database}"])


def copy_directory_dump(bench: Workbench, other: Workbench) -> None:
    """The same into another container."""
    source = shlex.join(["docker", "exec", bench.container.name, "tar", "-C", "/var/tmp", "-c", Path(DUMP).name])
    target = shlex.join(["docker", "exec", "--interactive", other.container.name, "tar", "-C", "/var/tmp", "-x"])
    bench.watch.shell(f"docker exec {other.container.name} rm -rf {DUMP} && {source} | {target}")


@dataclass(frozen=True)
class Restores:
    """Restores of `kept` on the server of `bench`."""

    bench: Workbench
    kept: Kept

    def by_psql(self) -> Result:
        """The guide's gunzip into psql, which proves nothing."""
        self._fresh()
        exec_argv = self.bench.container.exec_argv
        docker = shlex.join([*exec_argv[:2], "--interactive", *exec_argv[2:]])
        into = f"psql --no-psqlrc --quiet --output=/dev/null --set=ON_ERROR_STOP=1 --dbname={RESTORED}"
        file = shlex.quote(str(self.kept.directory / self.kept.name))
        done = self.bench.watch.shell(f"gunzip -c {file} | {docker} {into}")
        self._drop()
        return Result(done.seconds, done.busy_seconds, plain_bytes=self.kept.plain_bytes)

    def by_pg_restore(self) -> Result:
        """Two sessions, from a dump in the container, which proves nothing either."""
        self._fresh()
        restore = ["pg_restore", "--jobs=2", "--exit-on-error", f"--dbname={RESTORED}", DUMP]
        done = self.bench.watch.measure([*self.bench.container.exec_argv, *restore])
        self._drop()
        return Result(done.seconds, done.busy_seconds)

    def by_hubbackup(self, *options: str) -> Result:
        """Proof, comparison and statistics included."""
        self._drop()
        said, done = self._run("restore", self.kept.name, "--into", RESTORED, "--yes", *options)
        if said["database"] != RESTORED:
            raise BenchError(f"hubbackup said {said}")
        self._drop()
        return self._result(said, done, said["seconds"])

    def drill(self) -> Result:
        """Into a server of its own."""
        said, done = self._run("drill", self.kept.name)
        return self._result(said, done, said["rto_seconds"])

    def _run(self, *arguments: str) -> tuple[dict[str, Any], Any]:
        environment = self.bench.settings(self.kept.database, self.kept.directory)
        done = self.bench.run(*arguments, "--json", environment=environment)
        return json.loads(done.output), done

    def _result(self, said: dict[str, Any], done: Any, seconds: float) -> Result:
        return Result(
            done.seconds,
            done.busy_seconds,
            peak_bytes=done.peak_bytes,
            cpu_seconds=done.cpu_seconds,
            run_seconds=seconds,
            load_seconds=said.get("load_seconds"),
        )

    def _fresh(self) -> None:
        self._drop()
        self.bench.container.psql(f"CREATE DATABASE {RESTORED}")

    def _drop(self) -> None:
        """Which writes all that is dirty to the disk: the next way begins on a quiet server."""
        self.bench.container.psql(f"DROP DATABASE IF EXISTS {RESTORED}")


def ways(restores: Restores, before: Restores | None = None, *, with_drill: bool = False) -> list[Way]:
    """All that is compared; `before` is an earlier version, on a backup of its own."""
    found = [
        Way(PSQL, restores.by_psql),
        Way(PG_RESTORE, restores.by_pg_restore),
        Way(PARALLEL, restores.by_hubbackup),
        Way(SERIAL, lambda: restores.by_hubbackup("--jobs", "1")),
    ]
    if before is not None:
        found.append(Way(BEFORE, before.by_hubbackup))
    if with_drill:
        found.append(Way(DRILL, restores.drill))
    return found


def remove_drill_servers(bench: Workbench) -> None:
    """What a stopped drill would leave behind."""
    asked = ["docker", "ps", "--all", "--quiet", "--filter"]
    label = f"label=org.hubbackup.restore.drill-of={bench.container.name}"
    left = subprocess.run([*asked, label], capture_output=True, text=True, check=False).stdout.split()
    if left:
        subprocess.run(["docker", "rm", "--force", "--volumes", *left], capture_output=True, check=False)
