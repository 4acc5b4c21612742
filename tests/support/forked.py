"""The program, loaded once and forked for each run: a process of its own, without the second that its imports take.

A run has its own environment, directory, output, signals and exit code, and it ends as any interpreter does, with
its threads joined and its atexit functions called. What it can't show is a module that is imported too late or too
early; `Program.start` starts a fresh interpreter.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
OUTSIDE = ("boto3", "docker", "isal.igzip", "apprise", "rich.console", "rich.table")
"""What the program imports late."""
LARGEST_REQUEST_BYTES = 128 << 10


class Forked:
    """A started run: what tests use of subprocess.Popen."""

    def __init__(self, status: int) -> None:
        self._status = status
        self._said = b""
        self.returncode: int | None = None
        while not self._said.count(b"\n"):
            self._read()
        self.pid = int(self._said.split()[0])

    def poll(self) -> int | None:
        """The exit code, as Popen gives it; None while it runs."""
        return self.wait(0)

    def wait(self, seconds: float) -> int | None:
        """Its exit code as soon as it has ended; None where that takes longer."""
        deadline = time.monotonic() + seconds
        while self.returncode is None:
            if not select.select([self._status], [], [], max(deadline - time.monotonic(), 0))[0]:
                return None
            self._read()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Signal it, if it still runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _read(self) -> None:
        said = os.read(self._status, 64)
        assert said, "the fork server has died"
        self._said += said
        if self._said.count(b"\n") == 2:
            self.returncode = int(self._said.split()[1])
            os.close(self._status)


def start(arguments: Sequence[str], env: Mapping[str, str], directory: Path, output: int, errors: int) -> Forked:
    """Run `hubbackup ARGUMENTS` in `directory` with nothing on stdin; `output` and `errors` are descriptors."""
    status, theirs = os.pipe()
    try:
        request = json.dumps([list(arguments), dict(env), str(directory)]).encode()
        assert len(request) < LARGEST_REQUEST_BYTES
        socket.send_fds(_server(), [request], [output, errors, theirs])
    finally:
        os.close(theirs)
    return Forked(status)


@functools.cache
def _server() -> socket.socket:
    """The way to the process that forks; it ends when this one does, and the way with it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.forked", str(theirs.fileno())],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the tests
        )
    return ours


# ----------------------------------------------------------------------------------------------- in the other process


def load() -> None:
    """Import all there is."""
    import hubbackup

    for module in pkgutil.walk_packages(hubbackup.__path__, "hubbackup."):
        importlib.import_module(module.name)
    for name in OUTSIDE:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def serve(control: socket.socket) -> None:
    """Fork for each request; returns in the forked programs alone, and there to run the program."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the keepers are nobody's concern
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, LARGEST_REQUEST_BYTES, 3)
        if not request:
            os._exit(0)
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            keep(json.loads(request), *descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def keep(request: tuple[list[str], dict[str, str], str], output: int, errors: int, status: int) -> None:
    """Fork the program, tell its process id and its exit code; returns in the program alone."""
    pid = os.fork()
    if pid:
        os.close(output)
        os.close(errors)
        os.write(status, b"%d\n" % pid)
        _, ended = os.waitpid(pid, 0)
        with contextlib.suppress(BrokenPipeError):
            os.write(status, b"%d\n" % os.waitstatus_to_exitcode(ended))
        os._exit(0)
    os.close(status)
    for descriptor, standard in ((output, 1), (errors, 2)):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    arguments, env, directory = request
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    sys.argv = ["hubbackup", *arguments]
    sys.modules["__main__"].__package__ = None  # so that the usage line says "hubbackup"


if __name__ == "__main__":
    load()
    serve(socket.socket(fileno=int(sys.argv[1])))
    from hubbackup.__main__ import main

    main()
