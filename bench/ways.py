"""The ways of making a backup, and of restoring one, that are compared. Each is timed whole.

A way of making one leaves its file behind, to be sized; a way of restoring one gets a fresh database, dropped after.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Result
from bench.measure import BenchError
from bench.program import AUTOGROUP, Workbench

FLOOR = "floor: `pg_dump > /dev/null` inside the container"
EXEC = "`docker exec pg_dump`, thrown away on the host"
GZIP = "`pg_dump | gzip` in the container"
PIGZ = "`pg_dump | pigz -1` in the container"
ZLIB_1 = "`pg_dump -Z1`"
GZIP_UPLOAD = "`pg_dump | gzip` in the container, then upload by curl"
RESTIC = "restic"
LOCAL_HASH = "hubbackup, BACKUP_VERIFY=hash"
LOCAL_ZSTD = "hubbackup, BACKUP_COMPRESSION=zstd, BACKUP_VERIFY=hash"
LOCAL_FULL = "hubbackup, default (BACKUP_VERIFY=full)"
LOCAL_S3 = "hubbackup, default, local disk and S3 at once"
LOCAL_RELAYED = "hubbackup, DB_DATA_CONNECTION=false, BACKUP_VERIFY=hash"
RESTORE_PLAIN = "restore: `gunzip -c | docker exec -i psql`"
RESTORE = "restore: hubbackup, proof and comparison included"
RESTORED = "restored"
FEW_ROUNDS = 2


@dataclass(frozen=True)
class Way:
    """A name for the table, and what to run. `rounds`: in how many of them at most; None: in all."""

    name: str
    run: Callable[[], Result]
    rounds: int | None = None


def ways(bench: Workbench, database: str, *, with_peers: bool) -> tuple[list[Way], list[str]]:
    """What can be run here, and a note for each that can't. Without peers: only what the goals of a backup need."""
    docker = shlex.join(bench.container.exec_argv)
    dump = f"pg_dump --format=plain {database}"

    def piped(pipeline: str) -> Result:
        target = bench.fresh() / "dump"
        done = bench.watch.shell(f"{pipeline} > {shlex.quote(str(target))}")
        return Result(done.seconds, done.busy_seconds, target.stat().st_size)

    def thrown_away(pipeline: str) -> Result:
        done = bench.watch.shell(pipeline)
        return Result(done.seconds, done.busy_seconds)

    gzip = f"{docker} bash -o pipefail -c '{dump} | gzip'"
    pigz = f"{docker} bash -o pipefail -c '{dump} | pigz -1'"
    found = [
        Way(FLOOR, lambda: thrown_away(f"{docker} sh -c '{dump} > /dev/null'")),
        Way(GZIP, lambda: piped(gzip)),
        Way(ZLIB_1, lambda: piped(f"{docker} {dump} -Z1")),
        Way(LOCAL_HASH, lambda: bench.backup(database, BACKUP_VERIFY="hash")),
        Way(LOCAL_ZSTD, lambda: bench.backup(database, BACKUP_VERIFY="hash", BACKUP_COMPRESSION="zstd")),
        Way(LOCAL_FULL, lambda: bench.backup(database)),
        Way(LOCAL_S3, lambda: bench.backup(database, s3=True)),
        Way(LOCAL_RELAYED, lambda: bench.backup(database, BACKUP_VERIFY="hash", DB_DATA_CONNECTION="false")),
    ]
    notes = []
    if not AUTOGROUP.exists():
        notes.append(
            "this kernel groups no sessions: hubbackup had the usual CPU weight, not that of its compose file"
        )
    if bench.container.pigz:
        found.insert(2, Way(PIGZ, lambda: piped(pigz)))
    else:
        notes.append("pigz is not installed here (apt-get install pigz), or does not run in the container")
    if with_peers:
        found.insert(1, Way(EXEC, lambda: thrown_away(f"{docker} {dump} > /dev/null"), FEW_ROUNDS))
        restores = Restores(bench, database)
        peers, lacking = _peers(bench, gzip, f"{docker} {dump}")
        notes += lacking
        found += [
            *peers,
            Way(RESTORE_PLAIN, restores.plainly),
            Way(RESTORE, restores.by_hubbackup),
        ]
    return found, notes


