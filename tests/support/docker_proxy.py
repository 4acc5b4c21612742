"""A proxy on a unix socket in front of the Docker engine's, which breaks one answer in a chosen way.

It moves bytes and knows next to nothing of HTTP: enough to tell which request a connection carries, since the
SDK keeps its connections open and each exec stream has one of its own.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ENGINE_SOCKET = "/var/run/docker.sock"
END_OF_HEAD = b"\r\n\r\n"
FRAME_HEADER = struct.Struct(">BxxxL")

Stream = Callable[[bytes, socket.socket, socket.socket], None]
"""Is given the head of the engine's answer to an exec's start, the engine's socket and the client's."""


class DockerProxy:
    """Passes everything on, but for the stream of an exec (`stream`) and what is said of its end (`inspect`).

    `stream` and `inspect` may be set between two execs. `requests` has the first line of each request.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"unix://{path}"
        self.stream: Stream | None = None
        self.inspect: Callable[[bytes], bytes] | None = None
        self.forbidden = ""
        """A pattern of requests that are refused, as by a proxy that protects the engine."""
        self.requests: list[str] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(16)
        threading.Thread(target=self._accept, name="docker-proxy", daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), name="docker-proxy", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as engine, contextlib.suppress(OSError):
            engine.connect(ENGINE_SOCKET)
            while head := _read_head(client):
                first_line = head.split(b"\r\n", 1)[0].decode()
                self.requests.append(first_line)
                body = _read_body(client, head)
                if self.forbidden and re.search(self.forbidden, first_line):
                    client.sendall(_answer("403 Forbidden", b'{"message":"forbidden here"}'))
                    continue
                engine.sendall(head + body)
                if re.search(r"/exec/\w+/start ", first_line):
                    (self.stream or pass_on)(_read_head(engine), engine, client)
                    with contextlib.suppress(OSError):  # a thread that still reads from it would keep it open
                        client.shutdown(socket.SHUT_RDWR)
                    return
                answer_head = _read_head(engine)
                answer = answer_head + _read_body(engine, answer_head)
                if self.inspect and re.search(r"/exec/\w+/json ", first_line):
                    answer = self.inspect(answer.partition(END_OF_HEAD)[2])
                client.sendall(answer)


@contextmanager
def docker_proxy() -> Iterator[DockerProxy]:
    """A proxy in a directory of its own (a socket's path must be short)."""
    with tempfile.TemporaryDirectory(prefix="hub-") as directory:
        proxy = DockerProxy(Path(directory) / "docker.sock")
        try:
            yield proxy
        finally:
            proxy.close()


def pass_on(head: bytes, engine: socket.socket, client: socket.socket) -> None:
    """The stream as it is, in both directions."""
    client.sendall(head)
    _relay(engine, client)


def together(head: bytes, engine: socket.socket, client: socket.socket) -> None:
    """The first frames in one packet with the head, as a fast command on a busy machine has it."""
    first = _read_frame(engine)
    client.sendall(head + first)
    _relay(engine, client)


def dribble(head: bytes, engine: socket.socket, client: socket.socket) -> None:
    """Every byte of the stream by itself."""
    client.sendall(head)
    while data := engine.recv(4096):
        for byte in data:
            client.sendall(bytes([byte]))


def cut_after(frames: int, more_bytes: int = 0) -> Stream:
    """The first `frames` frames of stdout, `more_bytes` of the next one, then the end of the stream."""

    def stream(head: bytes, engine: socket.socket, client: socket.socket) -> None:
        client.sendall(head)
        _relay_up(engine, client)
        for _ in range(frames):
            client.sendall(_read_frame(engine))
        if more_bytes:
            client.sendall(_read_frame(engine)[:more_bytes])
        client.shutdown(socket.SHUT_RDWR)
        while engine.recv(65536):
            pass  # the command itself ends well: only its bytes are lost

    return stream


def unknown_kind(head: bytes, engine: socket.socket, client: socket.socket) -> None:
    """A frame of a kind that there is not."""
    client.sendall(head + FRAME_HEADER.pack(7, 3) + b"abc")


def engine_error(head: bytes, engine: socket.socket, client: socket.socket) -> None:
    """The engine's own way of saying that a stream broke: a frame of kind 3."""
    client.sendall(head + FRAME_HEADER.pack(3, 9) + b"disk gone")


def stall(head: bytes, engine: socket.socket, client: socket.socket) -> None:
    """One frame, then silence, until the client goes."""
    client.sendall(head + _read_frame(engine))
    client.recv(1)


def refuse(head: bytes, engine: socket.socket, client: socket.socket) -> None:
    """The engine does not start the exec."""
    client.sendall(_answer("500 Internal Server Error", b'{"message":"cannot start"}'))


def saying(**facts: object) -> Callable[[bytes], bytes]:
    """What an inspect of the exec answers, changed by `facts`."""

    def inspect(body: bytes) -> bytes:
        changed = json.dumps(json.loads(body) | facts).encode()
        return _answer("200 OK", changed)

    return inspect


def no_such_exec(body: bytes) -> bytes:
    """The engine forgot the exec: its container was replaced."""
    return _answer("404 Not Found", b'{"message":"No such exec instance"}')


def _answer(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _relay(engine: socket.socket, client: socket.socket) -> None:
    _relay_up(engine, client)
    while data := engine.recv(65536):
        client.sendall(data)


def _relay_up(engine: socket.socket, client: socket.socket) -> None:
    def up() -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                engine.sendall(data)
            engine.shutdown(socket.SHUT_WR)

    threading.Thread(target=up, name="docker-proxy", daemon=True).start()


def _read_exactly(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := source.recv(size - len(data))):
        data += more
    return data


def _read_frame(source: socket.socket) -> bytes:
    header = _read_exactly(source, FRAME_HEADER.size)
    return header + _read_exactly(source, FRAME_HEADER.unpack(header)[1]) if header else b""


def _read_head(source: socket.socket) -> bytes:
    """One byte at a time: what follows the head belongs to the stream."""
    head = b""
    while not head.endswith(END_OF_HEAD) and (byte := source.recv(1)):
        head += byte
    return head


def _read_body(source: socket.socket, head: bytes) -> bytes:
    if length := re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE):
        return _read_exactly(source, int(length[1]))
    if not re.search(rb"\r\ntransfer-encoding: *chunked", head, re.IGNORECASE):
        return b""
    body = b""
    while True:
        line = b""
        while not line.endswith(b"\r\n"):
            line += source.recv(1)
        size = int(line, 16)
        body += line + _read_exactly(source, size + 2)
        if size == 0:
            return body
