"""What comes: the room that the next run needs, and what the retention will remove, and when.

That is the real plan, asked for each run to come. Pure, and valid for any policy: each coming run is taken to give a
good backup, and the first run whose plan no longer keeps a backup is the one that removes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from hubbackup.catalog.target import Policy
from hubbackup.retention.policy import Candidate, plan

SAFETY = 1.2
"""The next backup may be somewhat larger than the last."""


def next_run_bytes(newest_bytes: Iterable[int]) -> int:
    """About how much room the next run needs, by the size of the newest backup of each of its databases."""
    return round(sum(newest_bytes) * SAFETY)


@dataclass(frozen=True, slots=True)
class Removal:
    """The run at `at` will remove the backup `name`, for `reason`."""

    name: str
    at: datetime
    reason: str


def removals(candidates: Sequence[Candidate], policy: Policy, runs: Sequence[datetime]) -> list[Removal]:
    """What is removed by which of `runs` (ascending, in the operator's time zone), oldest backup first.

    `candidates` are one database's in one store, as they are now.
    """
    left = list(candidates)
    mine = {candidate.name for candidate in candidates}
    found = []
    for at in runs:
        left.append(Candidate(f"the backup of {at.isoformat()}", at, good=True))
        decisions = plan(left, policy, at)
        gone = [decision for decision in reversed(decisions) if not decision.keep]
        found += [Removal(one.candidate.name, at, one.reason) for one in gone if one.candidate.name in mine]
        left = [decision.candidate for decision in decisions if decision.keep]
    return found
