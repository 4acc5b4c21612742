"""Real receivers of messages: an HTTP server that can be told to refuse or to hang, and an SMTP server."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message as Mail
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult


def until(found: Callable[[], Any], seconds: float = 60) -> Any:
    """Poll until `found` gives something, and return that."""
    deadline = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.02)
    return result


@dataclass
class HttpSink:
    """Answers each request with `status`; 0: it takes the request and never answers. `location`: sends elsewhere."""

    port: int = 0
    status: int = 200
    location: str = ""
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    """(method, path, the JSON of its body or None), also of those that were refused or hung."""
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def apprise_url(self) -> str:
        """For NOTIFICATION_URLS."""
        return f"json://127.0.0.1:{self.port}/hook?rto=60"

    @property
    def url(self) -> str:
        """For HEARTBEAT_URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def titles(self) -> list[str]:
        """Of the messages that came, in order."""
        return [body["title"] for _, _, body in self.requests if body]

    @property
    def paths(self) -> list[str]:
        """Of the requests that came, in order."""
        return [path for _, path, _ in self.requests]


@contextmanager
def http_sink(status: int = 200) -> Iterator[HttpSink]:
    """A sink on a loopback port."""
    sink = HttpSink(status=status)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._take("GET")

        def do_POST(self) -> None:
            self._take("POST")

        def _take(self, method: str) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            sink.requests.append((method, self.path, body))
            if sink.status == 0:
                sink.closing.wait(60)
                return
            self.send_response(sink.status)
            self.send_header("Content-Length", "0")
            if sink.location:
                self.send_header("Location", sink.location)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        sink.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield sink
        finally:
            sink.closing.set()
            server.shutdown()


@dataclass
class MailSink:
    """The mails that came, raw and parsed, and who logged in."""

    port: int = 0
    raw: list[bytes] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    """Of each mail, whether it came over TLS."""
    logins: list[tuple[str, str]] = field(default_factory=list)
    """Each pair that was tried."""

    @property
    def mails(self) -> list[Mail]:
        """Parsed by the standard library."""
        return [message_from_bytes(data, policy=default) for data in self.raw]

    @property
    def apprise_url(self) -> str:
        """For NOTIFICATION_URLS."""
        return f"mailto://localhost:{self.port}?{ADDRESSES}&mode=insecure"

    def secure_url(self, password: str, mode: str = "starttls") -> str:
        """For NOTIFICATION_URLS, with a login and over TLS."""
        return f"mailtos://backup:{quote(password, safe='')}@localhost:{self.port}?{ADDRESSES}&mode={mode}"


ADDRESSES = "from=backup@hub-chantier.fr&to=admin@hub-chantier.fr"


@contextmanager
def mail_sink(
    certificate: Path | None = None, *, password: str = "", implicit_tls: bool = False
) -> Iterator[MailSink]:
    """An SMTP server on a loopback port.

    With a `password` it takes mail only of who logs in with it (and with any name); with a `certificate` only over
    TLS, by STARTTLS or from the first byte on.
    """
    sink = MailSink()

    class Handler:
        async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:
            sink.raw.append(envelope.content)
            sink.encrypted.append(session.ssl is not None or implicit_tls)
            return "250 OK"

    def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, given: Any) -> AuthResult:
        sink.logins.append((given.login.decode(), given.password.decode()))
        return AuthResult(success=given.password.decode() == password, handled=False)

    options: dict[str, Any] = {}
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        options = {"ssl_context": context} if implicit_tls else {"tls_context": context, "require_starttls": True}
    if password:
        # aiosmtpd counts only STARTTLS as TLS. Without any it would take the password in clear: whether one is sent
        # then is up to the client.
        options |= {"authenticator": authenticate, "auth_required": certificate is not None}
        options["auth_require_tls"] = "tls_context" in options
    with socket.socket() as free:  # the controller connects to its own port, so it must know it beforehand
        free.bind(("127.0.0.1", 0))
        sink.port = free.getsockname()[1]
    controller = Controller(Handler(), hostname="127.0.0.1", port=sink.port, **options)
    controller.start()
    try:
        yield sink
    finally:
        controller.stop()


def self_signed(directory: Path) -> Path:
    """A new key and its certificate for `localhost`, in one file, signed by nobody else."""
    path, key = directory / "mail.pem", directory / "mail.key"
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    kind = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run(["openssl", "req", *kind, *name, "-keyout", key, "-out", path], check=True, capture_output=True)
    path.write_bytes(key.read_bytes() + path.read_bytes())
    return path
