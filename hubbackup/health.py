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


def beat(next_run: str, now: float | None = None, *, refused: str = "", remark: str = "") -> dict[str, object]:
    """What the daemon writes: the scheduler's own thread runs, and the next backup is due then (text).

    `refused`: why nothing is scheduled, since the settings can't be used. `remark`: what else is to be said.
    """
    moment = time.time() if now is None else now
    return {"time": moment, "pid": os.getpid(), "next_run": next_run, "refused": refused, "remark": remark}


def check_beat(path: Path, now: float | None = None) -> tuple[bool, str]:
    """(healthy, one sentence)."""
    try:
        last = json.loads(path.read_text(encoding="utf-8"))
        age = (time.time() if now is None else now) - float(last["time"])
        next_run, refused = str(last["next_run"]), str(last.get("refused", ""))
    except FileNotFoundError:
        return False, "the daemon has not started: it has written no heartbeat"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return False, f"the daemon's heartbeat can't be read: {error}"
    if abs(age) > MAX_AGE_SECONDS:
        return False, f"the daemon's last heartbeat is {age:.0f} s old: it is gone or stuck"
    if refused:
        return False, f"no backup is scheduled, since the settings can't be used: {refused}"
    remark = f"; {said}" if (said := remark_of(path)) else ""
    return True, f"the daemon is alive (heartbeat {max(age, 0):.0f} s ago); next backup: {next_run}{remark}"


def remark_of(path: Path) -> str:
    """What a living daemon has to say of its settings: an edit that it refused, or has not taken up yet."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("remark", ""))
    except (OSError, ValueError, AttributeError):
        return ""
