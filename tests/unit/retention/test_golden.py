"""Retention against golden files: a policy and a list of backups give this table, reason by reason."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from hubbackup.catalog.target import Policy
from hubbackup.retention.policy import Candidate, plan

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(GOLDEN.glob("*.txt"))
COUNTS = ("days", "keep_min", "weeks", "months", "years")


def render(text: str) -> str:
    """The whole file, its decisions made anew."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    head = dict(line.split(": ", 1) for line in lines if ": " in line.split("  ")[0])
    zone = ZoneInfo(head.get("zone", "UTC"))
    policy = Policy(**{key: int(head[key]) for key in COUNTS if key in head})
    now = datetime.fromisoformat(head["now"]).replace(tzinfo=UTC).astimezone(zone)
    candidates = []
    for line in lines[len(head) :]:
        time, state, *_ = line.split()
        started_at = datetime.fromisoformat(time).replace(tzinfo=UTC)
        candidates.append(Candidate(time, started_at, "unproven" not in state, "pinned" in state))
    states = {candidate.name: candidate for candidate in candidates}
    rows = []
    for decision in plan(candidates, policy, now, frozen_by=head.get("frozen by", "")):
        one = states[decision.candidate.name]
        state = ",".join(word for word, holds in (("good", one.good), ("unproven", not one.good)) if holds)
        state += ",pinned" if one.pinned else ""
        action = "keep" if decision.keep else "remove"
        rows.append(f"{one.name:<18}{state:<14}{action:<8}{decision.reason}")
    comments = [line for line in text.splitlines() if line.startswith("#")]
    return "\n".join([*comments, *(f"{key}: {value}" for key, value in head.items()), "", *rows, ""])


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_plan_is_the_golden_one(path: Path) -> None:
    """Every decision and every reason, newest first."""
    made = render(path.read_text())
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(made)
    assert made == path.read_text()


def test_there_are_golden_files() -> None:
    """The table is not compared with nothing."""
    assert len(CASES) >= 8
