"""The data connection: many bytes straight from the database's container, or into it, around the engine's relay.

What an exec writes passes through the container's shim and dockerd in small pieces, which costs more than pg_dump
itself does (docs/performance.md). So, as in FTP's active mode (RFC 959), the other side is told an address over the
control connection, here the exec, and connects to it: a shell in the container dials a port that listens for this
one connection, shows a nonce, waits for the answer to it, and becomes the command. stdin, stderr and the exit code
stay with the exec. Where anything stands in the way (no network in common, no bash, a firewall), nothing was
started, and the exec's own stream is there.

A psql that reads from a connection whose other end vanished would wait forever, with its locks: so the shell stays
beside a command that is fed, and ends it once the exec's own stdin has ended.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import select
import shlex
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hubbackup.errors import HubbackupError, NoDataConnectionError, StreamError
from hubbackup.runners import BUFFERED, Exit, Process
from hubbackup.runners.sockets import TICK_SECONDS, Receiver, send
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.growing_file import CHUNK_BYTES

CONNECT_SECONDS = 5.0
"""A shell is there in a tenth of a second, on a busy machine in one; a firewall may say nothing at all."""
NONCE_BYTES = 16
NONCE_SECONDS = 1.0
LAST_BYTES_SECONDS = 10.0
"""How long the rest of the bytes may take once the command has ended: a container that was killed may take its
network with it before the end of the stream was sent."""
LOW_WATER_BYTES = 256 << 10
"""A reader that wakes for no less takes a tenth less processor time, the sender's included."""
# bash's own /dev/tcp: the images of PostgreSQL have bash, and need nothing else in them.
DIAL = f"""\
exec 3<>"/dev/tcp/$HUBBACKUP_DATA_ADDRESS" && printf %s "$HUBBACKUP_DATA_NONCE" >&3 \
&& read -rN {2 * NONCE_BYTES} -u 3 && [ "$REPLY" = "$HUBBACKUP_DATA_ANSWER" ] || exit 97
unset HUBBACKUP_DATA_ADDRESS HUBBACKUP_DATA_NONCE HUBBACKUP_DATA_ANSWER
"""
BECOME = f"""\
{shlex.join(BUFFERED)} true 2> /dev/null && set -- {shlex.join(BUFFERED)} "$@"
exec "$@" >&3 3>&-"""
# Every child is waited for: one that is left goes to the container's first process, and where that is PostgreSQL, it
# takes a child that ends by a signal for a backend that crashed, and ends all others.
FEED = """\
exec 4<&0
"$@" <&3 3>&- 4<&- & command=$!
exec 3>&-
{ read -r || kill "$command"; } <&4 >/dev/null 2>&1 & watch=$!
wait "$command"; code=$?
{ kill "$watch"; wait "$watch"; } 2> /dev/null
exit "$code\""""


@dataclass(frozen=True)
class Endpoints:
    """An address of this process, and that of the container which is to connect to it (both IPv4)."""

    local: str
    peer: str


class DataConnection:
    """A port that listens for one connection of one command. A context manager; leaving it closes both."""

    def __init__(self, candidates: Sequence[Endpoints]) -> None:
        """Listen at the first address that is ours. Raises NoDataConnectionError where none is."""
        self._nonce, self._answer = secrets.token_hex(NONCE_BYTES), secrets.token_hex(NONCE_BYTES)
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._connection: socket.socket | None = None
        for endpoints in candidates:
            with contextlib.suppress(OSError):
                self._listener.bind((endpoints.local, 0))
                self._listener.listen(4)
                self._endpoints = endpoints
                self.env = self._env()
                """What the shell needs to know; unset again before it becomes the command."""
                return
        self._listener.close()
        raise NoDataConnectionError("the database's container and hubbackup have no network in common")

    def __enter__(self) -> DataConnection:
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.close()
        if self._connection is not None:
            with contextlib.suppress(OSError):  # wakes whoever waits for it
                self._connection.shutdown(socket.SHUT_RDWR)
            self._connection.close()

    def _env(self) -> dict[str, str]:
        address, port = self._listener.getsockname()
        return {
            "HUBBACKUP_DATA_ADDRESS": f"{address}/{port}",
            "HUBBACKUP_DATA_NONCE": self._nonce,
            "HUBBACKUP_DATA_ANSWER": self._answer,
        }

    @staticmethod
    def dialling(argv: Sequence[str]) -> list[str]:
        """The shell that becomes `argv`, with its stdout on the data connection."""
        return ["bash", "-c", DIAL + BECOME, "bash", *argv]

    @staticmethod
    def feeding(argv: Sequence[str]) -> list[str]:
        """The shell that starts `argv` with its stdin on the data connection, and ends it once the exec's own stdin
        has ended."""
        return ["bash", "-c", DIAL + FEED, "bash", *argv]

    def accept(self, control: socket.socket, cancel: Cancel) -> socket.socket:
        """The connection, with the command started. Raises NoDataConnectionError; then it never will be; OSError.

        `control` is the exec's stream: a shell that can connect says nothing on it.
        """
        deadline = time.monotonic() + CONNECT_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            cancel.check()
            ready = select.select([self._listener, control], [], [], min(left, TICK_SECONDS))[0]
            if self._listener in ready:
                connection, (address, *_) = self._listener.accept()
                if address == self._endpoints.peer and self._shows_the_nonce(connection):
                    self._connection = connection
                    self._listener.close()
                    with contextlib.suppress(OSError):  # a shell that is gone is told by its exit
                        connection.sendall(self._answer.encode())
                    return connection
                connection.close()
            elif ready:
                raise NoDataConnectionError(f"the database's container can't connect to {self._endpoints.local}")
        raise NoDataConnectionError(
            f"no connection from the database's container reached {self._endpoints.local} in {CONNECT_SECONDS:.0f} s"
        )

    def _shows_the_nonce(self, connection: socket.socket) -> bool:
        connection.settimeout(NONCE_SECONDS)
        shown = b""
        try:
            while len(shown) < len(self._nonce) and (more := connection.recv(len(self._nonce) - len(shown))):
                shown += more
        except OSError:
            return False
        return hmac.compare_digest(shown, self._nonce.encode())


