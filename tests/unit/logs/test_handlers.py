"""Where log lines go: whatever becomes of the reader, nobody who logs is held up."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from hubbackup.logs import setup as logs
from hubbackup.logs.handlers import FILE_BACKUPS, PipeHandler, file_handler
from hubbackup.shown_text import Secrets


@pytest.fixture
def pipe() -> Iterator[tuple[int, PipeHandler]]:
    """The reading end, and a handler that writes to the other."""
    reader, writer = os.pipe()
    with open(writer, "w") as stream:  # noqa: PTH123 - a descriptor has no path
        yield reader, PipeHandler(stream, patience_seconds=0.3)
    os.close(reader)


def say(handler: logging.Handler, text: str) -> None:
    handler.handle(logging.LogRecord("x", logging.INFO, "", 0, text, None, None))


def test_lines_arrive(pipe: tuple[int, PipeHandler]) -> None:
    """As they are, in order, also those that are longer than a pipe takes at once."""
    reader, handler = pipe
    received = bytearray()
    thread = threading.Thread(target=lambda: received.extend(drain(reader, 300_003 + 6)))
    thread.start()
    say(handler, "first")
    say(handler, "x" * 300_002)
    thread.join(10)
    assert received == b"first\n" + b"x" * 300_002 + b"\n"
    assert handler.dropped == 0


def drain(reader: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += os.read(reader, 1 << 16)
    return data


def test_a_blocked_pipe_holds_nobody_up(pipe: tuple[int, PipeHandler]) -> None:
    """The first line that finds no room waits a moment, the following ones not at all; all are counted."""
    reader, handler = pipe
    began_at = time.monotonic()
    for _ in range(1000):
        say(handler, "y" * 1000)
    assert time.monotonic() - began_at < 2
    assert handler.dropped > 900
    written = os.read(reader, 1 << 20)
    say(handler, "again")
    rest = os.read(reader, 1 << 20)
    lines = (written + rest).decode().splitlines()
    assert lines[-1] == "again"
    assert set(lines[:-2]) == {"y" * 1000}, "only the line that was cut short may be torn"


def test_a_closed_pipe_holds_nobody_up(pipe: tuple[int, PipeHandler]) -> None:
    """A reader that has gone raises nothing where a line is logged."""
    reader, handler = pipe
    spare = os.dup(reader)
    os.close(reader)
    os.close(spare)
    say(handler, "nobody hears")
    assert handler.dropped == 1
    os.dup2(os.open(os.devnull, os.O_RDONLY), reader)


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back afterwards."""
    logger = logging.getLogger()
    handlers, level, raising = logger.handlers[:], logger.level, logging.raiseExceptions
    yield logger
    for handler in logger.handlers:
        if handler not in handlers:
            handler.close()
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logging.raiseExceptions = raising
    logging.captureWarnings(False)
    structlog.reset_defaults()


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_log_file_has_json(root: logging.Logger, tmp_path: Path, secrets: Secrets) -> None:
    """LOG_FILE has each line as JSON, a library's too, without secrets, whatever the console shows; that has the
    sentence first, and the fields after it."""
    secrets.add(["s3cret"])
    path = tmp_path / "hub-chantier-backup.log"
    with (tmp_path / "console").open("w") as console:
        logs.configure(level="info", log_format="console", stream=console, log_file=str(path))
        logs.get_logger().info("backup.finished", message="Backup termine", name="x")
        logging.getLogger("botocore").warning("key %s refused", "s3cret")
    ours, library = read(path)
    assert (ours["event"], ours["message"], ours["name"]) == ("backup.finished", "Backup termine", "x")
    assert (library["event"], library["message"]) == ("library.botocore", "key ******** refused")
    for_people = (tmp_path / "console").read_text().splitlines()
    assert re.fullmatch(r"\S+Z \[info     \] Backup termine +event=backup.finished name=x", for_people[0])
    assert re.fullmatch(r"\S+Z \[warning  \] key \*{8} refused +event=library.botocore", for_people[1])


