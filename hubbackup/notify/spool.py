"""Messages that wait to be sent: one small JSON file each, so that an alert survives a restart.

Bounded in number and age. Delivery is at least once: a process killed between sending and writing that down sends
again. No address and no secret is written here, only which of the configured sinks has the message already.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from hubbackup.jobs.state_file import write_text
from hubbackup.shown_text import mask, printable, sentence

MAX_MESSAGES = 100
MAX_AGE = timedelta(days=3)
MAX_BODY_CHARACTERS = 8000
FIRST_RETRY = timedelta(seconds=30)
LONGEST_RETRY = timedelta(minutes=30)

Kind = Literal["failure", "warning", "success", "info"]


@dataclass(frozen=True)
class Message:
    """One message to people. `sent_to` are the labels of the sinks that have it."""

    kind: Kind
    title: str
    body: str
    id: str = ""
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    attempts: int = 0
    next_try_at: datetime | None = None
    sent_to: tuple[str, ...] = ()

    def safe(self) -> Message:
        """Without secrets, and without what a mail reader or a terminal would obey."""
        return replace(self, title=sentence(self.title), body=printable(mask(self.body), keep="\n"))

    def is_due(self, now: datetime) -> bool:
        """Whether it is time for another attempt."""
        return self.next_try_at is None or self.next_try_at <= now or self.next_try_at > now + LONGEST_RETRY

    def tried(self, sent_to: tuple[str, ...], now: datetime) -> Message:
        """After an attempt that some sink did not take: later again, at doubled distances."""
        # The exponent is bounded, since a number to the power of a thousand attempts fits no timedelta.
        wait = min(FIRST_RETRY * 2 ** min(self.attempts, 10), LONGEST_RETRY)
        return replace(self, attempts=self.attempts + 1, next_try_at=now + wait, sent_to=sent_to)


class Spool:
    """The directory of waiting messages. Where it can't be written, they are kept in memory: better than nothing."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._in_memory: dict[str, Message] = {}

    def add(self, message: Message) -> Message:
        """Keep it until it is sent; returns it with its id. Never raises OSError."""
        moment = message.created_at.astimezone(UTC)
        named = replace(
            message, id=f"{moment:%Y%m%dT%H%M%S%f}-{secrets.token_hex(2)}", body=message.body[:MAX_BODY_CHARACTERS]
        )
        self.update(named)
        return named

    def update(self, message: Message) -> None:
        """Write down how far its delivery has come."""
        path = self._path(message.id)
        try:
            write_text(path, json.dumps(asdict(message), default=_as_text, ensure_ascii=False))
            self._in_memory.pop(message.id, None)
        except OSError:  # a full disk may be what the alert is about
            self._in_memory[message.id] = message

    def remove(self, message: Message) -> None:
        """It is sent, or given up."""
        self._in_memory.pop(message.id, None)
        with contextlib.suppress(OSError):
            self._path(message.id).unlink()

    def waiting(self) -> list[Message]:
        """Every waiting message, oldest first; a file that is not a message is removed."""
        found = dict(self._in_memory)
        try:
            paths = sorted(self._directory.glob("*.json"))
        except OSError:
            paths = []
        for path in paths:
            try:
                message = _from_json(path.read_bytes())
            except OSError:
                continue
            except (ValueError, TypeError, KeyError):
                with contextlib.suppress(OSError):
                    path.unlink()
                continue
            found.setdefault(message.id, message)
        return sorted(found.values(), key=lambda message: message.id)

    def overdue(self, now: datetime) -> list[Message]:
        """Those to give up: too old, or more than the spool holds (the oldest first)."""
        waiting = self.waiting()
        surplus = {message.id for message in waiting[: max(0, len(waiting) - MAX_MESSAGES)]}
        return [message for message in waiting if message.id in surplus or now - message.created_at > MAX_AGE]

    @contextmanager
    def exclusive(self) -> Iterator[bool]:
        """Whether this process may deliver now: the daemon and a command line must not send the same twice."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self._directory / "lock", flags, 0o600)
        except OSError:
            yield True  # no spool: what there is, is this process's own
            return
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(descriptor)

    def _path(self, message_id: str) -> Path:
        return self._directory / f"{message_id}.json"


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _from_json(data: bytes) -> Message:
    facts = json.loads(data)
    for name in ("created_at", "next_try_at"):
        if facts[name] is not None:
            facts[name] = datetime.fromisoformat(facts[name]).astimezone(UTC)
    return Message(**{**facts, "sent_to": tuple(facts["sent_to"])})