class InputProcess:
    """A command whose stdin comes over a data connection. A contract of `hubbackup.runners.Process`."""

    def __init__(self, control: Process, connection: socket.socket, tool: str, cancel: Cancel) -> None:
        self._control = control
        self._connection = connection
        self._tool = tool
        self._cancel = cancel
        self._ended = threading.Event()

    def chunks(self) -> Iterator[memoryview]:
        """Its stdout stays with the exec."""
        try:
            yield from self._control.chunks()
        finally:
            self._ended.set()

    def write(self, data: bytes | memoryview) -> None:
        """Write to stdin, in portions, so that a command that ended early is noticed."""
        send(self._connection, data, self._tool, self._cancel, self._ended)

    def close_stdin(self) -> None:
        """The command sees the end of its input and can still answer."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def running(self) -> bool:
        """Asks the engine."""
        return self._control.running()

    def wait(self) -> Exit:
        """The exit, once the exec's stream ended."""
        return self._control.wait()


class OutputProcess:
    """A command whose stdout comes over a data connection. A contract of `hubbackup.runners.Process`."""

    def __init__(
        self, control: Process, connection: socket.socket, tool: str, cancel: Cancel, idle_seconds: float
    ) -> None:
        self._control = control
        self._tool = tool
        self._receiver = Receiver(connection, tool, cancel, idle_seconds, low_water_bytes=LOW_WATER_BYTES)
        self._error: HubbackupError | None = None
        self._listening = threading.Thread(target=self._listen, name=f"{tool}-stderr", daemon=True)
        self._listening.start()

    def _listen(self) -> None:
        """Take what comes over the exec, so that stderr never blocks the command, and notice its end."""
        try:
            for _ in self._control.chunks():
                pass
            if self._control.running():
                return
        except HubbackupError as error:
            self._error = error
        self._receiver.idle_seconds = min(self._receiver.idle_seconds, LAST_BYTES_SECONDS)

    def chunks(self) -> Iterator[memoryview]:
        """Stdout as it comes, out of one reusable buffer."""
        view = memoryview(bytearray(CHUNK_BYTES))
        while count := self._receive(view):
            yield view[:count]

    def _receive(self, view: memoryview) -> int:
        if self._error is not None:  # without the exec's stream its end could not be told
            raise self._error
        try:
            return self._receiver.into(view)
        except StreamError as error:
            if self._error is not None:
                raise self._error from None
            raise StreamError(
                str(error),
                remedy=f"{error.remedy}; if only backups by a data connection end so: DB_DATA_CONNECTION=false",
            ) from error

    def write(self, data: bytes | memoryview) -> None:
        """Its stdin stays with the exec."""
        self._control.write(data)

    def close_stdin(self) -> None:
        """So does its end."""
        self._control.close_stdin()

    def running(self) -> bool:
        """Asks the engine."""
        return self._control.running()

    def wait(self) -> Exit:
        """The exit, once the exec's stream ended too."""
        self._listening.join(LAST_BYTES_SECONDS)
        if self._listening.is_alive():
            raise StreamError(f"{self._tool} closed its output and did not end")
        if self._error is not None:
            raise self._error
        return self._control.wait()
