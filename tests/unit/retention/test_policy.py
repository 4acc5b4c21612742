"""Retention: what stays, with its reason, and what no policy and no clock can make go."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hubbackup.catalog.target import Policy
from hubbackup.retention.policy import Candidate, Decision, plan, wanted

NOW = datetime(2026, 2, 8, 12, tzinfo=UTC)


def aged(days: float, *, good: bool = True, pinned: bool = False, name: str = "") -> Candidate:
    return Candidate(name or f"d{days:g}", NOW - timedelta(days=days), good, pinned)


GOLDEN = """\
policy: 7 days, at least 1
  0.1  good     keep    the newest good one
  1    good     keep    not older than 7 days
  7    good     keep    not older than 7 days
  7.1  good     remove  7.1 days old, the policy keeps 7
  30   pinned   keep    pinned
  2    unproven keep    not older than 7 days
  9    unproven remove  9.0 days old, the policy keeps 7
policy: 7 days, at least 3
  0.1  good     keep    the newest good one
  6    good     keep    one of the 3 good ones to keep at least
  9    good     keep    one of the 3 good ones to keep at least
  10   good     remove  10.0 days old, the policy keeps 7
policy: 0 days, at least 1
  0.1  good     keep    the newest good one
  4000 good     keep    the policy keeps everything
  4000 unproven keep    the policy keeps everything
policy: 7 days, at least 1
  20   unproven keep    unproven, and no good one is newer
  30   good     keep    the newest good one
  31   good     remove  31.0 days old, the policy keeps 7
  40   unproven remove  40.0 days old, the policy keeps 7
policy: 7 days, at least 1
  -1   good     keep    the clock looks wrong: d-1 is from the future
  30   good     keep    the clock looks wrong: d-1 is from the future
policy: 7 days, at least 1
  0.1  good     keep    364 days lie between the two newest good ones: waiting for the next to confirm the clock
  365  good     keep    364 days lie between the two newest good ones: waiting for the next to confirm the clock
  366  good     keep    364 days lie between the two newest good ones: waiting for the next to confirm the clock
policy: 7 days, at least 1
  0.1  good     keep    the newest good one
  1.1  good     keep    not older than 7 days
  365  good     remove  365.0 days old, the policy keeps 7
