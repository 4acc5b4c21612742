"""The `direct` runner: the database's tools as local processes that reach the server over libpq."""

from __future__ import annotations

import contextlib
import copy
import fcntl
import os
import select
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import FileIO
from typing import cast

from hubbackup.errors import RunnerError, StreamError
from hubbackup.runners import BUFFERED, CLEAN_UP_SECONDS, Bulk, Exit, tool_of
from hubbackup.runners.environment import inherited
from hubbackup.runners.stderr import Tail
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.growing_file import CHUNK_BYTES

TICK_SECONDS = 0.5
"""How long a wait sleeps at most before it looks at the cancel event and the idle limit again."""
PATIENCE_SECONDS = 5.0
"""How long a process gets to end by itself, after its output ended or after SIGTERM."""


class DirectRunner:
    """Starts commands on this machine. A contract of `hubbackup.runners.Runner`."""

    name = "direct"
    place = "this machine"

    def __init__(self, *, cancel: Cancel, idle_seconds: float = 600.0, path: str | None = None) -> None:
        """`path` replaces PATH for finding the tools; `idle_seconds` bounds the silence of a stream."""
        self.cancel = cancel
        self._idle_seconds = idle_seconds
        self._path = path
        self.inherited: Mapping[str, str] = inherited(os.environ)
        self.identity = f"direct:{shutil.which('pg_dump', path=path) or 'pg_dump'}"
        self.runs_as = "hubbackup's own user"

    def detached(self) -> DirectRunner:
        """The same place, for cleaning up after a stop."""
        return DirectRunner(cancel=Cancel(), idle_seconds=CLEAN_UP_SECONDS, path=self._path)

    def with_path(self, path: str) -> DirectRunner:
        """The same, with another PATH; an empty one is that of this process."""
        return DirectRunner(cancel=self.cancel, idle_seconds=self._idle_seconds, path=path or None)

    def under(self, cancel: Cancel) -> DirectRunner:
        """The same place, for a part of the run that may be stopped by itself."""
        part = copy.copy(self)
        part.cancel = cancel
        return part

    @contextmanager
    def start(
        self, argv: Sequence[str], env: Mapping[str, str | None], *, stdin: bool = False, bulk: Bulk = ""
    ) -> Iterator[DirectProcess]:
        """Start a local process; leaving the context ends it, by force where it must. Pipes are fit for `bulk`."""
        tool = tool_of(argv)
        number = argv.index(tool)
        program = shutil.which(tool, path=self._path)
        if program is None:
            raise RunnerError(
                f"{tool} is not installed here",
                remedy="install PostgreSQL's client tools of the server's major version, or use BACKUP_SOURCE=docker",
            )
        buffered = self._buffered() if bulk == "output" else ()
        environment = {name: value for name, value in {**self.inherited, **env}.items() if value is not None}
        if self._path is not None:
            environment["PATH"] = self._path
        try:
            popen = subprocess.Popen(
                [*buffered, *argv[:number], program, *argv[number + 1 :]],
                env=environment,
                stdin=subprocess.PIPE if stdin or bulk == "input" else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # a Ctrl-C on the terminal is ours to handle, not the tool's
            )
        except OSError as error:
            raise RunnerError(f"{tool} could not be started: {error.strerror}") from error
        process = DirectProcess(popen, tool, self.cancel, self._idle_seconds)
        try:
            yield process
        finally:
            process.close()

    def _buffered(self) -> tuple[str, ...]:
        """What gives a command a large buffer, where it works here."""
        stdbuf = shutil.which(BUFFERED[0])
        if stdbuf is None:
            return ()
        words = (stdbuf, *BUFFERED[1:])
        return words if subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0 else ()


class DirectProcess:
    """A local process. A contract of `hubbackup.runners.Process`."""

    def __init__(self, popen: subprocess.Popen[bytes], tool: str, cancel: Cancel, idle_seconds: float) -> None:
        self._popen = popen
        # The pipes are there because `start` asked for them; stdin only where it was asked to be open.
        self._stdin = cast("FileIO", popen.stdin)
        self._stdout = cast("FileIO", popen.stdout)
        self._stderr_pipe = cast("FileIO", popen.stderr)
        self._tool = tool
        self.cancel = cancel
        self._idle_seconds = idle_seconds
        self._stderr = Tail()
        self._ended = threading.Event()
        self._stdout_fd = self._stdout.fileno()
        with contextlib.suppress(OSError):  # a larger pipe saves wake-ups; any size works
            fcntl.fcntl(self._stdout_fd, fcntl.F_SETPIPE_SZ, CHUNK_BYTES)
        if popen.stdin is not None:
            os.set_blocking(self._stdin.fileno(), False)
        self._stderr_reader = threading.Thread(target=self._read_stderr, name=f"{tool}-stderr", daemon=True)
        self._stderr_reader.start()

    def chunks(self) -> Iterator[memoryview]:
        """Stdout as it comes."""
        view = memoryview(bytearray(CHUNK_BYTES))
        last_byte_at = time.monotonic()
        while True:
            self.cancel.check()
            if select.select([self._stdout_fd], [], [], TICK_SECONDS)[0]:
                count = os.readv(self._stdout_fd, [view])
                if count == 0:
                    self._ended.set()
                    return
                yield view[:count]
                last_byte_at = time.monotonic()
            elif time.monotonic() - last_byte_at > self._idle_seconds:
                raise StreamError(f"{self._tool} sent no byte for {self._idle_seconds:.0f} s")

    def write(self, data: bytes | memoryview) -> None:
        """Write to stdin, in portions, so that a process that ended early is noticed."""
        view = memoryview(data)
        while view:
            self.cancel.check()
            if self._ended.is_set():
                raise StreamError(f"{self._tool} ended before it read all of its input")
            if not select.select([], [self._stdin], [], TICK_SECONDS)[1]:
                continue
            try:
                written = self._stdin.write(view)
            except OSError as error:
                raise StreamError(f"{self._tool} ended before it read all of its input") from error
            view = view[written or 0 :]

    def close_stdin(self) -> None:
        """The process sees the end of its input."""
        with contextlib.suppress(OSError):
            self._stdin.close()

    def running(self) -> bool:
        """Asks the system."""
        return self._popen.poll() is None

    def wait(self) -> Exit:
        """The exit code, once stdout ended."""
        try:
            code = self._popen.wait(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise StreamError(f"{self._tool} closed its output and did not end") from error
        self._stderr_reader.join(timeout=PATIENCE_SECONDS)
        return Exit(code if code >= 0 else 128 - code, self._stderr.text())

    def close(self) -> None:
        """End the process if it still runs, and release its pipes."""
        self._ended.set()
        if self._popen.poll() is None:
            self._popen.terminate()
            try:
                self._popen.wait(timeout=PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        self._stderr_reader.join(timeout=PATIENCE_SECONDS)
        for pipe in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _read_stderr(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # closed under us by `close`
            while data := self._stderr_pipe.read(4096):
                self._stderr.add(data)