def _peers(bench: Workbench, gzip: str, dump: str) -> tuple[list[Way], list[str]]:
    """Whole backups as others make them, up to the copy that is elsewhere."""
    found, notes = [], []
    if shutil.which("curl"):
        found.append(Way(GZIP_UPLOAD, lambda: _uploaded(bench, gzip), FEW_ROUNDS))
    else:
        notes.append("curl is not installed here: no upload of `pg_dump | gzip`")
    if shutil.which("restic"):
        said = subprocess.run(["restic", "version"], capture_output=True, text=True, check=False).stdout
        version = tuple(int(part) for part in re.findall(r"\d+", said)[:2])
        from_command = version >= (0, 17)
        name = f"{RESTIC} {'.'.join(map(str, version))}, " + ("--stdin-from-command" if from_command else "--stdin")
        found.append(Way(name, lambda: _by_restic(bench, dump, from_command), FEW_ROUNDS))
        if not from_command:
            notes.append(f"restic {'.'.join(map(str, version))} has no --stdin-from-command (0.17): --stdin it is")
    else:
        notes.append("restic is not installed here (apt-get install restic)")
    return found, notes


def _uploaded(bench: Workbench, gzip: str) -> Result:
    target = shlex.quote(str(bench.fresh() / "dump.sql.gz"))
    served = bench.s3.cpu_seconds
    upload = f"curl --silent --show-error --fail --output /dev/null --upload-file {target}"
    done = bench.watch.shell(f"{gzip} > {target} && {upload} {bench.s3.endpoint}/bench/dump.sql.gz")
    served = bench.s3.cpu_seconds - served
    size = Path(shlex.split(target)[0]).stat().st_size
    return Result(done.seconds, done.busy_seconds, size, s3_cpu_seconds=served)


def _by_restic(bench: Workbench, dump: str, from_command: bool) -> Result:
    """Into an empty repository on the same disk, which is made before the clock starts."""
    repository = bench.fresh()
    environment = bench.environment() | {"RESTIC_REPOSITORY": str(repository), "RESTIC_PASSWORD": "bench"}
    bench.watch.measure(["restic", "init", "--quiet", "--no-cache"], environment)
    backup = "restic backup --quiet --no-cache --stdin-filename dump.sql"
    pipeline = f"{backup} --stdin-from-command -- {dump}" if from_command else f"{dump} | {backup} --stdin"
    done = bench.watch.shell(pipeline, environment)
    size = sum(path.stat().st_size for path in repository.rglob("*") if path.is_file())
    return Result(done.seconds, done.busy_seconds, size)


class Restores:
    """Both ways of restoring one and the same backup, made at first use, into a new database."""

    def __init__(self, bench: Workbench, database: str) -> None:
        self._bench = bench
        self._database = database
        self._kept = bench.directory / "kept"

    def plainly(self) -> Result:
        """The guide's gunzip into psql, which proves nothing."""
        file = shlex.quote(str(self._backup()))
        psql = self._bench.container.psql
        psql(f"DROP DATABASE IF EXISTS {RESTORED}")
        psql(f"CREATE DATABASE {RESTORED}")
        exec_argv = self._bench.container.exec_argv
        docker = shlex.join([*exec_argv[:2], "--interactive", *exec_argv[2:]])
        into = f"psql --no-psqlrc --quiet --output=/dev/null --set=ON_ERROR_STOP=1 --dbname={RESTORED}"
        done = self._bench.watch.shell(f"gunzip -c {file} | {docker} {into}")
        psql(f"DROP DATABASE {RESTORED}")
        return Result(done.seconds, done.busy_seconds)

    def by_hubbackup(self) -> Result:
        """`hubbackup restore --into`."""
        file = self._backup()
        self._bench.container.psql(f"DROP DATABASE IF EXISTS {RESTORED}")
        arguments = ("restore", file.name, "--into", RESTORED, "--yes", "--json")
        environment = self._bench.settings(self._database, self._kept)
        done = self._bench.run(*arguments, environment=environment)
        said = json.loads(done.output)
        if said["database"] != RESTORED:
            raise BenchError(f"hubbackup said {done.output}")
        self._bench.container.psql(f"DROP DATABASE {RESTORED}")
        return Result(
            done.seconds,
            done.busy_seconds,
            peak_bytes=done.peak_bytes,
            cpu_seconds=done.cpu_seconds,
            run_seconds=said["seconds"],
        )

    def _backup(self) -> Path:
        if not next(self._kept.glob("*.sql.gz"), None):
            self._bench.backup(self._database, keep_in=self._kept.name)
        return next(self._kept.glob("*.sql.gz"))
