"""Logs: one JSON object a line, or coloured text for people; no line without an event id, no secret in any, and
nothing that a terminal would obey."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from logging.handlers import RotatingFileHandler, WatchedFileHandler
from pathlib import Path
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor

from hubbackup.logs.handlers import PipeHandler, file_handler
from hubbackup.logs.sentences import CLEAR_LINE, Sentences
from hubbackup.shown_text import json_text, mask, printable


def configure(
    *,
    level: str,
    log_format: str,
    stream: TextIO | None = None,
    log_file: str = "",
    rotate: bool = False,
    typable: Callable[[str], str] = str,
    sentences: Sentences | None = None,
) -> None:
    """Send structlog's and every library's log through one pipeline to `stream` (default: stdout).

    To `log_file` too, where one is named: always as JSON, rotated here only with `rotate` (the daemon).
    `typable` makes the commands in a remedy such as the log's reader can type them. With `sentences`, `stream` is a
    terminal: it gets only what they want, rendered by them.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _remedies(typable),
        without_secrets,
    ]
    as_json = structlog.processors.JSONRenderer(serializer=lambda event, **_: json_text(event))
    out = stream or sys.stdout
    handlers: list[logging.Handler] = [PipeHandler(out)]
    if sentences is not None:
        handlers[0].addFilter(sentences.wants)
    for_people = sentences or (None if log_format == "json" else _for_people(out))
    if for_people is not None:
        handlers[0].setFormatter(_formatter(shared, _printable, for_people))
    else:
        handlers[0].setFormatter(_formatter(shared, as_json))
    file_problem = ""
    if log_file:
        try:
            handlers.append(file_handler(Path(log_file), rotate=rotate))
            handlers[1].setFormatter(_formatter(shared, as_json))
        except OSError as error:
            file_problem = f"LOG_FILE={log_file} can't be written: {error.strerror}"
    root = logging.getLogger()
    for old in root.handlers:
        if isinstance(old, (RotatingFileHandler, WatchedFileHandler)):
            old.close()
    root.handlers[:] = handlers
    root.setLevel(level.upper())
    for noisy in ("apscheduler", "botocore", "boto3", "urllib3", "docker", "s3transfer", "apprise"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a closed log pipe must never fail a backup
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    if file_problem:
        get_logger().warning("log_file.unwritable", message=file_problem, remedy="see docs/logs.md, LOG_FILE")


def _remedies(typable: Callable[[str], str]) -> Processor:
    def typed(_logger: Any, _name: str, event: EventDict) -> EventDict:
        if event.get("remedy"):
            event["remedy"] = typable(str(event["remedy"]))
        return event

    return typed


def _for_people(stream: TextIO) -> Processor:
    """Time, level, the message, and after it the fields, the event's id among them; coloured on a terminal."""
    on_terminal = stream.isatty()
    render = structlog.dev.ConsoleRenderer(colors=on_terminal, event_key="message", pad_event_to=40)
    if not on_terminal:
        return render
    return lambda logger, name, event: CLEAR_LINE + render(logger, name, event)


def _formatter(shared: list[Processor], *last: Processor) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_foreign_event, *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )


def get_logger() -> structlog.stdlib.BoundLogger:
    """The program's logger; bind context to it rather than making another."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger("hubbackup")
    return logger


def _foreign_event(_logger: Any, _name: str, event: EventDict) -> EventDict:
    """A library's line has text where ours has an event id: give it both."""
    record = event.get("_record")
    event["message"] = event.get("event", "")
    event["event"] = f"library.{record.name.split('.')[0]}" if record is not None else "library"
    return event


def without_secrets(_logger: Any, _name: str, event: EventDict) -> EventDict:
    """Masks the values of secrets wherever they turn up: the last line of defence, not the first."""
    for key, value in event.items():
        if key != "_record":
            event[key] = _each_text(value, mask)
    return event


def _printable(_logger: Any, _name: str, event: EventDict) -> EventDict:
    """For people's eyes. A traceback alone has several lines."""
    for key, value in event.items():
        event[key] = printable(str(value), keep="\n") if key == "exception" else _each_text(value, printable)
    return event


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_each_text(key, change): _each_text(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_each_text(item, change) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return change(str(value))  # as the renderer would, an exception for one
