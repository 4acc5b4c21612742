"""The program on a terminal, and what is left on its screen when it has ended."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.program import LONGEST_SECONDS, ROOT, Program

TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")
COLUMNS = 400
"""Wide enough that no line is folded: a line is then a line that the program wrote."""


@dataclass(frozen=True)
class Seen:
    """A run that ended: its exit code, the lines left on the screen, and what went into a pipe."""

    code: int
    lines: list[str]
    piped: str
    written: str
    """All that was written on the terminal, bars too."""


def on_terminal(
    program: Program, *arguments: str, stdout_piped: bool = False, columns: int = COLUMNS, **more: str
) -> Seen:
    """Run a command whose stdin, stderr, and stdout unless `stdout_piped`, are a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "hubbackup", *arguments],
        env=program.env(TERM="xterm", COLUMNS=str(columns), **more),
        cwd=program.directory,
        stdin=theirs,
        stdout=subprocess.PIPE if stdout_piped else theirs,
        stderr=theirs,
    )
    os.close(theirs)
    said, deadline = b"", time.monotonic() + LONGEST_SECONDS
    try:
        while select.select([ours], [], [], max(0.0, deadline - time.monotonic()))[0]:
            try:
                said += os.read(ours, 65536)
            except OSError:  # the program has closed the other side
                break
        piped, _ = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return Seen(process.returncode, left_on_screen(said.decode()), (piped or b"").decode(), said.decode())


def left_on_screen(written: str) -> list[str]:
    """The lines that stay, of what a program wrote: bars that were wiped, and empty lines, left out."""
    rows, row, column = [""], 0, 0
    for match in TOKEN.finditer(written):
        count, command, move, text = match.groups()
        if text:
            rows[row] = rows[row].ljust(column)[:column] + text + rows[row][column + len(text) :]
            column += len(text)
        elif move == "\r":
            column = 0
        elif move == "\n":
            row, column = row + 1, 0
            rows += [""] * (row + 1 - len(rows))
        elif command == "A":
            row = max(0, row - int(count or 1))
        elif command == "K":
            rows[row] = "" if count == "2" else rows[row][:column]
    return [line for line in rows if line.strip()]


@dataclass
class Terminal:
    """The program on a terminal of its own."""

    process: subprocess.Popen[bytes]
    descriptor: int
    said: str = ""

    def wait_for(self, words: str, seconds: float = 60) -> None:
        """Until it has said these words."""
        deadline = time.monotonic() + seconds
        while words not in self.said:
            assert self._read(deadline - time.monotonic()), f"{words!r} does not come: {self.said}"

    def type(self, text: str) -> None:
        """As if typed."""
        os.write(self.descriptor, text.encode())

    def end(self) -> int:
        """The exit code, once it has ended and all is read."""
        while self._read(60):
            pass
        return self.process.wait(60)

    def _read(self, seconds: float) -> bool:
        if not select.select([self.descriptor], [], [], max(0, seconds))[0]:
            return False
        try:
            data = os.read(self.descriptor, 4096)
        except OSError:  # the other side is closed
            return False
        self.said += data.decode(errors="replace")
        return bool(data)


@contextmanager
def at_terminal(hub: Program, *arguments: str) -> Iterator[Terminal]:
    """Start a command on its own controlling terminal, to be typed at; killed at the end where it still runs."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "hubbackup", *arguments]
    with subprocess.Popen(
        command,
        env=hub.env(TERM="dumb"),
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # makes it the controlling terminal
    ) as process:
        os.close(theirs)
        try:
            yield Terminal(process, ours)
        finally:
            process.kill()
            os.close(ours)
