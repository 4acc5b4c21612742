"""The `docker` runner: the database's own tools, executed in the database's own container.

The exec stream is read here and not by the SDK, because docker-py reads the hijacked socket behind an HTTP
response that is already buffered: frames that arrive together with the headers are lost, and an end of the
stream in the middle of a frame ends its iterator as if all were well. The protocol is the engine API's
"attach" format: https://docs.docker.com/reference/api/engine/ (ContainerAttach, "Stream format"). Each frame
is one byte of kind (1 stdout, 2 stderr, 3 an error of the engine), three zero bytes, a big-endian length,
and so many bytes. What is `bulk` takes a `data_connection` instead.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from hubbackup.errors import ContainerError, EngineError, NoDataConnectionError, StreamError
from hubbackup.runners import CLEAN_UP_SECONDS, Bulk, Exit, Process, tool_of
from hubbackup.runners.data_connection import DataConnection, InputProcess, OutputProcess
from hubbackup.runners.engine import CALL_SECONDS, Engine
from hubbackup.runners.sockets import Receiver, send
from hubbackup.runners.stderr import Tail
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.growing_file import CHUNK_BYTES

EXIT_SECONDS = 10.0
"""How long the engine gets to report the exit code after the stream ended."""
FRAME_HEADER = struct.Struct(">BxxxL")
STDOUT, STDERR, SYSTEM_ERROR = 1, 2, 3
MAX_RESPONSE_HEAD_BYTES = 64 << 10
DEFAULT_DATA_DIRECTORY = "/var/lib/postgresql/data"
"""Where the image does not say otherwise. The owner of the files in it is who the server runs as."""


class DockerExecRunner:
    """Starts commands in one running container. A contract of `hubbackup.runners.Runner`."""

    name = "docker"

    def __init__(
        self,
        engine: Engine,
        *,
        cancel: Cancel,
        service: str = "",
        container: str = "",
        idle_seconds: float = 600.0,
        no_data_connection: str = "nobody asked for one",
        user: str = "",
    ) -> None:
        """Find the container now. Raises ContainerError, EngineError.

        `no_data_connection`: why it may not connect to us; empty where it may. Commands run as `user`, as the
        container's own where that is not root, else as the owner of the server's files.
        """
        self._engine = engine
        self.cancel = cancel
        self.idle_seconds = idle_seconds
        found = engine.find_container(service=service, container=container)
        self.container_id = str(found.id)
        self.place = self.container_name = str(found.name)
        self.identity = str(found.attrs.get("Image", ""))
        settings = (found.attrs.get("Config") or {}).get("Env") or []
        self.inherited: Mapping[str, str] = dict(setting.partition("=")[::2] for setting in settings)
        self._no_data_connection = no_data_connection
        config = found.attrs.get("Config") or {}
        variables = dict(entry.partition("=")[::2] for entry in config.get("Env") or ())
        self._data_file = f"{variables.get('PGDATA', DEFAULT_DATA_DIRECTORY)}/PG_VERSION"
        self._default_user = str(config.get("User") or "")
        self._user = user or None

    def detached(self) -> DockerExecRunner:
        """The same container, for cleaning up after a stop. Raises ContainerError where it is gone."""
        return DockerExecRunner(
            self._engine,
            cancel=Cancel(),
            container=self.container_id,
            idle_seconds=CLEAN_UP_SECONDS,
            user=self._user or "",
        )

    def under(self, cancel: Cancel) -> DockerExecRunner:
        """The same container, for a part of the run that may be stopped by itself."""
        part = copy.copy(self)
        part.cancel = cancel
        return part

    @property
    def user(self) -> str:
        """`uid:gid` of the server's own user; empty for the container's default user. Raises EngineError."""
        if self._user is None:
            self._user = self._engine.owner_of(self.container_id, self._data_file) if self._is_root else ""
        return self._user

    @property
    def runs_as(self) -> str:
        """In words, whose rights the commands have. Raises EngineError."""
        if self.user:
            return f"the server's own user ({self.user})"
        if self._is_root:
            return f"root in {self.container_name}: {self._data_file} does not tell the server's own user"
        return f"{self._default_user}, the user of {self.container_name}"

    @property
    def _is_root(self) -> bool:
        return self._default_user.partition(":")[0] in ("", "0", "root")

    @contextmanager
    def start(
        self, argv: Sequence[str], env: Mapping[str, str | None], *, stdin: bool = False, bulk: Bulk = ""
    ) -> Iterator[Process]:
        """Exec `argv` in the container; leaving the context closes the stream (which does not end the command)."""
        tool, argv = tool_of(argv), _without(self.inherited, argv, env)
        added = {name: value for name, value in env.items() if value is not None}
        with ExitStack() as stack:
            if not bulk:
                yield stack.enter_context(self._exec(argv, added, tool, self.idle_seconds, stdin=stdin))
                return
            try:
                data = stack.enter_context(self._data_connection())
                is_input = bulk == "input"
                # While an output comes over the connection, the exec's own stream is silent.
                idle_seconds = self.idle_seconds if is_input else math.inf
                shell = data.feeding(argv) if is_input else data.dialling(argv)
                control = stack.enter_context(
                    self._exec(shell, {**added, **data.env}, tool, idle_seconds, stdin=stdin or is_input)
                )
                connection = data.accept(control.connection, self.cancel)
            except (EngineError, OSError) as error:  # so do some engines tell that there is no bash
                raise NoDataConnectionError(str(error)) from error
            if is_input:
                yield InputProcess(control, connection, tool, self.cancel)
            else:
                yield OutputProcess(control, connection, tool, self.cancel, self.idle_seconds)

    def _data_connection(self) -> DataConnection:
        """A port for the container to connect to. Raises NoDataConnectionError, EngineError, OSError."""
        if self._no_data_connection:
            raise NoDataConnectionError(self._no_data_connection)
        if not self._engine.is_local:
            # A proxy before the engine ends streams that are silent, as the exec's own then is for a whole dump.
            raise NoDataConnectionError(f"the Docker engine is at {self._engine.host}, not at a unix socket")
        return DataConnection(self._engine.endpoints_with(self.container_id))

    @contextmanager
    def _exec(
        self, argv: Sequence[str], env: Mapping[str, str], tool: str, idle_seconds: float, *, stdin: bool = False
    ) -> Iterator[ExecProcess]:
        """Exec `argv`, which is called `tool` where something is wrong with it."""
        import docker.errors

        api: Any = self._engine.client.api
        with self._engine.errors():
            try:
                created = api.exec_create(
                    self.container_id,
                    list(argv),
                    stdin=stdin,
                    environment=dict(env),
                    stdout=True,
                    stderr=True,
                    user=self.user,
                )
            except (docker.errors.NotFound, docker.errors.APIError) as error:
                if error.response is not None and error.response.status_code in (404, 409):
                    raise ContainerError(
                        f"the database's container {self.container_name} stopped or was replaced",
                        remedy="the next run looks it up again",
                    ) from error
                raise
        exec_id = str(created["Id"])
        connection = self._engine.connect()
        try:
            rest = _upgrade(connection, f"/v{api.api_version}/exec/{exec_id}/start")
            yield ExecProcess(self, connection, rest, exec_id, tool, idle_seconds, answers=stdin)
        finally:
            with contextlib.suppress(OSError):  # wakes whoever waits for it
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def inspect(self, exec_id: str) -> dict[str, Any]:
        """The engine's record of an exec. Raises StreamError where it has none any more."""
        import docker.errors

        api: Any = self._engine.client.api
        with self._engine.errors():
            try:
                return dict(api.exec_inspect(exec_id))
            except docker.errors.NotFound as error:
                raise StreamError(
                    f"the Docker engine no longer knows the command that ran in {self.container_name}"
                    " (the container was stopped or replaced)"
                ) from error


