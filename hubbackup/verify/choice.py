"""Which backup is taken where none is named: the newest good one, and why others are passed over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from hubbackup.catalog.backup import Backup, BackupName
from hubbackup.catalog.listing import newest_first
from hubbackup.catalog.target import Target
from hubbackup.errors import NotFoundError, NotProvenError, StoreError
from hubbackup.jobs.run import Run


@dataclass(frozen=True)
class Choice:
    """The backup of `database` that is taken, and the targets that have it, the one to take it from first.

    `backup` None: there is none to take. `passed_over`: the name of each newer one that is in doubt, and why.
    """

    database: str
    backup: Backup | None = None
    targets: tuple[Target, ...] = ()
    passed_over: tuple[tuple[str, str], ...] = ()

    @property
    def foreign(self) -> bool:
        """It is not known whose it is: none of ours was there, and foreign ones were allowed."""
        return self.backup is not None and self.backup.foreign

    @property
    def why_none(self) -> str:
        """Why there is none to take, by its newest."""
        return "; ".join(f"{name}: {why}" for name, why in self.passed_over[:1]) or "none is whole and proven"


def newest_sound(
    found: Iterable[Backup], targets: Sequence[Target], database: str, *, foreign: bool = False
) -> Choice:
    """The newest good backup of `found`, which comes newest first, that is neither in doubt nor from the future.

    With `foreign`, where there is none of ours: the newest that would be one, were it ours.
    """
    now = datetime.now(UTC)
    passed_over: list[tuple[str, str]] = []
    stranger = Choice(database)
    for backup in found:
        good = [target for target in targets if backup.good_in(target.name)]
        good.sort(key=lambda target: backup.archived_in(target.name))
        # The manifest that was read may be another store's: what is taken must be ours where it is taken from.
        ours = next((target for target in good if target.disk is not None or _ours_in(target, backup.name)), None)
        if backup.unreadable:
            why = backup.problem
        elif backup.foreign or (good and ours is None):
            why = f"it is {backup.stranger(now) or 'foreign in the bucket'}"
            if foreign and stranger.backup is None:
                held = tuple(target for target in targets if _would_be_good(backup, target, now))
                stranger = Choice(database, backup if held else None, held, tuple(passed_over))
        elif ours is None:
            continue
        elif strange := backup.stranger(now):
            why = f"it is {strange}"
        elif backup.doubts:
            why = "; ".join(f"it is {doubt.word}: {doubt.why}" for doubt in backup.doubts)
        else:
            others = [target for target in good if target is not ours]
            return Choice(database, backup, (ours, *others), tuple(passed_over))
        passed_over.append((str(backup.name), why))
    return stranger if stranger.backup is not None else Choice(database, passed_over=tuple(passed_over))


def readable(run: Run, targets: Sequence[Target], zone: ZoneInfo, database: str) -> list[Target]:
    """The targets that can be listed: on the worst day S3 may be down, and the local copy is enough.

    Raises StoreError where none can.
    """
    found: list[Target] = []
    problems: list[tuple[Target, StoreError]] = []
    for target in targets:
        try:
            next(newest_first([target], zone, database), None)
            found.append(target)
        except StoreError as error:
            problems.append((target, error))
    if problems and not found:
        raise problems[-1][1]
    tell_unreadable(run, problems)
    return found


def tell_unreadable(run: Run, problems: Iterable[tuple[Target, StoreError]]) -> None:
    """Log which stores can't be listed."""
    for target, problem in problems:
        run.log.warning("source.unreadable", message=f"store passed over: {problem}", store=target.name)


def _ours_in(target: Target, name: BackupName) -> bool:
    try:
        return target.manifest(name).trusted
    except (NotFoundError, NotProvenError, StoreError):
        return False


def _would_be_good(backup: Backup, target: Target, now: datetime) -> bool:
    """Whether the foreign backup in `target` speaks against itself in nothing but that."""
    copy, manifest = backup.copies.get(target.name), backup.manifest
    return (
        backup.foreign
        and copy is not None
        and manifest is not None
        and target.name in backup.foreign_in
        and copy.size_bytes == manifest.stored_bytes
        and not backup.bad_in(target.name)
        and not backup.unrestorable
        and not manifest.warnings
        and not backup.from_future(now)
    )
