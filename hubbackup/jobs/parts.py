"""A run for several databases: how it ended for each of them, and what that makes of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from hubbackup.errors import (
    EXIT_DEGRADED,
    EXIT_FAILED,
    EXIT_LOCKED,
    EXIT_SUCCESS,
    EXIT_USAGE,
    HubbackupError,
    StoppedError,
)

if TYPE_CHECKING:
    from hubbackup.jobs.results import Result
    from hubbackup.jobs.run import Outcome

BADNESS = (EXIT_SUCCESS, EXIT_DEGRADED, EXIT_LOCKED, EXIT_USAGE, EXIT_FAILED)
"""Exit codes in ascending order; a stop is worse than all of them."""


@dataclass(frozen=True)
class Part:
    """How a run ended for one of its databases. `stage`: where it failed."""

    database: str
    started_at: datetime
    seconds: float
    ending: Outcome[Result] | HubbackupError
    stage: str = ""

    @property
    def exit_code(self) -> int:
        """As if it had been a run by itself."""
        return self.ending.exit_code

    @property
    def failed(self) -> bool:
        """There is nothing to show for it."""
        return isinstance(self.ending, HubbackupError)

    @property
    def problems(self) -> tuple[str, ...]:
        """Of one that did not fail."""
        return () if isinstance(self.ending, HubbackupError) else self.ending.problems

    def facts(self) -> dict[str, object]:
        """For the history: what the record of a run by itself has, and which database it is about."""
        if isinstance(self.ending, HubbackupError):
            facts: dict[str, object] = {"stage": self.stage, "cause": str(self.ending)}
            if self.ending.remedy:
                facts["remedy"] = self.ending.remedy
        else:
            facts = self.ending.facts()
            if self.problems:
                facts["problems"] = list(self.problems)
        return {"database": self.database, **facts, "seconds": self.seconds}

    def summary(self) -> dict[str, object]:
        """For the closing line and `--json`."""
        return {**self.facts(), "exit_code": self.exit_code}


def own_problems(problems: Sequence[str], parts: Sequence[Part]) -> list[str]:
    """Those of a run that are no database's, such as a hook's."""
    theirs = {f"{part.database}: {problem}" for part in parts for problem in part.problems}
    return [problem for problem in problems if problem not in theirs]


class PartsFailedError(HubbackupError):
    """The run failed for some of its databases; for the others it did what it should."""

    def __init__(self, message: str, parts: Sequence[Part]) -> None:
        failed = [part for part in parts if part.failed]
        worst = max(failed, key=lambda part: badness(part.exit_code))
        remedies = {part.database: part.ending.remedy for part in failed if isinstance(part.ending, HubbackupError)}
        one = len(set(remedies.values())) == 1
        remedy = "; ".join(text if one else f"{name}: {text}" for name, text in remedies.items() if text)
        super().__init__(message, remedy=next(iter(remedies.values())) if one else remedy)
        self.parts = tuple(parts)
        self.stage = worst.stage
        self._kind = worst.ending.kind if isinstance(worst.ending, HubbackupError) else super().kind
        # Of a run that did something nobody can say that nothing was done.
        whole = all(part.exit_code == worst.exit_code for part in parts)
        self.exit_code = worst.exit_code if whole or isinstance(worst.ending, StoppedError) else EXIT_FAILED

    @property
    def kind(self) -> str:
        """The worst failure's."""
        return self._kind


def badness(exit_code: int) -> int:
    """Sorts exit codes, the worst last."""
    return BADNESS.index(exit_code) if exit_code in BADNESS else len(BADNESS)