class ExecProcess:
    """A command running in a container. A contract of `hubbackup.runners.Process`."""

    def __init__(
        self,
        runner: DockerExecRunner,
        connection: socket.socket,
        rest: bytes,
        exec_id: str,
        tool: str,
        idle_seconds: float,
        *,
        answers: bool = False,
    ) -> None:
        self.connection = connection
        self._runner = runner
        self._receiver = Receiver(connection, tool, runner.cancel, idle_seconds, answers=answers)
        self._rest = rest
        self._exec_id = exec_id
        self._tool = tool
        self._stderr = Tail()
        self._ended = threading.Event()

    def chunks(self) -> Iterator[memoryview]:
        """Stdout as it comes, out of one reusable buffer; stderr is kept aside."""
        buffer = bytearray(max(CHUNK_BYTES, len(self._rest)))
        view = memoryview(buffer)
        start, end = 0, len(self._rest)
        buffer[:end] = self._rest
        kind = left_in_frame = 0
        try:
            while True:
                while start < end:
                    if left_in_frame == 0:
                        if end - start < FRAME_HEADER.size:
                            break
                        kind, left_in_frame = FRAME_HEADER.unpack_from(buffer, start)
                        start += FRAME_HEADER.size
                        if kind not in (STDOUT, STDERR, SYSTEM_ERROR):
                            raise StreamError(f"the Docker engine sent a frame of an unknown kind ({kind})")
                        continue
                    take = min(left_in_frame, end - start)
                    part = view[start : start + take]
                    start += take
                    left_in_frame -= take
                    if kind == STDOUT:
                        yield part
                    else:
                        self._stderr.add(part)
                        if kind == SYSTEM_ERROR and left_in_frame == 0:
                            raise StreamError(
                                f"the Docker engine broke off the stream: {self._stderr.text().strip()}"
                            )
                # What is left is at most a cut frame header: move it to the front, and fill up behind it.
                head = buffer[start:end]
                start, end = 0, len(head)
                buffer[:end] = head
                count = self._receiver.into(view[end:])
                if count == 0:
                    if left_in_frame or end:
                        raise StreamError(f"the stream from {self._tool} was cut in the middle of a frame")
                    return
                end += count
        finally:
            self._ended.set()

    def write(self, data: bytes | memoryview) -> None:
        """Write to stdin, in portions, so that a command that ended early is noticed."""
        send(self.connection, data, self._tool, self._runner.cancel, self._ended)

    def close_stdin(self) -> None:
        """The command sees the end of its input and can still answer."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)

    def running(self) -> bool:
        """Asks the engine."""
        return bool(self._runner.inspect(self._exec_id).get("Running"))

    def wait(self) -> Exit:
        """The exit code by inspect; `Running` that stays true, or no exit code, is a failure."""
        deadline = time.monotonic() + EXIT_SECONDS
        while True:
            record = self._runner.inspect(self._exec_id)
            code = record.get("ExitCode")
            if not record.get("Running") and code is not None:
                return Exit(int(code), self._stderr.text())
            if time.monotonic() > deadline:
                raise StreamError(
                    f"the Docker engine could not tell how {self._tool} ended (its stream closed,"
                    f" Running is {record.get('Running')}, ExitCode is {code})"
                )
            self._runner.cancel.wait(0.02)


def _without(inherited: Mapping[str, str], argv: Sequence[str], env: Mapping[str, str | None]) -> list[str]:
    """`argv`, started by an `env` that takes out what is not to be set; the engine itself can only add.

    (Docker's API takes a name without `=` for that, which Podman refuses.) Where nothing is there to be taken out,
    no `env` is needed.
    """
    unset = [name for name, value in env.items() if value is None and name in inherited]
    return ["env", *(word for name in unset for word in ("-u", name)), *argv] if unset else list(argv)


def _upgrade(connection: socket.socket, path: str) -> bytes:
    """Start the exec and turn the connection into its stream; returns the stream's bytes that came already.

    Raises EngineError where the engine refuses.
    """
    body = json.dumps({"Detach": False, "Tty": False}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    )
    connection.settimeout(CALL_SECONDS)
    try:
        connection.sendall(head.encode("ascii") + body)
        received = b""
        while b"\r\n\r\n" not in received:
            data = connection.recv(4096)
            if not data or len(received) > MAX_RESPONSE_HEAD_BYTES:
                raise EngineError("the Docker engine broke off the answer to an exec")
            received += data
    except OSError as error:
        raise EngineError(f"the Docker engine did not answer an exec: {error}") from error
    answer, _, rest = received.partition(b"\r\n\r\n")
    status_line = answer.split(b"\r\n", 1)[0].decode("latin-1")
    fields = status_line.split(" ", 2)
    if len(fields) < 2 or fields[1] not in ("101", "200"):
        said = rest.decode("utf-8", "replace").strip()
        raise EngineError(f"the Docker engine refused an exec ({status_line}): {said}")
    return rest