"""


def golden_cases() -> list[tuple[Policy, list[tuple[Candidate, str, str]]]]:
    cases: list[tuple[Policy, list[tuple[Candidate, str, str]]]] = []
    for line in GOLDEN.splitlines():
        if line.startswith("policy"):
            days, least = (int(word) for word in line.replace(",", "").split() if word.isdecimal())
            cases.append((Policy(days, least), []))
            continue
        age, kind, action, reason = line.split(maxsplit=3)
        cases[-1][1].append((aged(float(age), good=kind != "unproven", pinned=kind == "pinned"), action, reason))
    return cases


@pytest.mark.parametrize(("policy", "rows"), golden_cases())
def test_each_decision_has_its_reason(policy: Policy, rows: list[tuple[Candidate, str, str]]) -> None:
    """The golden table: what stays and what goes, in the words that `hubbackup prune` prints."""
    decisions = plan([candidate for candidate, _, _ in rows], policy, NOW)
    found = {d.candidate: ("keep" if d.keep else "remove", d.reason) for d in decisions}
    assert found == {candidate: (action, reason) for candidate, action, reason in rows}


candidates = st.lists(
    st.builds(
        Candidate,
        name=st.uuids().map(str),
        started_at=st.one_of(
            st.integers(0, 60).map(lambda days: NOW - timedelta(days=days)),
            st.timedeltas(timedelta(days=-400), timedelta(days=4000)).map(lambda age: NOW - age),
        ),
        good=st.booleans(),
        pinned=st.integers(0, 9).map(lambda n: n == 0),
    ),
    max_size=30,
)
counts = st.integers(0, 5)
policies = st.builds(
    Policy, days=st.integers(0, 400), keep_min=st.integers(1, 6), weeks=counts, months=counts, years=counts
)


def kept(decisions: list[Decision]) -> set[str]:
    return {decision.candidate.name for decision in decisions if decision.keep}


@given(candidates, policies)
def test_every_backup_is_decided_once_and_newest_first(found: list[Candidate], policy: Policy) -> None:
    """The plan covers exactly what it was given, each with a reason."""
    decisions = plan(found, policy, NOW)
    assert sorted(d.candidate.name for d in decisions) == sorted(c.name for c in found)
    times = [d.candidate.started_at for d in decisions]
    assert times == sorted(times, reverse=True)
    assert all(d.reason for d in decisions)


@given(candidates, policies, st.timedeltas(timedelta(days=-4000), timedelta(days=4000)))
def test_what_must_stay_stays_under_any_clock(found: list[Candidate], policy: Policy, skew: timedelta) -> None:
    """The newest good, KEEP_MIN good ones, and every pinned one stay, whatever the clock says."""
    stays = kept(plan(found, policy, NOW + skew))
    good = sorted((c for c in found if c.good), key=lambda c: (c.started_at, c.name), reverse=True)
    assert {c.name for c in good[: policy.keep_min]} <= stays
    assert {c.name for c in found if c.pinned} <= stays


@given(candidates, policies)
def test_unproven_ones_never_count(found: list[Candidate], policy: Policy) -> None:
    """Adding unproven backups (a failing night's leavings) makes no good one go."""
    good_only = [c for c in found if c.good]
    assume(all(c.started_at <= NOW for c in found))
    with_unproven = kept(plan(found, policy, NOW)) & {c.name for c in good_only}
    assert kept(plan(good_only, policy, NOW)) == with_unproven


@given(candidates, policies, st.tuples(st.integers(0, 400), counts, counts, counts, counts))
def test_a_longer_policy_never_removes_more(found: list[Candidate], policy: Policy, more: tuple[int, ...]) -> None:
    """More of anything keeps at least what less keeps (unless less keeps all, out of doubt about the clock)."""
    decisions = plan(found, policy, NOW)
    assume(policy.days > 0)
    assume(not any("clock" in decision.reason for decision in decisions))
    days, least, weeks, months, years = more
    longer = Policy(
        policy.days + days,
        policy.keep_min + least,
        policy.weeks + weeks,
        policy.months + months,
        policy.years + years,
    )
    assert kept(decisions) <= kept(plan(found, longer, NOW))
    assert wanted(found, policy, NOW) <= wanted(found, longer, NOW)


@given(candidates, policies)
def test_each_period_that_counts_has_its_newest_good_one(found: list[Candidate], policy: Policy) -> None:
    """Of each of the newest weeks, months and years that have a good backup, the newest good one stays."""
    stays = kept(plan(found, policy, NOW))
    for form, count in (("%G %V", policy.weeks), ("%Y %m", policy.months), ("%Y", policy.years)):
        newest = {
            f"{c.started_at:{form}}": c.name for c in sorted(found, key=lambda c: (c.started_at, c.name)) if c.good
        }
        periods = sorted(newest, reverse=True)[:count]
        assert {newest[period] for period in periods} <= stays


@given(candidates, policies)
def test_what_is_settled_need_not_be_read(found: list[Candidate], policy: Policy) -> None:
    """A backup whose decision is settled needs no manifest read: were it not good after all, the same would stay."""
    decisions = plan(found, policy, NOW)
    for one in (decision.candidate for decision in decisions if decision.settled and decision.candidate.good):
        others = [replace(candidate, good=False) if candidate is one else candidate for candidate in found]
        assert kept(plan(others, policy, NOW)) == kept(decisions)


@given(candidates, policies)
def test_a_suspicious_backup_freezes(found: list[Candidate], policy: Policy) -> None:
    """Nothing goes while the operator has not looked at it; what the policy itself wants is the same."""
    assert all(decision.keep for decision in plan(found, policy, NOW, frozen_by="it"))
    assert wanted(found, policy, NOW) <= {candidate.name for candidate in found}


@given(candidates, policies)
def test_pruning_twice_removes_nothing_more(found: list[Candidate], policy: Policy) -> None:
    """A plan made over what a plan left removes nothing: pruning converges in one step."""
    left = [d.candidate for d in plan(found, policy, NOW) if d.keep]
    assert all(decision.keep for decision in plan(left, policy, NOW))


@given(candidates, policies)
def test_a_backup_from_the_future_stops_all_removal(found: list[Candidate], policy: Policy) -> None:
    """A clock that went back shows by a backup from the future: nothing goes."""
    future = Candidate("future", NOW + timedelta(hours=2), True)
    assert all(decision.keep for decision in plan([*found, future], policy, NOW))


def test_a_clock_a_year_ahead_removes_nothing() -> None:
    """The first backup under a clock that jumped ahead makes all the others look old: it must not cost them."""
    nights = [aged(days) for days in range(1, 8)]
    ahead = NOW + timedelta(days=365)
    jumped = Candidate("jumped", ahead, True)
    assert all(decision.keep for decision in plan([*nights, jumped], Policy(7), ahead))


def test_thirty_failing_nights_keep_every_good_backup() -> None:
    """Prune runs only after a good backup; and even a plan made in the thirtieth bad night keeps the newest good."""
    good = [aged(days, name=f"good{days}") for days in range(30, 37)]
    failures = [aged(days, good=False, name=f"failed{days}") for days in range(30)]
    decisions = plan([*good, *failures], Policy(7), NOW)
    assert "good30" in kept(decisions)
    assert {c.name for c in failures} <= kept(decisions)
    first_good_night = plan([*good, *failures, aged(0, name="back")], Policy(7), NOW)
    assert {c.name for c in good} <= kept(first_good_night)


def test_thirty_failing_nights_stay_kept_by_keep_min() -> None:
    """With KEEP_MIN 7, a week of good backups outlives any outage."""
    good = [aged(days, name=f"good{days}") for days in range(30, 37)]
    assert kept(plan(good, Policy(7, 7), NOW)) == {c.name for c in good}


def test_a_lock_keeps_what_the_policy_would_remove() -> None:
    """Until its moment, with that as the reason; it takes no good one's place, and afterwards it goes."""
    ends = NOW + timedelta(days=3)
    locked = replace(aged(10), locked_until=ends)
    backups = [aged(0.1), aged(5), locked, aged(11)]
    reasons = {one.candidate: (one.keep, one.reason) for one in plan(backups, Policy(7), NOW)}
    assert reasons[locked] == (True, f"locked until {ends:%Y-%m-%d %H:%M}")
    assert not reasons[backups[3]][0]
    assert reasons[backups[1]] == (True, "not older than 7 days")
    later = {one.candidate: one.keep for one in plan(backups, Policy(7), ends)}
    assert not later[locked]


@given(candidates, st.integers(0, 40), st.integers(0, 5))
def test_a_lock_never_makes_anything_go(backups: list[Candidate], days: int, least: int) -> None:
    """Whatever is locked, what would have stayed without a lock stays."""
    policy = Policy(days, max(1, least))
    kept = {one.candidate.name for one in plan(backups, policy, NOW) if one.keep}
    locked = [replace(one, locked_until=NOW + timedelta(days=number % 3)) for number, one in enumerate(backups)]
    assert kept <= {one.candidate.name for one in plan(locked, policy, NOW) if one.keep}
