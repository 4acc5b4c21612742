"""One process, measured: wall time, processor time, and its peak memory."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LIMIT_SECONDS = 300


class BenchError(Exception):
    """Something that the bench rests on does not work; the message says what."""


@dataclass(frozen=True)
class Measured:
    """What one process took. `peak_bytes` is its own high-water mark or a waited-for child's, the larger one.

    Linux starts that mark at the size of the process that forked, so the bench itself stays small: it never
    imports boto3 nor hubbackup.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    output: str


def measure(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> Measured:
    """Run `argv` to its end. Raises BenchError where it fails or takes more than five minutes."""
    clock = time.monotonic()
    with subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        previous = signal.signal(signal.SIGALRM, lambda *_: process.kill())
        signal.alarm(LIMIT_SECONDS)
        try:
            assert process.stdout is not None
            output = process.stdout.read().decode(errors="replace")
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()
            raise
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, previous)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - clock
    if process.returncode != 0:
        raise BenchError(f"{' '.join(argv)[:300]} ended with {process.returncode}")
    return Measured(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output)


def shell(pipeline: str) -> Measured:
    """Measure a shell's pipeline; the failure of any part of it counts."""
    return measure(["bash", "-o", "pipefail", "-c", pipeline])


def size_of(path: Path) -> int:
    """The size of a file that a way has made."""
    return path.stat().st_size
