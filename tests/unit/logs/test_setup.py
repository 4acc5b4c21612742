"""Logs: one JSON object a line, each with an event id, none with a secret."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from hubbackup.logs import setup as logs
from hubbackup.logs.sentences import CLEAR_LINE, Sentences
from hubbackup.shown_text import MASK, Secrets

CANARY = 'can"ari\\7f\n$3a'


@pytest.fixture
def output(secrets: Secrets) -> Iterator[io.StringIO]:
    """The log of the test, as JSON; the root logger is put back afterwards."""
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    stream = io.StringIO()
    logs.configure(level="info", log_format="json", stream=stream)
    secrets.add([CANARY, "abc"])
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising
    logging.captureWarnings(False)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_each_line_is_one_json_object(output: io.StringIO) -> None:
    """An event has its id, level, UTC time and fields; a line break in a field breaks no line."""
    logs.get_logger().bind(run_id="r1").info("backup.started", message="backup started\nété", name="x")
    (line,) = lines(output)
    assert line["event"] == "backup.started"
    assert line["message"] == "backup started\nété"
    assert (line["level"], line["run_id"], line["name"]) == ("info", "r1", "x")
    assert line["timestamp"].endswith("Z")


def test_the_level_is_kept(output: io.StringIO) -> None:
    """What is below the level is not written."""
    logs.get_logger().debug("detail")
    assert lines(output) == []


def test_a_library_speaks_json_too(output: io.StringIO) -> None:
    """A library's warning, and Python's own, get an event id, and their text as the message."""
    logging.getLogger("apscheduler.scheduler").warning("run of %s missed", "job")
    logging.getLogger("apscheduler.scheduler").info("chatter")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)  # another test's, which pytest has undone behind logging's back
        logging.captureWarnings(True)
        warnings.warn("old call", DeprecationWarning, stacklevel=1)
    library, python = lines(output)
    assert (library["event"], library["message"]) == ("library.apscheduler", "run of job missed")
    assert python["event"] == "library.py"
    assert "old call" in python["message"]


def test_no_secret_is_written(output: io.StringIO) -> None:
    """In the text, nested fields, keys, exceptions, tracebacks, library lines: a secret is masked."""
    log = logs.get_logger()
    log.info(
        "x", message=f"pw={CANARY}!", deep={"a": [CANARY, (CANARY,)], CANARY: {CANARY}}, error=ValueError(CANARY)
    )
    try:
        raise RuntimeError(f"connection to {CANARY} failed")
    except RuntimeError:
        log.exception("crashed")
    logging.getLogger("botocore").warning("signing with %s", CANARY)
    written = output.getvalue()
    for form in (CANARY, json.dumps(CANARY)[1:-1], repr(CANARY)[1:-1]):
        assert form not in written
    assert MASK in written
    assert len(lines(output)) == 3


def test_a_short_secret_masks_no_ordinary_word(output: io.StringIO) -> None:
    """A password of three letters must not turn the log into asterisks."""
    logs.get_logger().info("x", message="abcdef")
    assert lines(output)[0]["message"] == "abcdef"


def test_numbers_stay_numbers(output: io.StringIO) -> None:
    """Masking changes no type that machines rely on."""
    logs.get_logger().info("x", exit_code=0, seconds=1.5, ok=True, none=None)
    (line,) = lines(output)
    assert (line["exit_code"], line["seconds"], line["ok"], line["none"]) == (0, 1.5, True, None)


def test_a_closed_log_fails_nothing(output: io.StringIO) -> None:
    """A log pipe that is closed must never fail a backup."""
    output.close()
    logs.get_logger().info("x")


class Terminal(io.StringIO):
    """A stream that somebody looks at."""

    def isatty(self) -> bool:
        return True


def test_sentences_on_a_terminal(output: io.StringIO, tmp_path: Path) -> None:
    """Warnings and errors with what to do; no closing line, nothing that an answer reports; the file has it all."""
    terminal, file = Terminal(), tmp_path / "log"
    sentences = Sentences(answered={"verify.bad"})
    logs.configure(level="info", log_format="console", stream=terminal, log_file=str(file), sentences=sentences)
    log = logs.get_logger()
    log.info("backup.started", message="began")
    log.error("verify.bad", message="damaged")
    log.warning("clean.failed", message=f"it holds {CANARY}", remedy="wait")
    log.warning("upload.failed", message="AVERTISSEMENT: Echec upload S3: gone", cause="gone")
    logging.getLogger("botocore").warning("slow")
    log.error("backup.failed", message="failed", exit_code=1)
    shown = terminal.getvalue().replace(CLEAR_LINE, "").splitlines()
    assert shown == [
        f"warning: it holds {MASK}",
        "  what to do: wait",
        "AVERTISSEMENT: Echec upload S3: gone",
        "warning: slow",
    ]
    assert len(file.read_text().splitlines()) == 6
    assert sentences.has_shown("no copy in s3: gone")
    assert not sentences.has_shown("gone too")


@pytest.mark.parametrize(("log_format", "cleared"), [("console", True), ("json", False)])
def test_a_line_takes_the_place_of_a_progress_bar(output: io.StringIO, log_format: str, cleared: bool) -> None:
    """On a terminal the bar's line is wiped first, else its rest would stand before the sentence; JSON stays JSON."""
    terminal = Terminal()
    logs.configure(level="info", log_format=log_format, stream=terminal)
    logs.get_logger().warning("upload.failed", message="Echec")
    line = terminal.getvalue()
    assert line.startswith("\r\x1b[2K") == cleared
    assert ("\x1b[" in line) == cleared
    assert "Echec" in line
