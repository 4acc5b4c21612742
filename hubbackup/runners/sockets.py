"""A command's streams as sockets: in large pieces, never forever, and stopped when the run is."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time

from hubbackup.errors import StreamError
from hubbackup.streams.cancel import Cancel

TICK_SECONDS = 0.5
TIMEVAL = struct.Struct("@ll")


class Receiver:
    """Fills buffers from a socket. `idle_seconds`, how long it may be silent, can be changed while it is read."""

    def __init__(
        self,
        connection: socket.socket,
        tool: str,
        cancel: Cancel,
        idle_seconds: float,
        *,
        low_water_bytes: int = 1,
        answers: bool = False,
    ) -> None:
        """`low_water_bytes`: wake for no less, but after half a second (SO_RCVLOWAT, which only TCP heeds).
        `answers`: what comes are answers that somebody waits for, and each is read at once."""
        self._flags = 0 if answers else socket.MSG_WAITALL
        self.idle_seconds = idle_seconds
        self._connection = connection
        self._tool = tool
        self._cancel = cancel
        # Every small piece would wake this process, thousands a second: a blocking read that waits for a full
        # buffer, for half a second at most, costs a sixth less processor time here and a third less in dockerd.
        connection.settimeout(None)
        tick = TIMEVAL.pack(int(TICK_SECONDS), int(TICK_SECONDS % 1 * 1e6))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, tick)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, low_water_bytes)

    def into(self, view: memoryview) -> int:
        """Fill `view` as far as half a second allows; the number of bytes, 0 at the end of the stream.

        Raises StreamError where the stream is cut or silent for longer than `idle_seconds`, StoppedError.
        """
        last_byte_at = time.monotonic()
        while True:
            self._cancel.check()
            try:
                return self._connection.recv_into(view, 0, self._flags)
            except BlockingIOError:  # half a second without a byte
                if time.monotonic() - last_byte_at > self.idle_seconds:
                    raise StreamError(
                        f"{self._tool} sent no byte for {self.idle_seconds:.0f} s",
                        remedy="check that the database's container is not paused, and that no lock holds pg_dump up",
                    ) from None
            except OSError as error:
                raise StreamError(
                    f"the stream from {self._tool} was cut: {error.strerror}", remedy="look into the engine's log"
                ) from error


def send(
    connection: socket.socket, data: bytes | memoryview, tool: str, cancel: Cancel, ended: threading.Event
) -> None:
    """Write all of `data`, in portions, so that a command that `ended` early is noticed. Raises StreamError."""
    view = memoryview(data)
    while view:
        cancel.check()
        if ended.is_set():
            raise StreamError(f"{tool} ended before it read all of its input")
        if not select.select([], [connection], [], TICK_SECONDS)[1]:
            continue
        try:
            view = view[connection.send(view, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            continue
        except OSError as error:
            raise StreamError(f"{tool} ended before it read all of its input") from error
