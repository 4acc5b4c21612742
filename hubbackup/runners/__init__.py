"""The runner seam: start a command where the database's tools are, and follow it to its end.

A runner knows nothing of PostgreSQL. `docker_exec` runs the command in the database's container over the
Docker engine, `direct` as a local process. One contract suite (tests/contract/test_runner_contract.py) runs
over both.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from hubbackup.errors import HubbackupError, StreamError, ToolError
from hubbackup.runners.stderr import reason
from hubbackup.streams.cancel import Cancel

CLEAN_UP_SECONDS = 4.0
"""The idle limit of a detached runner: a container gets ten seconds to stop, and this is a part of it."""


Bulk = Literal["", "input", "output"]
"""The stream of a command, if any, by which so much comes or goes that a byte must cost little."""
BUFFERED = ("stdbuf", "--output=1M")
"""Before a command: a large buffer for a stdout that it leaves to the C library."""
BUFFERED_INPUT = ("stdbuf", "--input=64K")
"""Before a command: a buffer for its stdin as large as a pipe is. Caller's duty: know that it works there."""


@dataclass(frozen=True)
class Exit:
    """How a command ended: its exit code, and 16 KiB of its stderr, first and last ones, decoded."""

    code: int
    stderr: str


class Process(Protocol):
    """A started command, for one reader thread and one writer thread.

    Caller's duty: read stdout to its end (`chunks`) before `wait`; where stdin is open, write from another
    thread than the one that reads, so that neither side can block the other.
    """

    def chunks(self) -> Iterator[memoryview]:
        """The bytes of stdout as they come; each view is valid until the next one is asked for.

        Raises StreamError where the stream is cut or silent for longer than the idle limit, and StoppedError
        once the run is cancelled.
        """
        ...

    def write(self, data: bytes | memoryview) -> None:
        """Write all of `data` to stdin. Raises StreamError where the command no longer reads."""
        ...

    def close_stdin(self) -> None:
        """Half-close: the command sees the end of its input and can still answer."""
        ...

    def running(self) -> bool:
        """Whether the command has not ended yet; what it wrote may still wait to be read. Raises StreamError."""
        ...

    def wait(self) -> Exit:
        """The exit, once stdout ended. Raises StreamError where the engine can't tell a true exit code."""
        ...


class Runner(Protocol):
    """Starts commands in one place (one container, or this machine), resolved afresh by each `open_runner`."""

    name: str
    """`docker` or `direct`, for logs."""

    place: str
    """Where commands run, for people: the container's name, or `this machine`."""

    @property
    def runs_as(self) -> str:
        """In words, whose rights the commands have. Raises EngineError."""
        ...

    identity: str
    """What stays equal while the tools stay equal (an image's id), for caching what was probed."""

    cancel: Cancel
    """The run's: once it is set, no stream of a command is waited for any more."""

    inherited: Mapping[str, str]
    """The environment that a command finds there before anything is added to it."""

    def detached(self) -> Runner:
        """The same place without the run's cancel event and with a short idle limit: to clean up after a stop."""
        ...

    def under(self, cancel: Cancel) -> Runner:
        """The same place, for a part of the run that may be stopped by itself."""
        ...

    def start(
        self, argv: Sequence[str], env: Mapping[str, str | None], *, stdin: bool = False, bulk: Bulk = ""
    ) -> AbstractContextManager[Process]:
        """Start `argv` with `env` added to the environment there; leaving the context ends the connection.

        A name whose value is None is not set for the command, whatever is there.
        `argv` is visible to others (process lists, Docker events): secrets go into `env` only.
        `bulk`: much will come out of stdout, or go into stdin (which is open then), and must go by a way on which a
        byte costs little; an output gets a large buffer, where coreutils' `stdbuf` is there to give it. Raises
        NoDataConnectionError where there is no such way, another RunnerError.
        """
        ...


def tool_of(argv: Sequence[str]) -> str:
    """The command's name, for people."""
    return argv[len(BUFFERED_INPUT)] if tuple(argv[: len(BUFFERED_INPUT)]) == BUFFERED_INPUT else argv[0]


def run(
    runner: Runner,
    argv: Sequence[str],
    env: Mapping[str, str | None],
    *,
    input_bytes: bytes = b"",
    max_bytes: int = 64 << 20,
) -> bytes:
    """Run a short command to its end and return its stdout.

    Raises ToolError with the command's own words where it exits with another code than 0, StreamError
    where it prints more than `max_bytes`.
    """
    with runner.start(argv, env, stdin=bool(input_bytes)) as process:
        writer = None
        if input_bytes:
            writer = threading.Thread(target=_feed, args=(process, input_bytes), name="stdin", daemon=True)
            writer.start()
        collected = bytearray()
        for chunk in process.chunks():
            collected += chunk
            if len(collected) > max_bytes:
                raise StreamError(f"{argv[0]} printed more than {max_bytes} bytes where a short answer was expected")
        end = process.wait()
        if writer is not None:
            writer.join()
    if end.code != 0:
        raise tool_error(argv[0], end)
    return bytes(collected)


def tool_error(tool: str, end: Exit) -> ToolError:
    """The error for a tool that ended with another exit code than 0, in the tool's own words."""
    text = f"{tool} ended with exit code {end.code}: {reason(end.stderr)}"
    return ToolError(text, exit_code_of_tool=end.code, stderr=end.stderr)


def _feed(process: Process, data: bytes) -> None:
    """Write stdin; a command that ended early, or a stop, is told by the thread that reads, not here."""
    # ValueError: the reader left the context meanwhile, and the stream is closed.
    with contextlib.suppress(HubbackupError, OSError, ValueError):
        process.write(data)
        process.close_stdin()


__all__ = ["Cancel", "Exit", "Process", "Runner", "run", "tool_error"]
