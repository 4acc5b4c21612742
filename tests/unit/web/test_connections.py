"""The page under load and guessing: slow visitors, crowds, wrong passwords, over real sockets."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from hubbackup.web import connections
from hubbackup.web.guesses import FORGET_SECONDS, MOST_VISITORS, Guesses, client_of
from hubbackup.web.server import Login, StatusApp, StatusServer
from tests.support.hub_chantier import a_month
from tests.support.screenshots import Served, served


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(a_month(tmp_path_factory.mktemp("month")).snapshot()) as running:
        yield running


def ask(page: Served, password: str = "") -> tuple[int, str]:
    """Status, and Retry-After."""
    login = {"Authorization": "Basic " + base64.b64encode(f"me:{password}".encode()).decode()} if password else {}
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/", headers=login)
        response = connection.getresponse()
        response.read()
        return response.status, response.getheader("Retry-After", "")


def dripping(page: Served, source: str = "127.0.0.1") -> socket.socket:
    """A connection whose request never ends."""
    connection = socket.create_connection(("127.0.0.1", page.port), timeout=10, source_address=(source, 0))
    connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Drip: a")
    return connection


def test_a_crowd_that_drips_does_not_close_the_page(page: Served) -> None:
    """Whoever has most connections loses the slowest of them; another slow visitor among them keeps theirs."""
    with contextlib.ExitStack() as stack:
        slow = stack.enter_context(dripping(page, "127.0.0.2"))
        crowd = [stack.enter_context(dripping(page)) for _ in range(connections.CONNECTIONS + 5)]
        assert ask(page)[0] == 200
        for one in crowd[-20:]:
            one.sendall(b"b")
        assert ask(page)[0] == 200
        slow.sendall(b"\r\n\r\n")
        assert slow.recv(100).startswith(b"HTTP/1.1 200 OK")
        assert crowd[0].recv(100).startswith(b"HTTP/1.1 408 ")


def test_a_request_that_drips_has_a_deadline(page: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many bytes still come: it is told so, and closed."""
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.0)
    with dripping(page) as one:
        assert one.recv(1000).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert one.recv(1000) == b""


def test_an_answer_that_nobody_takes_has_a_deadline(page: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A visitor who asks and does not read holds no place for longer than that."""
    monkeypatch.setattr(connections, "ANSWER_SECONDS", 0.0)
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.settimeout(10)
        one.connect(("127.0.0.1", page.port))

        def ask_on() -> None:  # until the answers fill the kernel's buffers, and the server's patience is over
            while True:
                one.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

        with pytest.raises(ConnectionError):
            ask_on()


def test_where_all_are_being_answered_the_next_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request under way is given up for a new one."""
    monkeypatch.setattr(connections, "CONNECTIONS", 3)
    going_on = threading.Event()

    def slow() -> tuple[bool, str]:
        going_on.wait(10)
        return True, "alive"

    app = StatusApp(lambda: None, slow, structlog.stdlib.get_logger())
    with StatusServer(app, 0, host="127.0.0.1") as server, contextlib.ExitStack() as stack:
        busy = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 10)) for _ in range(3)]
        for one in busy:
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        while sum(bool(one.requests) for one in server._server.active_channels.values()) < len(busy):
            time.sleep(0.01)
        with socket.create_connection(("127.0.0.1", server.port), 10) as late:
            assert late.recv(1000).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        going_on.set()
        for one in busy:
            assert one.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_wrong_passwords_cost_time() -> None:
    """After five of them no password is looked at for a while, not even the right one; another address is let in."""
    events: list[tuple[Any, Any]] = []

    def note(_: object, __: str, event: dict[str, object]) -> dict[str, object]:
        events.append((event["event"], event.get("client")))
        raise structlog.DropEvent

    log = structlog.wrap_logger(None, processors=[note], wrapper_class=structlog.stdlib.BoundLogger)
    app = StatusApp(lambda: None, lambda: (True, "alive"), log, Login("me", "right"))
    with StatusServer(app, 0, host="127.0.0.1") as server:
        page = Served(None, port=server.port)
        assert [ask(page)[0] for _ in range(20)] == [401] * 20  # without any, as a browser first comes
        assert [ask(page, "wrong")[0] for _ in range(5)] == [401] * 5
        assert ask(page, "right") == (429, "1")
        login = base64.b64encode(b"me:right")
        with socket.create_connection(("127.0.0.1", page.port), 10, ("127.0.0.2", 0)) as other:
            other.sendall(b"GET / HTTP/1.1\r\nAuthorization: Basic " + login + b"\r\n\r\n")
            assert other.recv(100).startswith(b"HTTP/1.1 503")  # let in: the stores are still being read
    assert events == [("status.guessed", "127.0.0.1")]


def test_the_pause_doubles_and_is_forgotten() -> None:
    """A second, two, four, a minute at most; the right password and a quarter of an hour wipe the slate."""
    guesses = Guesses()
    assert [guesses.wrong("a", 0.0) for _ in range(5)] == [False] * 4 + [True]
    assert guesses.seconds_to_wait("a", 0.0) == 1
    guesses.wrong("a", 10.0)
    assert guesses.seconds_to_wait("a", 10.5) == 1.5
    for _ in range(50):
        guesses.wrong("a", 20.0)
    assert guesses.seconds_to_wait("a", 20.0) == 60
    assert guesses.seconds_to_wait("b", 20.0) == 0
    later = 20.0 + FORGET_SECONDS + 1
    guesses.wrong("a", later)
    assert guesses.seconds_to_wait("a", later) == 0
    for _ in range(5):
        guesses.wrong("b", 0.0)
    guesses.right("b")
    assert guesses.seconds_to_wait("b", 0.0) == 0


def test_memory_of_guesses_is_bounded() -> None:
    """A visitor with a million addresses fills none; of IPv6 a network counts as one."""
    guesses = Guesses()
    for number in range(3 * MOST_VISITORS):
        guesses.wrong(str(number), 0.0)
    assert len(guesses._records) == MOST_VISITORS
    assert client_of("2001:db8::1") == client_of("2001:db8::ffff:2") != client_of("2001:db8:0:1::1")
    assert client_of("fe80::1%eth0") == "fe80::/64"
    assert (client_of("192.0.2.1"), client_of("unknown")) == ("192.0.2.1", "unknown")


def test_a_login_is_compared_whole() -> None:
    """Only the pair itself, of whatever length what was given is."""
    login = Login("me", "right")
    given = ("me:right", "me:righ", "me:right ", "me:", "x" * 1000)
    assert [login.admits("Basic " + base64.b64encode(one.encode()).decode()) for one in given] == [True] + [False] * 4
