"""The log on the terminal of whoever typed a command: warnings and errors as sentences, and nothing else.

The command's own answer says how the run ended, so no closing line is shown. The log file has every line.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container

from structlog.typing import EventDict

CLEAR_LINE = "\r\x1b[2K"
"""A progress bar may stand where a line is about to be written; it is drawn again after it."""
STABLE_PREFIX = "AVERTISSEMENT"
"""Of the one message that has its level in its text already."""


class Sentences:
    """A filter and a renderer for one handler. It remembers what it has shown, so that nobody says it again."""

    def __init__(self, answered: Container[str] = (), typable: Callable[[str], str] = str) -> None:
        """`answered`: the ids of events that the commands' answers report themselves.

        `typable` makes a text's commands such as its reader can type them.
        """
        self._answered = answered
        self._typable = typable
        self._shown: list[str] = []

    def wants(self, record: logging.LogRecord) -> bool:
        """Whether the line is a warning or an error that no answer reports. A closing line has an exit code."""
        event = record.msg if isinstance(record.msg, dict) else {}
        return (
            record.levelno >= logging.WARNING
            and "exit_code" not in event
            and event.get("event") not in self._answered
        )

    def __call__(self, _logger: object, _name: str, event: EventDict) -> str:
        """The message with its level before it, and below it what to do."""
        message = str(event.get("message", event["event"]))
        self._shown.append(str(event.get("cause") or message))
        sentence = message if message.startswith(STABLE_PREFIX) else f"{event['level']}: {message}"
        remedy = f"\n  what to do: {event['remedy']}" if event.get("remedy") else ""
        return f"{CLEAR_LINE}{self._typable(sentence + remedy)}"

    def has_shown(self, sentence: str) -> bool:
        """Whether what `sentence` ends with, its cause, has been shown."""
        return any(sentence.endswith(cause) for cause in self._shown)
