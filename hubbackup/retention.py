"""Which backups stay and which go: a pure plan with a reason for each.

The plan counts only good backups and is made for one store and one database at a time. Never removed: the
newest good one, as many good ones as the policy's minimum, a pinned one, an unproven one that is not older than
the oldest good one kept. Where the clock looks wrong, nothing is removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

FUTURE_TOLERANCE = timedelta(hours=1)


@dataclass(frozen=True)
class Policy:
    """How much to keep: `days` of age (0 keeps everything), and never fewer than `keep_min` good ones."""

    days: int
    keep_min: int = 1


@dataclass(frozen=True)
class Candidate:
    """What the plan knows of a backup: its name, its start (aware), whether it is good in this store."""

    name: str
    started_at: datetime
    good: bool
    pinned: bool = False


@dataclass(frozen=True)
class Decision:
    """Keep or remove one backup, and why, in words."""

    candidate: Candidate
    keep: bool
    reason: str


def plan(candidates: Sequence[Candidate], policy: Policy, now: datetime) -> list[Decision]:
    """Decide for each of one database's backups in one store, newest first. `now` is aware."""
    newest_first = sorted(candidates, key=lambda candidate: (candidate.started_at, candidate.name), reverse=True)
    doubt = _clock_doubt(newest_first, policy, now)
    kept_good = 0
    decisions = []
    for candidate in newest_first:
        reason = _reason_to_keep(candidate, policy, now, kept_good, doubt)
        if reason and candidate.good:
            kept_good += 1
        age_days = (now - candidate.started_at) / timedelta(days=1)
        removal = f"{age_days:.1f} days old, the policy keeps {policy.days}"
        decisions.append(Decision(candidate, bool(reason), reason or removal))
    return decisions


def _reason_to_keep(candidate: Candidate, policy: Policy, now: datetime, kept_good: int, doubt: str) -> str:
    """Why this one stays; empty where it goes. `kept_good` counts the newer good ones that stay."""
    if doubt:
        return doubt
    if candidate.pinned:
        return "pinned"
    if candidate.good and kept_good == 0:
        return "the newest good one"
    if candidate.good and kept_good < policy.keep_min:
        return f"one of the {policy.keep_min} good ones to keep at least"
    if policy.days == 0:
        return "the policy keeps everything"
    if now - candidate.started_at <= timedelta(days=policy.days):
        return f"not older than {policy.days} days"
    if not candidate.good and kept_good == 0:
        return "unproven, and no good one is newer"
    return ""


def _clock_doubt(newest_first: Sequence[Candidate], policy: Policy, now: datetime) -> str:
    """Why the clock can't be trusted to judge ages; empty where it can.

    A clock that is behind shows by backups from the future. One that is far ahead shows by a gap before the
    newest backup; the next good backup then confirms the date (or the gap was a long outage, and costs one
    night's patience).
    """
    if newest_first and newest_first[0].started_at > now + FUTURE_TOLERANCE:
        return f"the clock looks wrong: {newest_first[0].name} is from the future"
    good = [candidate for candidate in newest_first if candidate.good]
    if policy.days and len(good) >= 2:
        gap = good[0].started_at - good[1].started_at
        if gap > timedelta(days=policy.days) and now - good[0].started_at <= timedelta(days=policy.days):
            return f"{gap.days} days lie between the two newest good ones: waiting for the next to confirm the clock"
    return ""
