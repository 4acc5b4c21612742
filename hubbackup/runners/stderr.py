"""What a command writes to stderr: the last of it is kept, and in it the line that tells what went wrong."""

from __future__ import annotations

import re

STDERR_TAIL_BYTES = 16 << 10
TELLING = re.compile(r"error:|ERROR:|FATAL:|PANIC:|server closed the connection")


class Tail:
    """The last bytes of a stream, for stderr."""

    def __init__(self, limit_bytes: int = STDERR_TAIL_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._data = bytearray()

    def add(self, data: bytes | memoryview) -> None:
        """Append, and forget what is older than the limit."""
        self._data += data
        if len(self._data) > self._limit_bytes:
            del self._data[: -self._limit_bytes]

    def text(self) -> str:
        """What is kept, decoded; a byte that is not UTF-8 becomes U+FFFD."""
        return self._data.decode("utf-8", "replace")


def reason(stderr: str) -> str:
    """The line in which a tool says what went wrong: its first complaint, of which later ones are consequences.

    Where no line looks like a complaint it is the last one, and of an empty text `no message`.
    """
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return next((line for line in lines if TELLING.search(line)), lines[-1] if lines else "no message")