def test_a_log_file_that_cannot_be_written_is_told(root: logging.Logger, tmp_path: Path) -> None:
    """The log goes on elsewhere, and says what is wrong with LOG_FILE."""
    with (tmp_path / "out").open("w") as stream:
        logs.configure(level="info", log_format="json", stream=stream, log_file=str(tmp_path / "absent" / "x.log"))
    (line,) = read(tmp_path / "out")
    assert line["event"] == "log_file.unwritable"


def test_a_directory_of_another_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As /var/log is: what was written goes into the one older file that was made beforehand, and the mode stays."""
    monkeypatch.setattr("hubbackup.logs.handlers.FILE_BYTES", 1000)
    monkeypatch.setattr("hubbackup.logs.handlers.os.access", lambda path, mode: False)
    path = tmp_path / "x.log"
    for file in (path, tmp_path / "x.log.1"):
        file.touch(mode=0o644)
        file.chmod(0o644)
    daemon, command = file_handler(path, rotate=True), file_handler(path, rotate=False)
    for number in range(40):
        say(daemon, f"daemon {number:03} " + "-" * 80)
        say(command, f"command {number:03}")
    daemon.close()
    command.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.log", "x.log.1"]
    text = (tmp_path / "x.log.1").read_text() + path.read_text()
    kept = [line for line in text.splitlines() if line.startswith("command")]
    first = int(kept[0].split()[1])
    assert kept == [f"command {number:03}" for number in range(first, 40)]
    assert path.stat().st_size < 1200
    assert path.stat().st_mode & 0o777 == 0o644


def test_only_the_daemon_rotates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps five older files; a command line follows to the new one, and no line is lost."""
    monkeypatch.setattr("hubbackup.logs.handlers.FILE_BYTES", 1000)
    path = tmp_path / "x.log"
    daemon, command = file_handler(path, rotate=True), file_handler(path, rotate=False)
    for number in range(100):
        say(daemon, f"daemon {number:03} " + "-" * 80)
        say(command, f"command {number:03}")
    daemon.close()
    command.close()
    files = sorted(tmp_path.iterdir())
    assert len(files) == FILE_BACKUPS + 1
    assert path.read_text().splitlines()[-1] == "command 099"
    kept = [int(line.split()[1]) for file in files for line in file.read_text().splitlines() if "command" in line]
    assert sorted(kept) == list(range(min(kept), 100))


@pytest.mark.parametrize("rotate", [True, False])
@pytest.mark.parametrize(("chosen", "mode"), [(None, 0o640), (0o600, 0o600), (0o664, 0o664)])
def test_a_rotated_log_has_the_mode_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rotate: bool, chosen: int | None, mode: int
) -> None:
    """The first is for its owner and group, whatever the umask; who has chosen otherwise need not do so again. The
    same where a command makes it, between the daemon's renaming and its opening."""
    monkeypatch.setattr("hubbackup.logs.handlers.FILE_BYTES", 300)
    path = tmp_path / "x.log"
    if not rotate and chosen is not None:
        path.touch()
        path.chmod(chosen)
    before = os.umask(0o022)
    try:
        handler = file_handler(path, rotate=rotate)
        say(handler, "the first")
        if chosen is not None:
            path.chmod(chosen)
        if not rotate:
            path.rename(tmp_path / "x.log.1")
        for number in range(9):
            say(handler, f"{number} " + "-" * 80)
        handler.close()
    finally:
        os.umask(before)
    assert len(list(tmp_path.iterdir())) > 1
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {mode}


def test_what_is_rotated_into_is_no_more_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another's directory the older file, which is there already, gets the log's mode before its lines."""
    monkeypatch.setattr("hubbackup.logs.handlers.FILE_BYTES", 300)
    monkeypatch.setattr("hubbackup.logs.handlers.os.access", lambda path, mode: False)
    path = tmp_path / "x.log"
    for file, mode in ((path, 0o600), (tmp_path / "x.log.1", 0o644)):
        file.touch()
        file.chmod(mode)
    daemon = file_handler(path, rotate=True)
    for number in range(9):
        say(daemon, f"{number} " + "-" * 80)
    daemon.close()
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    assert (tmp_path / "x.log.1").read_text()
