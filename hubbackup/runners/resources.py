"""How many processors and how much memory the commands of a runner may use: of a container, its limits."""

from __future__ import annotations

from dataclasses import dataclass

from hubbackup.errors import HubbackupError
from hubbackup.runners import BUFFERED_INPUT, Runner, run

SCRIPT = f"""\
echo processors $(nproc)
for file in /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us; do
    [ -r $file ] && echo quota $(cat $file) $(cat /sys/fs/cgroup/cpu/cpu.cfs_period_us 2>/dev/null)
done
for file in /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes; do
    [ -r $file ] && echo memory $(cat $file)
done
[ "$(printf there | {" ".join(BUFFERED_INPUT)} cat 2>&1)" = there ] && echo buffered
grep MemTotal /proc/meminfo
"""
"""cgroups of the second version, and of the first."""


@dataclass(frozen=True)
class Resources:
    """0: not known."""

    processors: int = 0
    memory_bytes: int = 0
    buffers_input: bool = False
    """Whether `BUFFERED_INPUT` works there."""


def resources_of(runner: Runner) -> Resources:
    """What there is where its commands run; nothing known where that can't be asked."""
    try:
        return parse(run(runner, ["sh", "-c", SCRIPT], {"LC_ALL": "C"}).decode("ascii", "replace"))
    except HubbackupError:
        return Resources()


def parse(said: str) -> Resources:
    """Out of what `SCRIPT` prints."""
    processors: list[int] = []
    memory: list[int] = []
    buffers_input = False
    for line in said.splitlines():
        word, *values = line.split() or [""]
        numbers = [int(value) for value in values if value.isdigit()]
        if word == "processors" and numbers:
            processors.append(numbers[0])
        elif word == "quota" and len(numbers) == 2 and numbers[1]:
            processors.append(max(1, numbers[0] // numbers[1]))
        elif word == "memory" and numbers:
            memory.append(numbers[0])
        elif word == "MemTotal:" and numbers:
            memory.append(numbers[0] << 10)
        elif word == "buffered":
            buffers_input = True
    return Resources(min(processors, default=0), min(memory, default=0), buffers_input)
