"""The status page, /metrics and /healthz over HTTP: read-only, in threads of their own, few and bounded.

Whatever goes wrong here is logged and answered with an error page; nothing of it reaches the runs.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from hubbackup.jobs.current import AtWork
from hubbackup.shown_text import printable
from hubbackup.status import metrics
from hubbackup.status.snapshot import Snapshot
from hubbackup.status.verdict import Verdict, judge
from hubbackup.web import page
from hubbackup.web.connections import bounded_server
from hubbackup.web.guesses import Guesses, client_of

if TYPE_CHECKING:
    import structlog

TEXT = "text/plain; charset=utf-8"
HEADERS = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
Environ = dict[str, Any]


class StartResponse(Protocol):
    """WSGI's callable for status and headers."""

    def __call__(self, status: str, headers: list[tuple[str, str]], /) -> object: ...


@dataclass(frozen=True)
class Login:
    """Who may see the page, by HTTP's basic authentication."""

    user: str
    password: str

    def admits(self, header: str) -> bool:
        """Whether an Authorization header is theirs. Takes as long for a near miss as for any other."""
        scheme, _, encoded = header.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        digests = (hashlib.sha256(text).digest() for text in (given, f"{self.user}:{self.password}".encode()))
        return hmac.compare_digest(*digests)  # of one length, so that not even the password's length is told


@dataclass(frozen=True)
class Answer:
    """What goes back: status line, content type, body, further headers."""

    status: str
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class StatusApp:
    """The WSGI application. `current` gives the newest snapshot at once, `health` if the daemon is scheduling,
    `at_work` the runs that are going on."""

    def __init__(
        self,
        current: Callable[[], Snapshot | None],
        health: Callable[[], tuple[bool, str]],
        log: structlog.stdlib.BoundLogger,
        login: Login | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        at_work: Callable[[], Sequence[AtWork]] = tuple,
        remark: Callable[[], str] = str,
        typable: Callable[[], Callable[[str], str]] = lambda: str,
    ) -> None:
        """`remark`: what the daemon has to say of its settings. `typable` gives, for each page, what makes its
        commands such as its reader types them.
        """
        self._current = current
        self._health = health
        self._log = log
        self._login = login
        self._now = now
        self._at_work = at_work
        self._typable = typable
        self._guesses = Guesses()
        self._remark = remark
        self._pages = {"/": self._page, "/metrics": self._metrics, "/icon.svg": self._icon}

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request; an answer to HEAD has the headers only."""
        try:
            answer = self._answer(environ)
        except Exception:  # noqa: BLE001 - a broken page is logged, and harms nothing else
            self._log.exception("status.broken", message="the status page could not be made")
            answer = _plain("500 Internal Server Error", "This page could not be made; the log says why.")
        headers = [*HEADERS, *answer.headers, ("Content-Type", answer.content_type)]
        headers += [("Content-Length", str(len(answer.body))), ("Content-Security-Policy", _policy())]
        start_response(answer.status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]

    def _answer(self, environ: Environ) -> Answer:
        path = environ.get("PATH_INFO", "")
        make = self._healthz if path == "/healthz" else self._pages.get(path)
        if make != self._healthz and self._login and (refusal := self._refusal(self._login, environ)):
            return refusal
        if make is None:
            return _plain("404 Not Found", "Only /, /metrics and /healthz exist.")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _plain("405 Method Not Allowed", "This page is read-only.", ("Allow", "GET, HEAD"))
        return make(self._now())

    def _refusal(self, login: Login, environ: Environ) -> Answer | None:
        """What who does not know the password gets."""
        header, client = environ.get("HTTP_AUTHORIZATION", ""), client_of(environ["REMOTE_ADDR"])
        now = time.monotonic()
        seconds = self._guesses.seconds_to_wait(client, now) if header else 0.0
        if seconds:
            text = "Too many wrong passwords came from this address."
            return _plain("429 Too Many Requests", text, ("Retry-After", str(math.ceil(seconds))))
        if login.admits(header):
            self._guesses.right(client)
            return None
        if header and self._guesses.wrong(client, now):
            self._log.warning(
                "status.guessed",
                message=f"several wrong passwords for the status page came from {client}: it has to wait after each",
                client=client,
            )
        challenge = ("WWW-Authenticate", 'Basic realm="hubbackup", charset="UTF-8"')
        return _plain("401 Unauthorized", "User name and password are required.", challenge)

    def _judged(self, now: datetime) -> tuple[Snapshot, Verdict] | None:
        snapshot = self._current()
        if snapshot is None:
            return None
        healthy, sentence = self._health()
        busy = any(run.kind == "backup" for run in self._at_work())
        verdict = judge(snapshot, now, healthy=healthy, health_sentence=sentence, remark=self._remark(), busy=busy)
        return snapshot, verdict

    def _page(self, now: datetime) -> Answer:
        judged = self._judged(now)
        if judged is None:
            healthy, sentence = self._health()
            text = "The stores are being read for the first time. Try again in a moment."
            if not healthy:
                text = f"{sentence[:1].upper()}{sentence[1:]}."
            return _plain("503 Service Unavailable", text, ("Retry-After", "5"), ("Refresh", "5"))
        document = page.render(*judged, now, self._at_work(), self._typable())
        return Answer("200 OK", "text/html; charset=utf-8", document.encode("utf-8", "replace"))

    def _icon(self, now: datetime) -> Answer:
        judged = self._judged(now)
        if judged is None:
            return _plain("503 Service Unavailable", "Not yet.")
        return Answer("200 OK", "image/svg+xml", page.icon(judged[1].level).encode())

    def _metrics(self, now: datetime) -> Answer:
        snapshot, verdict = self._judged(now) or (None, None)
        healthy, _ = self._health()
        return Answer("200 OK", metrics.CONTENT_TYPE, metrics.exposition(snapshot, verdict, healthy=healthy, now=now))

    def _healthz(self, _: datetime) -> Answer:
        healthy, sentence = self._health()
        return _plain("200 OK" if healthy else "503 Service Unavailable", f"{sentence}.")


def _plain(status: str, text: str, *headers: tuple[str, str]) -> Answer:
    return Answer(status, TEXT, f"{printable(text)}\n".encode(), headers)


def _policy() -> str:
    """Nothing may be loaded or run but the page's one style, its one script, its icon, and itself once more."""
    return (
        f"default-src 'none'; style-src '{page.hash_of(page.stylesheet())}';"
        f" script-src '{page.hash_of(page.script())}'; connect-src 'self'; img-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    )


class StatusServer:
    """Serves an application on `port` (0: any free one) until it is stopped. A context manager.

    Raises OSError where the port can't be opened.
    """

    def __init__(self, app: StatusApp, port: int, host: str = "0.0.0.0") -> None:  # noqa: S104 - see docs/status-page.md
        logging.getLogger("waitress").setLevel(logging.ERROR)  # else a crowd of visitors fills the log
        self._server = bounded_server(app, host, port)
        self._thread = threading.Thread(target=self._server.run, name="status", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.effective_port)

    def start(self) -> None:
        """Begin to answer; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering. An answer under way is not waited for."""
        self._server.task_dispatcher.shutdown(timeout=1)
        # In the server's own thread, which selects on it; where a visitor wakes that first, it has closed already.
        with contextlib.suppress(OSError):
            self._server.trigger.pull_trigger(self._server.close)
        self._thread.join(timeout=1)

    def __enter__(self) -> StatusServer:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
