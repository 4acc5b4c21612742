"""A small HTTP proxy that breaks what a test tells it to, between a client and a real server.

    with FaultProxy(upstream_url) as proxy:
        proxy.fault(answer(503, "SlowDown"), when=is_part(1), times=2)

It speaks TLS where it is given a certificate, and also is a proxy in HTTP's own sense (HTTP_PROXY): then it is asked
for URLs of any host, all of which are the upstream server's; and it connects (CONNECT) to any port of this machine.

A fault is a function that is given the exchange in place of the server. `proxy.seen` records every request. All that
it starts ends with its `with` block.
"""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit, urlunsplit


@dataclass(frozen=True)
class Seen:
    """One request as the client sent it."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]


Predicate = Callable[[Seen], bool]


@dataclass
class _Planned:
    fault: Fault
    when: Predicate
    times: float


class Exchange(BaseHTTPRequestHandler):
    """One connection of a client. Faults use `request_body`, `forward`, `reply`, `reset` and the socket."""

    protocol_version = "HTTP/1.1"
    proxy: FaultProxy
    seen: Seen
    timeout = 30
    disable_nagle_algorithm = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._handle
        raise AttributeError(name)

    def handle_expect_100(self) -> bool:
        return True  # answered when the body is wanted, so that a fault can come before it

    def _handle(self) -> None:
        url = urlsplit(self.path)
        if url.netloc:  # asked as a proxy
            self.path = urlunsplit(("", "", url.path, url.query, ""))
        query = {key: values[-1] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.seen = Seen(self.command, url.path, query, headers)
        if self.command == "CONNECT":
            self.seen = Seen(self.command, self.path, {}, headers)
        self.proxy.take(self.seen)(self)

    def allow_body(self) -> None:
        """Tell a client that asked (Expect: 100-continue) to send its body."""
        if self.seen.headers.get("expect") == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def request_body(self) -> bytes:
        """The whole body."""
        self.allow_body()
        return self.rfile.read(int(self.seen.headers.get("content-length", "0")))

    def forward(self) -> tuple[int, list[tuple[str, str]], bytes]:
        """Send the request on; returns the server's status, headers and body."""
        body = self.request_body()
        upstream = http.client.HTTPConnection(self.proxy.upstream, timeout=30)
        try:
            headers = {key: value for key, value in self.headers.items() if key.lower() not in ("expect", "host")}
            upstream.request(self.command, self.path, body, headers)
            response = upstream.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            upstream.close()

    def head(self, status: int, headers: list[tuple[str, str]], size: int) -> None:
        """Send the status and headers of an answer of `size` bytes."""
        self.send_response_only(status)
        lengths = [value for key, value in headers if key.lower() == "content-length"]
        for key, value in headers:
            if key.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(key, value)
        # A HEAD tells the length of what it does not send.
        self.send_header("Content-Length", lengths[0] if self.command == "HEAD" and lengths else str(size))
        self.end_headers()

    def reply(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Answer the client."""
        self.head(status, headers, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def tunnel(self) -> None:
        """Connect to the port that is asked for, at this machine, and carry bytes both ways to the end."""
        self.close_connection = True
        with socket.create_connection(("127.0.0.1", int(self.path.rpartition(":")[2]))) as there:
            self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            ways = {self.connection: there, there: self.connection}
            while ready := select.select([*ways], [], [], self.timeout)[0]:
                for one in ready:
                    data = one.recv(65536)
                    if not data:
                        return
                    ways[one].sendall(data)

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            return  # the connection was reset on purpose

    def log_message(self, format: str, *args: Any) -> None:
        pass


Fault = Callable[[Exchange], None]


@dataclass
class FaultProxy:
    """A proxy to `upstream_url` on a loopback port; `url` is its own. `certificate` and its key: for `localhost`."""

    upstream_url: str
    certificate: tuple[Path, Path] | None = None
    seen: list[Seen] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.upstream = urlsplit(self.upstream_url).netloc
        self.closing = threading.Event()
        self._plans: list[_Planned] = []
        self._lock = threading.Lock()
        handler = type("BoundExchange", (Exchange,), {"proxy": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
            self.url = f"https://localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)

    def fault(self, fault: Fault, *, when: Predicate = lambda seen: True, times: float = float("inf")) -> None:
        """Let `fault` have the next `times` requests for which `when` holds; the first plan that fits has it."""
        with self._lock:
            self._plans.append(_Planned(fault, when, times))

    def forget(self) -> None:
        """No faults any more, and no request seen."""
        self.mend()
        self.seen.clear()

    def mend(self) -> None:
        """No faults any more."""
        with self._lock:
            self._plans.clear()

    def count(self, when: Predicate) -> int:
        """How many of the requests seen were such."""
        return sum(1 for seen in self.seen if when(seen))

    def take(self, seen: Seen) -> Fault:
        """What is to happen to this request."""
        with self._lock:
            self.seen.append(seen)
            for plan in self._plans:
                if plan.times > 0 and plan.when(seen):
                    plan.times -= 1
                    return plan.fault
        return pass_on


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that went away is what the tests are about


def pass_on(exchange: Exchange) -> None:
    """No fault."""
    if exchange.command == "CONNECT":
        exchange.tunnel()
    else:
        exchange.reply(*exchange.forward())


def error_body(code: str, message: str = "") -> bytes:
    """S3's XML for an error."""
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'.encode()


def answer(status: int, code: str, message: str = "") -> Fault:
    """Answer with an error (or with 200 and an error inside) instead of asking the server."""

    def fault(exchange: Exchange) -> None:
        exchange.request_body()
        exchange.reply(status, [("Content-Type", "application/xml")], error_body(code, message))

    return fault


def lose_answer(exchange: Exchange) -> None:
    """The server does what it is asked, and its answer never arrives."""
    exchange.forward()
    exchange.reset()


def reset(exchange: Exchange) -> None:
    """The connection ends before anything was read."""
    exchange.reset()


def black_hole(exchange: Exchange) -> None:
    """Everything is taken, nothing ever said."""
    exchange.request_body()
    exchange.proxy.closing.wait(60)
    exchange.reset()


def drip_answer(exchange: Exchange) -> None:
    """A byte of an endless header now and then: never silent, never done."""
    exchange.request_body()
    exchange.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
    while not exchange.proxy.closing.wait(0.1):
        exchange.wfile.write(b".")


def drip_body(exchange: Exchange) -> None:
    """The right head, then one byte of the body now and then."""
    status, headers, body = exchange.forward()
    exchange.head(status, headers, len(body))
    for position in range(len(body)):
        exchange.wfile.write(body[position : position + 1])
        if exchange.proxy.closing.wait(0.1):
            return


def sip_request(exchange: Exchange) -> None:
    """The client's body is read so slowly that it never ends."""
    exchange.allow_body()
    while not exchange.proxy.closing.wait(0.05):
        exchange.rfile.read(4096)


def cut_body(size_bytes: int, *, abruptly: bool = False) -> Fault:
    """Answer rightly, and end the connection after `size_bytes` of the body.

    `abruptly`: by a reset, which may take bytes with it that were sent before.
    """

    def fault(exchange: Exchange) -> None:
        status, headers, body = exchange.forward()
        exchange.head(status, headers, len(body))
        exchange.wfile.write(body[:size_bytes])
        exchange.close_connection = True
        if abruptly:
            exchange.reset()

    return fault


def want_equal_parts(proxy: FaultProxy, most: int = 1_000) -> None:
    """Refuse to complete an upload whose parts, the last one aside, are not all of one size: as R2 says it does.

    It looks at the first `most` parts. A fake of ours: it was not tried at R2 itself.
    """
    sizes: dict[str, dict[int, int]] = {}

    def keep(exchange: Exchange) -> None:
        query = exchange.seen.query
        of_upload = sizes.setdefault(query["uploadId"], {})
        of_upload[int(query["partNumber"])] = int(exchange.seen.headers["content-length"])
        pass_on(exchange)

    def judge(exchange: Exchange) -> None:
        of_upload = sizes[exchange.seen.query["uploadId"]]
        *parts, _last = (of_upload[number] for number in sorted(of_upload))
        if len(set(parts)) > 1:
            answer(400, "InvalidPart", "All non-trailing parts must have the same length.")(exchange)
        else:
            pass_on(exchange)

    proxy.fault(keep, when=lambda seen: is_part()(seen) and int(seen.query["partNumber"]) <= most)
    proxy.fault(judge, when=is_complete)


def with_body(change: Callable[[bytes], bytes]) -> Fault:
    """Pass on, with the answer's body changed."""

    def fault(exchange: Exchange) -> None:
        status, headers, body = exchange.forward()
        exchange.reply(status, headers, change(body))

    return fault


def with_header(name: str, value: str) -> Fault:
    """Pass on, with one header of the answer replaced."""

    def fault(exchange: Exchange) -> None:
        status, headers, body = exchange.forward()
        kept = [(key, old) for key, old in headers if key.lower() != name.lower()]
        exchange.reply(status, [*kept, (name, value)], body)

    return fault


def is_part(number: int | None = None) -> Predicate:
    """UploadPart, of that number or any."""
    return lambda seen: (
        seen.method == "PUT"
        and "partNumber" in seen.query
        and (number is None or seen.query["partNumber"] == str(number))
    )


def is_put(seen: Seen) -> bool:
    """PutObject."""
    return seen.method == "PUT" and "partNumber" not in seen.query


def is_begin(seen: Seen) -> bool:
    """CreateMultipartUpload."""
    return seen.method == "POST" and "uploads" in seen.query


def is_complete(seen: Seen) -> bool:
    """CompleteMultipartUpload."""
    return seen.method == "POST" and "uploadId" in seen.query


def is_abort(seen: Seen) -> bool:
    """AbortMultipartUpload."""
    return seen.method == "DELETE" and "uploadId" in seen.query


def is_delete(seen: Seen) -> bool:
    """DeleteObject."""
    return seen.method == "DELETE" and "uploadId" not in seen.query


def is_list(seen: Seen) -> bool:
    """ListObjectsV2."""
    return seen.method == "GET" and seen.query.get("list-type") == "2"


def is_head(seen: Seen) -> bool:
    """HeadObject."""
    return seen.method == "HEAD"


def is_get(seen: Seen) -> bool:
    """GetObject."""
    return seen.method == "GET" and not seen.query


def is_upload_list(seen: Seen) -> bool:
    """ListMultipartUploads."""
    return seen.method == "GET" and "uploads" in seen.query


def has_checksum_header(seen: Seen) -> bool:
    """Any of the checksums that newer SDKs send and other vendors reject."""
    return any(
        name.startswith(("x-amz-checksum", "x-amz-sdk-checksum", "x-amz-trailer")) or "TRAILER" in value
        for name, value in seen.headers.items()
    )
