"""Connections to the status page: each has a deadline, and a new one is always let in.

waitress waits for a visitor as long as a byte comes now and then, and accepts nobody once its limit is reached: some
dozens of connections that drip would close the page. Here a request has to be whole, and its answer taken, within a
time from the first moment on; and where there are too many connections, the slowest of whoever has most of them goes.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter
from typing import Any

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher

from hubbackup.web.guesses import client_of

THREADS = 2
CONNECTIONS = 50
REQUEST_SECONDS = 20.0
"""For a request to be whole, from the connection or the last answer on."""
ANSWER_SECONDS = 60.0
"""For an answer to be taken."""
LOOK_SECONDS = 1
LARGEST_HEADER_BYTES = 16 << 10
TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n"


class Connection(HTTPChannel):  # type: ignore[misc]
    """One connection. Its turn begins when it is made, and again after each answer."""

    def __init__(self, server: Any, sock: socket.socket, addr: Any, adj: Any, map: Any = None) -> None:
        super().__init__(server, sock, addr, adj, map=map)
        self.turn_began = time.monotonic()
        self.client = client_of(str(addr[0]))

    @property
    def is_waiting(self) -> bool:
        """Whether nothing is being made for it."""
        return not self.requests and not self.will_close

    @property
    def is_overdue(self) -> bool:
        """Whether its turn has lasted too long; also where what it leaves holds up its next answers."""
        left = self.total_outbufs_len > 0
        seconds = ANSWER_SECONDS if left else REQUEST_SECONDS
        return (self.is_waiting or left) and time.monotonic() - self.turn_began > seconds

    def service(self) -> None:
        """Answer what was asked, in one of the server's threads."""
        super().service()
        self.turn_began = time.monotonic()

    def drop(self, last_words: bytes) -> None:
        """End it, from the server's own thread. One whose answer is on its way hears nothing more."""
        self.will_close = True
        with contextlib.suppress(OSError):
            if not self.total_outbufs_len:
                self.socket.send(last_words)
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes the server, which closes it


class BoundedServer(TcpWSGIServer):  # type: ignore[misc]
    """waitress's server with our connections."""

    channel_class = Connection

    def handle_accept(self) -> None:
        """Let a visitor in; where that is one too many, the slowest makes room, or else the visitor goes."""
        super().handle_accept()
        open_ones = [one for one in self.active_channels.values() if not one.will_close]
        if len(open_ones) <= CONNECTIONS:
            return
        newest = max(open_ones, key=lambda one: one.creation_time)
        waiting = [one for one in open_ones if one.is_waiting and one is not newest]
        if not waiting:
            newest.drop(TOO_MANY)
            return
        owned = Counter(one.client for one in open_ones)
        max(waiting, key=lambda one: (owned[one.client], -one.turn_began)).drop(TOO_SLOW)

    def maintenance(self, now: float) -> None:
        """End those whose time is over."""
        for one in list(self.active_channels.values()):
            if one.is_overdue:
                one.drop(TOO_SLOW)


def bounded_server(app: Any, host: str, port: int) -> BoundedServer:
    """A server that listens already. Raises OSError where the port can't be opened."""
    settings = Adjustments(
        host=host,
        port=port,
        threads=THREADS,
        connection_limit=4 * CONNECTIONS,  # never reached: see `handle_accept`
        cleanup_interval=LOOK_SECONDS,
        asyncore_use_poll=True,
        max_request_header_size=LARGEST_HEADER_BYTES,
        max_request_body_size=1,
        ident=None,
    )
    threads = ThreadedTaskDispatcher()
    threads.set_thread_count(THREADS)
    return BoundedServer(app, map={}, dispatcher=threads, adj=settings, sockinfo=settings.listen[0])
