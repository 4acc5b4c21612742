"""The program on a terminal, and what is left on its screen when it has ended."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from dataclasses import dataclass

from tests.support.program import LONGEST_SECONDS, Program

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
