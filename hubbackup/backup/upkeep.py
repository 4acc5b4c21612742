"""What follows a good backup, and never fails it: copies that are missing, and what the policies no longer keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from hubbackup.backup.catch_up import CatchUp
from hubbackup.catalog.listing import Scanned, scan_each
from hubbackup.catalog.origin import SigningKey
from hubbackup.catalog.target import LocalTarget, Target
from hubbackup.errors import HubbackupError, InternalError, StoppedError
from hubbackup.jobs.run import Run
from hubbackup.retention.prune import apply_plans, frozen_by, make_plans, reader, sweep


@contextmanager
def harmless(run: Run, work: str, problems: list[str]) -> Iterator[None]:
    """What fails in the block is a problem of the run, and not its end. Raises StoppedError."""
    try:
        yield
    except StoppedError:
        raise
    except Exception as error:  # noqa: BLE001 - the backup is good, whatever comes after it
        failure = error if isinstance(error, HubbackupError) else InternalError(error)
        problems.append(f"{work} was not finished: {failure}")
        run.log.warning("backup.unfinished", message=problems[-1], stage=run.stage_name, remedy=failure.remedy)


@dataclass
class Upkeep:
    """Of `holders`, the targets that have the new backup; `problems` get a sentence for what could not be done.

    The others are not asked again in this run, and not pruned, since the newest good backup is not there.
    """

    run: Run
    local: LocalTarget
    holders: Sequence[Target]
    database: str
    zone: ZoneInfo
    now: Callable[[], datetime]
    problems: list[str]
    uploaded: list[str] = field(default_factory=list)
    pruned: list[str] = field(default_factory=list)
    """As `target:name`."""

    def __call__(self, made: str, key: SigningKey | None) -> None:
        """After the backup `made`."""
        found = self._scan(self.holders)
        self._catch_up(found, made, key)
        if self.uploaded:  # what replaced a damaged copy must not be judged by its mark
            found = self._scan(found.stores)
        self._prune(found)

    def _scan(self, targets: Sequence[Target]) -> Scanned[Target]:
        found = scan_each(targets, self.database)
        for target, error in found.failed:
            self.problems.append(f"{target.name} can't be listed, so nothing is pruned or caught up there: {error}")
            self.run.log.warning("store.unlisted", message=self.problems[-1], store=target.name, remedy=error.remedy)
        return found

    def _catch_up(self, found: Scanned[Target], made: str, key: SigningKey | None) -> None:
        """Upload what the remote targets lack; `made`, which they have just got, may not be listed yet."""
        if self.local not in found.stores:
            return
        now = self.now().astimezone(self.zone)
        catch_up = CatchUp(self.local, found.stores, found.listed, self.zone, now, made, key)
        for target in found.stores:
            if target is not self.local:
                done = catch_up(self.run, target)
                self.uploaded += done.uploaded
                self.problems += done.problems

    def _prune(self, found: Scanned[Target]) -> None:
        """Remove what the policies no longer keep, unless one in doubt freezes that."""
        with self.run.stage("prune"):
            now = self.now().astimezone(self.zone)
            plans = make_plans(found.listed, found.stores, now, reader(found.stores, self.zone))
            if (frozen := frozen_by(plans)) is not None:
                name, doubt = frozen
                self.run.log.warning(
                    "prune.frozen",
                    message=f"nothing is pruned: {name} is {doubt.word}",
                    name=name,
                    remedy=doubt.remedy,
                )
            parts = apply_plans(plans), sweep(found.stores, self.database, self.zone, now)
        for done in parts:
            self.problems += done.problems
            self.pruned += [f"{target}:{name}" for target, name in done.removed]
