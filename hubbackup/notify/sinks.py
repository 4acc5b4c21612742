"""Sending messages to people: apprise's sinks, and the post that delivers the spool to them.

A sink may be dead, or hang: nothing that it does may hold up a run or change how it ends. So each attempt runs in
a thread of its own that is left behind when its time is over, and whatever was not taken waits in the spool.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from hubbackup.errors import SettingsError
from hubbackup.notify.redirects import no_lossy_redirects
from hubbackup.notify.spool import Message, Spool
from hubbackup.shown_text import sentence

if TYPE_CHECKING:
    import structlog

DAEMON_SECONDS = 30.0
"""How long the daemon's post waits for one message's sinks."""
COMMAND_SECONDS = 10.0
"""How long a command line waits in all; what is left then, the daemon sends."""
POLL_SECONDS = 15.0


class Sinks:
    """The configured receivers, known by labels without secrets: `mailtos#1`, `slack#2`."""

    def __init__(self, urls: Sequence[str]) -> None:
        """Raises SettingsError for a URL that apprise can't use."""
        self._senders: dict[str, Any] = {}
        self._busy: dict[str, threading.Thread] = {}
        if not urls:
            return
        from apprise import Apprise

        for number, url in enumerate(urls, start=1):
            scheme = url.partition("://")[0].lower()
            with _said_by_this_thread() as said:
                sender = Apprise.instantiate(url, suppress_exceptions=True)
            if sender is None:
                shown = f" ({scheme}://…)" if re.fullmatch(r"[a-z0-9+.-]{1,20}", scheme) and "://" in url else ""
                cause = said.of_url(url)
                raise SettingsError(
                    f"NOTIFICATION_URLS: number {number}{shown} is not a URL that apprise can send to{cause}",
                    remedy="such as mailtos://user:password@mail.example.org?to=admin@example.org;"
                    " see docs/notifications.md",
                )
            self._senders[f"{scheme}#{number}"] = sender

    @property
    def labels(self) -> tuple[str, ...]:
        """Every sink's label."""
        return tuple(self._senders)

    def probe(self) -> dict[str, str | None]:
        """Why each sink would refuse a message now: empty where it would not, None where only a message shows it."""
        from hubbackup.notify.probe import probe

        found: dict[str, str | None] = {}
        for label, sender in self._senders.items():
            try:
                found[label] = "" if probe(label.partition("#")[0], sender) else None
            except Exception as error:  # noqa: BLE001 - a server may say anything, and each is a reason
                found[label] = sentence(str(error) or type(error).__name__)
        return found

    def send(self, message: Message, labels: Iterable[str], seconds: float) -> dict[str, str]:
        """Send to all of `labels` at once, for `seconds` at most; why each did not take it, or an empty string.

        A sink that is still busy with an attempt that was left behind gets no second one.
        """
        answers: dict[str, str] = {}
        threads = []
        for label in labels:
            busy = self._busy.get(label)
            if busy is not None and busy.is_alive():
                answers[label] = "it still hangs in an earlier attempt"
                continue
            answers[label] = f"no answer within {seconds:.0f} s"
            thread = threading.Thread(
                target=self._send_one, args=(label, message, answers), name=f"notify-{label}", daemon=True
            )
            self._busy[label] = thread
            threads.append(thread)
            thread.start()
        deadline = time.monotonic() + seconds
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return {label: sentence(answers[label]) for label in labels}

    def _send_one(self, label: str, message: Message, answers: dict[str, str]) -> None:
        with _said_by_this_thread() as said, no_lossy_redirects():
            try:
                taken = self._senders[label].notify(
                    body=message.body, title=message.title, notify_type=message.kind, body_format="text"
                )
                answers[label] = "" if taken else said.why()
            except Exception as error:  # noqa: BLE001 - whatever a plugin raises, the message was not taken
                answers[label] = f"{type(error).__name__}: {error}"


