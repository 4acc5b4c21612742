"""Which backups are kept and which are removed: a pure plan with a reason for each (docs/retention.md).

The plan counts only good backups and is made for one store and one database at a time. Never removed: the
newest good one, as many good ones as the policy's minimum, a pinned one, an unproven one that is not older than
the oldest good one kept. Where the clock looks wrong, or the newest backup is in doubt, nothing is removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from hubbackup.catalog.backup import CLOCK_TOLERANCE
from hubbackup.catalog.target import Policy

PERIODS = (("week", "%G-W%V"), ("month", "%Y-%m"), ("year", "%Y"))


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the plan knows of a backup: its name, its start (aware), whether it counts as good in this store."""

    name: str
    started_at: datetime
    good: bool
    pinned: bool = False
    foreign: bool = False
    """Not ours: it counts for nothing, and is not ours to remove."""
    locked_until: datetime | None = None
    """Before then the store lets nobody remove it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Keep or remove one backup, and why, in words.

    `settled`: the same backups would stay if this one were taken for good and turned out not to be.
    """

    candidate: Candidate
    keep: bool
    reason: str
    settled: bool


def plan(candidates: Sequence[Candidate], policy: Policy, now: datetime, *, frozen_by: str = "") -> list[Decision]:
    """Decide for each of one database's backups in one store, newest first.

    `now` is aware, and its time zone is the one of weeks, months and years. `frozen_by` says which backup the
    operator has to look at before anything is removed, and what it is.
    """
    newest_first = _newest_first(candidates)
    doubt = _clock_doubt(newest_first, policy, now)
    if frozen_by:
        doubt = f"frozen: {frozen_by}"
    return _decide(newest_first, policy, now, doubt, frozen=bool(frozen_by))


def by_policy(candidates: Sequence[Candidate], policy: Policy, now: datetime) -> list[Decision]:
    """What the policy itself says, newest first, whatever stops a removal at the moment."""
    return _decide(_newest_first(candidates), policy, now, "", frozen=False)


def wanted(candidates: Sequence[Candidate], policy: Policy, now: datetime) -> set[str]:
    """The names that the policy itself keeps: what a store should have."""
    return {decision.candidate.name for decision in by_policy(candidates, policy, now) if decision.keep}


def _decide(
    newest_first: Sequence[Candidate], policy: Policy, now: datetime, doubt: str, *, frozen: bool
) -> list[Decision]:
    periods = _newest_of_periods(newest_first, policy, now)
    anchors = _anchors(newest_first, policy) | periods.keys()
    kept_good = 0
    decisions = []
    for candidate in newest_first:
        reason = doubt or _reason_to_keep(candidate, policy, now, kept_good, periods)
        if reason and candidate.good:
            kept_good += 1
        settled = frozen or policy.days == 0 or (bool(reason) and candidate.name not in anchors)
        decisions.append(Decision(candidate, bool(reason), reason or _removal(candidate, policy, now), settled))
    return decisions


def _newest_first(candidates: Sequence[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda candidate: (candidate.started_at, candidate.name), reverse=True)


def _reason_to_keep(
    candidate: Candidate, policy: Policy, now: datetime, kept_good: int, periods: dict[str, str]
) -> str:
    """Why this one is kept; empty where it is removed. `kept_good` counts the newer good ones kept."""
    if candidate.pinned:
        return "pinned"
    if candidate.foreign:
        return "foreign: not ours to remove"
    if candidate.good and kept_good == 0:
        return "the newest good one"
    if candidate.good and kept_good < policy.keep_min:
        return f"one of the {policy.keep_min} good ones to keep at least"
    if policy.days == 0:
        return "the policy keeps everything"
    if now - candidate.started_at <= timedelta(days=policy.days):
        return f"not older than {policy.days} days"
    if candidate.name in periods:
        return periods[candidate.name]
    if not candidate.good and kept_good == 0:
        return "unproven, and no good one is newer"
    if candidate.locked_until is not None and candidate.locked_until > now:
        return f"locked until {candidate.locked_until.astimezone(now.tzinfo):%Y-%m-%d %H:%M}"
    return ""


def _removal(candidate: Candidate, policy: Policy, now: datetime) -> str:
    age_days = (now - candidate.started_at) / timedelta(days=1)
    others = ", and no week, month or year needs it" if policy.weeks or policy.months or policy.years else ""
    return f"{age_days:.1f} days old, the policy keeps {policy.days}{others}"


def _newest_of_periods(newest_first: Sequence[Candidate], policy: Policy, now: datetime) -> dict[str, str]:
    """The names of the good ones that stand for a week, a month or a year, each with its reason."""
    found: dict[str, str] = {}
    for (word, form), count in zip(PERIODS, (policy.weeks, policy.months, policy.years), strict=True):
        seen: set[str] = set()
        for candidate in newest_first:
            if len(seen) == count:
                break
            period = f"{candidate.started_at.astimezone(now.tzinfo):{form}}"
            if candidate.good and period not in seen:
                seen.add(period)
                found.setdefault(candidate.name, f"the newest good one of {word} {period}")
    return found


def _anchors(newest_first: Sequence[Candidate], policy: Policy) -> set[str]:
    """The good ones that a removal of others relies on: the minimum's, and the three by which the clock is judged."""
    good = [candidate.name for candidate in newest_first if candidate.good]
    return set(good[: max(3, policy.keep_min)])


def _clock_doubt(newest_first: Sequence[Candidate], policy: Policy, now: datetime) -> str:
    """Why the clock can't be trusted to judge ages; empty where it can.

    A clock that is behind shows by backups from the future. One that is far ahead shows by a gap before the newest
    backup, longer than the policy's days and than twice the gap before it (a weekly schedule is not an anomaly); the
    next good backup then confirms the date (or the gap was a long outage, and costs one night's patience).
    """
    good = [candidate for candidate in newest_first if candidate.good]  # anybody can put a file of 2099 into a bucket
    if good and good[0].started_at > now + CLOCK_TOLERANCE:
        return f"the clock looks wrong: {good[0].name} is from the future"
    if policy.days and len(good) >= 2:
        gap = good[0].started_at - good[1].started_at
        usual = good[1].started_at - good[2].started_at if len(good) > 2 else timedelta()
        if gap > max(timedelta(days=policy.days), 2 * usual) and now - good[0].started_at <= timedelta(
            days=policy.days
        ):
            return f"{gap.days} days lie between the two newest good ones: waiting for the next to confirm the clock"
    return ""
