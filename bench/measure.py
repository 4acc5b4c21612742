"""Processes, measured: wall time, processor time of their own and of the whole machine, and peak memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
KILL_SECONDS = 3.0
IDLE_FIELDS = (3, 4)
BUSY_FIELDS = 7
"""Of `cpu` in /proc/stat: user, nice, system, idle, iowait, irq, softirq; what comes after is a guest's or stolen."""


class BenchError(Exception):
    """Something that the bench measures or rests on does not work; the message says what.

    `refused`: the program said that it has no such setting (exit code 2), which is not a failure of it.
    """

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class OutOfTimeError(Exception):
    """The time that the whole bench has is over."""


@dataclass(frozen=True)
class Measured:
    """What one process took. `busy_seconds` is what all processors of the machine did meanwhile, for whomever.

    `peak_bytes` is its own high-water mark or a waited-for child's, the larger one. Linux starts that mark at the
    size of the process that forked, so the bench itself stays small: it never imports boto3 nor hubbackup.
    """

    seconds: float
    cpu_seconds: float
    busy_seconds: float
    peak_bytes: int
    output: str


class Stopwatch:
    """Runs and measures processes, one at a time, until `budget_seconds` after it was made; tells the time left."""

    def __init__(self, budget_seconds: float) -> None:
        self._start = time.monotonic()
        self._deadline = self._start + budget_seconds

    @property
    def elapsed_seconds(self) -> float:
        """Since the bench began."""
        return time.monotonic() - self._start

    @property
    def left_seconds(self) -> float:
        """Raises OutOfTimeError where nothing is left."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise OutOfTimeError
        return left

    def say(self, text: str) -> None:
        """Progress, on stderr with the time left: stdout is the report."""
        left = max(0, round(self._deadline - time.monotonic()))
        print(f"[{left // 60}:{left % 60:02d} left] {text}", file=sys.stderr, flush=True)

    def measure(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> Measured:
        """Run `argv` to its end. Raises BenchError where it fails, OutOfTimeError where it does not end in time."""
        with tempfile.TemporaryFile() as errors:
            limit = self.left_seconds
            busy, clock = busy_seconds(), time.monotonic()
            process = subprocess.Popen(
                argv,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # so that all of a pipeline can be stopped, and Ctrl-C is ours to handle
            )
            late = threading.Event()
            timer = threading.Timer(limit, _end_late, (process.pid, late))
            timer.daemon = True
            timer.start()
            try:
                assert process.stdout is not None
                output = process.stdout.read().decode(errors="replace")
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            except BaseException:
                _end_group(process)
                raise
            finally:
                timer.cancel()
            seconds, busy = time.monotonic() - clock, busy_seconds() - busy
            process.stdout.close()
            if late.is_set():
                raise OutOfTimeError
            if process.returncode != 0:
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip()[-400:]
                raise BenchError(
                    f"`{' '.join([Path(argv[0]).name, *argv[1:]])[:200]}` ended with {process.returncode}: {said}",
                    refused=process.returncode == 2,
                )
        return Measured(seconds, usage.ru_utime + usage.ru_stime, busy, usage.ru_maxrss * 1024, output)

    def shell(self, pipeline: str, environment: Mapping[str, str] | None = None) -> Measured:
        """Measure a shell's pipeline; the failure of any part of it counts."""
        return self.measure(["bash", "-o", "pipefail", "-c", pipeline], environment)


def busy_seconds() -> float:
    """Processor time that this machine has spent since it started, on anything at all."""
    with Path("/proc/stat").open() as lines:
        ticks = [int(word) for word in lines.readline().split()[1 : 1 + BUSY_FIELDS]]
    return sum(count for field, count in enumerate(ticks) if field not in IDLE_FIELDS) / TICKS_PER_SECOND


def cpu_seconds_of(pid: int) -> float:
    """Processor time of a running process, with its threads and without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def memory_of(pid: int, field: str) -> int:
    """`VmRSS` (now) or `VmHWM` (the most it ever was) of a running process, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise BenchError(f"/proc/{pid}/status has no {field}")


def _end_late(pid: int, late: threading.Event) -> None:
    late.set()
    _signal_group(pid, signal.SIGTERM)


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process with all that it started, by force where asking does not help."""
    _signal_group(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(KILL_SECONDS)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()