class Post:
    """Delivers what is in the spool: in a thread of its own in the daemon, else once and briefly at each `send`."""

    def __init__(
        self,
        spool: Spool,
        sinks: Sinks,
        log: structlog.stdlib.BoundLogger,
        note: Callable[[str, Mapping[str, str], datetime], None] = lambda title, answers, now: None,
    ) -> None:
        """`note` is given the answers to each attempt."""
        self._note = note
        self._spool = spool
        self._sinks = sinks
        self._log = log
        self._wake = threading.Event()
        self._stopping = False
        self._in_background = False
        self._thread: threading.Thread | None = None

    @property
    def in_background(self) -> bool:
        """Whether this process lives on, so that nobody needs to wait."""
        return self._in_background

    def send(self, message: Message) -> None:
        """Keep `message` in the spool until every sink has it. Without sinks it goes nowhere."""
        if not self._sinks.labels:
            return
        self._spool.add(message.safe())
        if self._thread is None:
            self.deliver(COMMAND_SECONDS)
        else:
            self._wake.set()

    def start(self) -> None:
        """Deliver in the background from now on, first of all what an earlier process left."""
        self._in_background = True
        if self._sinks.labels:
            self._thread = threading.Thread(target=self._work, name="post", daemon=True)
            self._thread.start()

    def stop(self, seconds: float) -> None:
        """Give what is being delivered `seconds` to get out; the rest waits for the next start."""
        thread = self._thread
        if thread is not None:
            self._stopping = True
            self._wake.set()
            thread.join(seconds)

    def deliver(self, budget_seconds: float | None = None) -> None:
        """Try everything that is due, once; a budget bounds it all, and is for the newest message first."""
        deadline = None if budget_seconds is None else time.monotonic() + budget_seconds
        with self._spool.exclusive() as mine:
            if not mine:
                return
            self._give_up(self._spool.overdue(datetime.now(UTC)))
            due = [message for message in self._spool.waiting() if message.is_due(datetime.now(UTC))]
            for message in due if deadline is None else reversed(due):
                left = DAEMON_SECONDS if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    return
                self._deliver_one(message, left)

    def _deliver_one(self, message: Message, seconds: float) -> None:
        missing = [label for label in self._sinks.labels if label not in message.sent_to]
        answers: Mapping[str, str] = self._sinks.send(message, missing, seconds)
        self._note(message.title, answers, datetime.now(UTC))
        failed = {label: reason for label, reason in answers.items() if reason}
        sent_to = (*message.sent_to, *(label for label in answers if label not in failed))
        if len(failed) < len(answers):
            taken = [label for label in answers if label not in failed]
            self._log.info("notify.sent", message=f"message sent: {message.title}", sinks=taken)
        if not failed:
            self._spool.remove(message)
            return
        again = message.tried(sent_to, datetime.now(UTC))
        self._spool.update(again)
        self._log.warning(
            "notify.failed",
            message=f"message not sent: {message.title}",
            sinks=failed,
            attempts=again.attempts,
            next_try_at=again.next_try_at,
            remedy="hubbackup notify-test",
        )

    def _give_up(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._spool.remove(message)
            self._log.error(
                "notify.dropped",
                message=f"message given up: {message.title}",
                attempts=message.attempts,
                created_at=message.created_at,
            )

    def _work(self) -> None:
        while True:
            self._wake.clear()
            try:
                self.deliver()
            except Exception:  # noqa: BLE001 - the post must outlive whatever one message does
                self._log.exception("notify.crashed", message="sending messages failed")
            if self._stopping:
                return
            self._wake.wait(POLL_SECONDS)


class _Said(logging.Handler):
    """What apprise logs in one thread: its only way of saying why a message was not taken.

    The complaint is a warning. What was behind it (a refused connection, a certificate, a password) is logged at
    the level debug only, in the same words by every plugin.
    """

    BEHIND = "Socket Exception:"
    ADDRESSES = re.compile(r"(?: with)? url: \S+|\bhttps?://\S+|<\S+ object at 0x[0-9a-f]+>:? ?")

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._thread_id = threading.get_ident()
        self._complaints: list[str] = []
        self._behind = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the complaints, and what was behind the last one, without tokens of its address."""
        if record.thread != self._thread_id:
            return
        text = " ".join(record.getMessage().split())
        if record.levelno >= logging.WARNING:
            self._complaints.append(text[:300])
        elif text.startswith(self.BEHIND):
            self._behind = self.ADDRESSES.sub("", text.removeprefix(self.BEHIND)).strip()[:300]

    def why(self) -> str:
        """Why a message was not taken, in one sentence."""
        complaint = self._complaints[-1] if self._complaints else "it did not accept the message"
        return f"{complaint.rstrip('.')}: {self._behind}" if self._behind else complaint

    def of_url(self, url: str) -> str:
        """What is wrong with `url`, after a colon and without any word of it; empty where nothing more is known."""
        complaint = next((text for text in self._complaints if "://" not in text), "")
        values = unquote(re.sub(r"[?&][a-z]+=", " ", url)).lower()
        words = re.sub(
            r"[^\s()\"']{4,}", lambda word: "…" if word[0].lower() in values else word[0], complaint
        ).rstrip(".: ")
        return f": {words[0].lower()}{words[1:]}" if words else ""


@contextlib.contextmanager
def _said_by_this_thread() -> Iterator[_Said]:
    said = _Said()
    logger = logging.getLogger("apprise")
    logger.propagate = False  # it is logged once, in notify.failed, and without secrets
    logger.setLevel(logging.DEBUG)
    logger.addHandler(said)
    try:
        yield said
    finally:
        logger.removeHandler(said)
