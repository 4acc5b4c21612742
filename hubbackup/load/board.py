"""What the sessions of a parallel load do next: the plan's tasks, each given out once what it waits for is done.

No session and no clock is in here: who asks gets work, or has to wait until somebody reports something done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hubbackup.load.phases import InTurn, Keys, Phase, Tables
from hubbackup.load.plan import ForeignKey, Plan
from hubbackup.load.tasks import Alone, Fill, Indexes, Script, Task, weight_of

LONG_BEFORE = 1.5
"""A task of so many times the cost of all that the others have keeps them waiting."""


@dataclass
class Board:
    """All phases of one plan."""

    plan: Plan
    in_order: bool = False
    at_work: list[Task] = field(default_factory=list)

    def __post_init__(self) -> None:
        plan = self.plan
        loaded = {table.table for table in plan.loads}
        early = [key for key in plan.foreign_keys if key.tables <= loaded]
        late = [key for key in plan.foreign_keys if not key.tables <= loaded]
        self._tables = Tables(plan.loads, plan.data, early, in_order=self.in_order)
        self._phases: list[Phase] = [
            InTurn([Script(plan.pre, "the schema")]),
            InTurn([Alone(table) for table in plan.first]),
            self._tables,
            InTurn([Alone(table) for table in plan.last]),
            Keys(late),
            InTurn([Script(plan.rest, "triggers, views and rights")]),
        ]
        self.tables_done = self.indexes_done = 0
        alone = len(plan.first) + len(plan.last)
        self.tables = alone + sum(bool(each.blocks) for each in plan.loads)
        self.indexes = sum(len(each.builds) + len(each.then) for each in plan.tables) + len(plan.foreign_keys)

    def take(self) -> list[Task]:
        """What one session does next; none where it has to wait, or nothing is left (`is_over`)."""
        self._turn()
        taken = self._phases[0].take() if self._phases else []
        self.at_work += taken
        return taken

    def done(self, task: Task) -> None:
        """Somebody has done it."""
        self.at_work = [each for each in self.at_work if each is not task]
        self._phases[0].done(task)
        if isinstance(task, Fill | Alone):
            self.tables_done += 1
        if isinstance(task, Alone):
            self.indexes_done += len(task.table.builds) + len(task.table.then)
            self._tables.full.append(task.table.table)
        elif isinstance(task, Indexes):
            self.indexes_done += len(task.builds)
        elif isinstance(task, ForeignKey):
            self.indexes_done += 1
        self._turn()

    def _turn(self) -> None:
        while self._phases and self._phases[0].is_over:
            self._phases.pop(0)

    def leaves_others_idle(self, tasks: Sequence[Task]) -> bool:
        """Whether the others have nothing to do by now, or as far as costs tell long before these tasks are done."""
        phase = self._phases[0]
        others = [each for each in self.at_work if not any(each is task for task in tasks)]
        if not others and not phase.has_more:
            return True
        return sum(task.cost for task in tasks) > LONG_BEFORE * (phase.left + sum(map(weight_of, others)))

    def take_full(self) -> list[str]:
        """The tables that have become whole since the last time."""
        full, self._tables.full = self._tables.full, []
        return full

    @property
    def is_over(self) -> bool:
        """All is done."""
        return not self._phases
