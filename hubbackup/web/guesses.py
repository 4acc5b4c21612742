"""Wrong passwords for the status page: after a few of them a visitor waits, twice as long after each further one.

While a visitor waits, no password of theirs is looked at, not even the right one: else guessing would go on. Visitors
behind one proxy are one visitor here.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict
from dataclasses import dataclass

FREE_GUESSES = 5
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
FORGET_SECONDS = 900.0
MOST_VISITORS = 1000
"""So many are remembered; then the one whose last guess is longest ago is forgotten."""


@dataclass
class _Record:
    guesses: int = 0
    last_at: float = 0.0

    @property
    def pause_seconds(self) -> float:
        more = self.guesses - FREE_GUESSES
        return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(more, 10)) if more >= 0 else 0.0


class Guesses:
    """The wrong guesses of each visitor; `now` is any clock in seconds that does not go back."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._lock = threading.Lock()

    def seconds_to_wait(self, client: str, now: float) -> float:
        """Before a password of theirs is looked at again."""
        with self._lock:
            record = self._records.get(client)
            return max(0.0, record.last_at + record.pause_seconds - now) if record else 0.0

    def wrong(self, client: str, now: float) -> bool:
        """Count one; whether it is the one that begins to cost them time."""
        with self._lock:
            record = self._records.pop(client, None)
            if record is None or now - record.last_at > FORGET_SECONDS:
                record = _Record()
            record.guesses += 1
            record.last_at = now
            self._records[client] = record
            while len(self._records) > MOST_VISITORS:
                self._records.popitem(last=False)
            return record.guesses == FREE_GUESSES

    def right(self, client: str) -> None:
        """They know it: what they mistyped is forgotten."""
        with self._lock:
            self._records.pop(client, None)


def client_of(address: str) -> str:
    """Who an address counts as: itself, or its network of IPv6, of which one visitor has all."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else str(found)
