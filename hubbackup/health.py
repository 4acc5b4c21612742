"""Whether the daemon is alive and scheduling: a small file that it writes each minute, read by HEALTHCHECK.

This module imports nothing heavy: `hubbackup health` runs every minute for as long as the container lives.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

MAX_AGE_SECONDS = 180
"""Three beats of the daemon's heartbeat job."""
PATH_VARIABLE = "HUBBACKUP_RUNTIME_DIR"
DEFAULT_DIRECTORY = "/tmp/hubbackup"  # noqa: S108 - a fixed place that daemon and command line agree on


def health_path() -> Path:
    """Where daemon and `hubbackup health` agree to meet, inside one container."""
    return Path(os.environ.get(PATH_VARIABLE, DEFAULT_DIRECTORY)) / "health.json"


def write_beat(path: Path, *, next_run: str, now: float | None = None) -> None:
    """Record that the scheduler's own thread is running, and when the next backup is due (text)."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    beat = {"time": time.time() if now is None else now, "pid": os.getpid(), "next_run": next_run}
    fresh.write_text(json.dumps(beat), encoding="utf-8")
    fresh.replace(path)


def judge(path: Path, now: float | None = None) -> tuple[bool, str]:
    """(healthy, one sentence)."""
    try:
        beat = json.loads(path.read_text(encoding="utf-8"))
        age = (time.time() if now is None else now) - float(beat["time"])
        next_run = str(beat["next_run"])
    except FileNotFoundError:
        return False, "the daemon has not started: it has written no heartbeat"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return False, f"the daemon's heartbeat can't be read: {error}"
    if abs(age) > MAX_AGE_SECONDS:
        return False, f"the daemon's last heartbeat is {age:.0f} s old: it is gone or stuck"
    return True, f"the daemon is alive (heartbeat {max(age, 0):.0f} s ago); next backup: {next_run}"
