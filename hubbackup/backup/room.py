"""Room on the local disk for the next backup: looked at before the dump, made by the retention policy where it lacks.

What goes is what the next good backup would have removed anyway. The newest good backup, the policy's minimum and
whatever is pinned stay, and nothing goes while a backup in doubt freezes the rotation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from hubbackup.catalog.backup import Doubt
from hubbackup.catalog.listing import read_backups, scan
from hubbackup.catalog.target import LocalTarget
from hubbackup.errors import StoreError, StoreFullError
from hubbackup.jobs.run import Run
from hubbackup.retention.forecast import next_run_bytes
from hubbackup.retention.prune import apply_plans, frozen_by, make_plans
from hubbackup.units import human_bytes


@dataclass(frozen=True)
class _Frozen:
    """The backup whose `doubt` keeps the retention from making room in `where`."""

    name: str
    doubt: Doubt
    where: str

    @property
    def sentence(self) -> str:
        """To be appended to another."""
        return f"; nothing is pruned, since {self.name} is {self.doubt.word}"

    @property
    def remedy(self) -> str:
        """What ends the doubt ends the lack of room; room that is made by hand does at once."""
        return f"make room in {self.where}; or {self.doubt.remedy}, then: hubbackup prune"


@dataclass
class Room:
    """The room in `local` for one run's backup of `database`. `removed`: what went for it, as `store:name`."""

    run: Run
    local: LocalTarget
    database: str
    zone: ZoneInfo
    now: Callable[[], datetime]
    removed: list[str] = field(default_factory=list)

    def prepare(self, last_bytes: int) -> None:
        """Before the dump: where a backup like the last would not fit, make room; where it still does not, say so."""
        needed = next_run_bytes([last_bytes])
        try:
            if self.local.store.free_bytes() >= needed:
                return
            frozen, _ = self._prune()
            free = self.local.store.free_bytes()
        except StoreError:
            return  # the draft that can't be made will say why
        if free < needed:
            where = self.local.describe()
            remedy = f"lower BACKUP_RETENTION_DAYS, then: hubbackup prune; or make room in {where}"
            self.run.log.warning(
                "room.short",
                message=f"{human_bytes(free)} are free in {where}, and the backup needs about"
                f" {human_bytes(needed)}: it is tried all the same{frozen.sentence if frozen else ''}",
                free_bytes=free,
                needed_bytes=needed,
                remedy=frozen.remedy if frozen else remedy,
            )

    def make_again(self, error: StoreFullError) -> None:
        """After a backup ran out of room: make some, so that it can be tried once more. Raises what says why not."""
        try:
            frozen, made = self._prune()
        except StoreError:
            raise error from None
        if frozen is not None:
            raise StoreFullError(f"{error}{frozen.sentence}", remedy=frozen.remedy) from error
        if not made:
            raise error
        self.run.log.warning("backup.again", message=f"the backup is tried once more: {error}")

    def _prune(self) -> tuple[_Frozen | None, bool]:
        """Apply the policy to the local target alone; returns what freezes it, and whether anything went."""
        with self.run.stage("make room"):
            now = self.now().astimezone(self.zone)
            targets = [self.local]
            plans = make_plans(
                scan(targets, self.database), targets, now, lambda some: read_backups(some, targets, self.zone)
            )
            names = [f"{target}:{name}" for target, name in apply_plans(plans).removed]
        if names:
            self.removed += names
            self.run.log.info(
                "room.made",
                message=f"{len(names)} backups removed before the dump, since there was no room",
                names=names,
            )
        frozen = frozen_by(plans)
        return _Frozen(*frozen, self.local.describe()) if frozen is not None else None, bool(names)
