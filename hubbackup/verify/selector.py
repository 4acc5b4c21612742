"""Which backup is meant: the newest good one of a database, or one that somebody names, and in which target."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from zoneinfo import ZoneInfo

from hubbackup.catalog.backup import BackupName
from hubbackup.catalog.listing import newest_first
from hubbackup.catalog.target import Target, choose
from hubbackup.catalog.typed_name import in_path, places_of
from hubbackup.errors import NotFoundError, StoreError, UsageError
from hubbackup.jobs.leftovers import Leftovers, remove_leftovers
from hubbackup.jobs.run import Run
from hubbackup.streams.age_keys import NO_IDENTITIES, Identities
from hubbackup.verify.choice import newest_sound, readable
from hubbackup.verify.source import Source, check_ours, downloaded, of_file, remove_downloads, taken

S3_SCHEME = "s3://"


@dataclass(frozen=True)
class BackupSelector:
    """What the operator asks for: the newest good one of `database`, or a `file`; in the target `store`, where one is
    named, else wherever it is.

    A backup of another database than `database` is refused, unless `any_database`; a foreign one, unless `foreign`.
    """

    database: str
    file: str = ""
    store: str = ""
    any_database: bool = False
    foreign: bool = False


@contextmanager
def find(
    run: Run,
    selector: BackupSelector,
    targets: Sequence[Target],
    zone: ZoneInfo,
    scratch: Path,
    identities: Identities = NO_IDENTITIES,
) -> Iterator[Source]:
    """The backup that is selected, at hand to be read. Raises UsageError, NotFoundError, StoreError.

    A sealed one is opened by `identities`: where they don't, IdentityError, before any download.
    """
    remove_leftovers(run.log, [Leftovers(lambda: remove_downloads(scratch), fields={"store": "scratch"})])
    chosen = _where(selector, targets)
    with ExitStack() as stack:
        if not selector.file:
            getting = latest(run, chosen, selector.database, zone=zone, scratch=scratch, identities=identities)
            source = stack.enter_context(getting)
        elif chosen[0].disk is not None:
            source = of_file(chosen[0].disk, selector.file, zone, trust=chosen[0].trust())
        else:
            getting = downloaded(
                run, chosen[0], selector.file, scratch=scratch, foreign=selector.foreign, identities=identities
            )
            source = stack.enter_context(getting)
        check_ours(source.name, source.doubt, allowed=selector.foreign)
        _check_database(source, selector)
        yield source.opened_by(identities)


def _where(selector: BackupSelector, targets: Sequence[Target]) -> list[Target]:
    """The targets to look in: that of the selector, else the one of an address; a file's name alone is the disk's."""
    if selector.store:
        return choose(targets, selector.store)
    if not selector.file:
        return list(targets)
    if not selector.file.startswith(S3_SCHEME):
        return [target for target in targets if target.disk is not None]
    remotes = [target for target in targets if target.remote]
    if not remotes:
        raise UsageError(f"{selector.file} is in S3: S3_BACKUP_BUCKET is not set", remedy="set it in .env.production")
    return places_of(selector.file, remotes) or remotes


def located(selector: BackupSelector, targets: Sequence[Target]) -> BackupSelector:
    """The same; where this disk has not the file of that name, in the first other target that has it."""
    local = next(target.disk for target in targets if target.disk is not None)
    remotes = [target for target in targets if target.remote]
    if not selector.file or selector.store or selector.file.startswith(S3_SCHEME) or not remotes:
        return selector
    path = in_path(selector.file)
    if path.parent not in (Path(), Path("backups"), local.directory) or os.path.exists(local.directory / path.name):
        return selector
    found = next((target for target in remotes if _holds(target, path.name)), remotes[0])
    return replace(selector, file=path.name, store=found.name)


def _holds(target: Target, name: str) -> bool:
    try:
        target.store.stat(name)
    except StoreError:
        return False
    return True


@contextmanager
def find_in(
    run: Run,
    target: Target,
    name: str,
    database: str,
    zone: ZoneInfo,
    scratch: Path,
    identities: Identities = NO_IDENTITIES,
) -> Iterator[Source]:
    """The backup `name` of one target, or without a name its newest good one of `database`. Never a foreign one."""
    if not name:
        with latest(run, [target], database, zone=zone, scratch=scratch, identities=identities) as source:
            yield source.opened_by(identities)
    elif target.disk is not None:
        source = of_file(target.disk, name, zone, trust=target.trust())
        check_ours(source.name, source.doubt)
        yield source.opened_by(identities)
    else:
        with downloaded(run, target, name, scratch=scratch, identities=identities) as source:
            yield source.opened_by(identities)


def _check_database(source: Source, selector: BackupSelector) -> None:
    """Raises UsageError where the backup is of another database than the one it would replace."""
    name = BackupName.parse(source.name)
    of = source.manifest.database if source.manifest is not None else name.database if name is not None else ""
    if of and of != selector.database and not selector.any_database:
        raise UsageError(
            f"{source.name} is a backup of the database {of}, not of {selector.database}",
            remedy=f"restore it beside the others with --into NEW, or over its own with --database {of}",
        )


@contextmanager
def latest(
    run: Run,
    targets: Sequence[Target],
    database: str,
    *,
    zone: ZoneInfo,
    scratch: Path,
    identities: Identities = NO_IDENTITIES,
) -> Iterator[Source]:
    """The newest good backup of `database` in any of `targets`, the first one's copy where several have it.

    A foreign one is passed over, one in doubt (suspicious, unrestorable), and one from the future: each is named, and
    can be restored by its name.
    Raises NotFoundError.
    """
    targets = readable(run, targets, zone, database)
    chosen = newest_sound(newest_first(targets, zone, database), targets, database)
    for name, why in chosen.passed_over:
        run.log.warning(
            "source.skipped",
            message=f"{name} is passed over: {why}",
            name=name,
            remedy=f"to restore this one all the same: hubbackup restore {name}",
        )
    if chosen.backup is None:
        raise NotFoundError(
            f"there is no good backup of {database} in {', '.join(target.describe() for target in targets)}",
            remedy="hubbackup list shows what is there, and why it is not good",
        )
    backup, target = chosen.backup, chosen.targets[0]
    run.log.info("source.chosen", message=f"backup chosen: {backup.name}", name=str(backup.name), store=target.name)
    with taken(run, backup, target, scratch=scratch, identities=identities) as source:
        yield source
