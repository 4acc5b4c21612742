"""What is in a backup, and what changed since the one before it: from its manifest, or else by reading it through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from hubbackup.catalog.backup import Backup, BackupName, Manifest, printable_rows
from hubbackup.catalog.diff import Content, Diff, content_of, diff
from hubbackup.catalog.listing import NAME_DOUBT, newest_first_of, newest_good, scan_each
from hubbackup.catalog.target import Target
from hubbackup.contents.stored import StoredBackup
from hubbackup.dump.census import DumpFacts
from hubbackup.errors import NotFoundError
from hubbackup.jobs.progress import ProgressMaker, silent
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.codecs import Decoder
from hubbackup.verify.index import index_of
from hubbackup.verify.reader import check_dump


@dataclass(frozen=True)
class Overview:
    """What a backup holds. `was_read`: it was read through for that; else it is what its manifest says.

    `materialized_views` have their rows as they were when the backup was made, None where these were not counted.
    `earlier`: the name of the last backup before it that counts, and how they differ; empty where there is none.
    """

    stored: StoredBackup
    server_version: str
    pg_dump_version: str
    plain_bytes: int
    table_count: int
    large_objects: int
    extensions: tuple[str, ...]
    content: Content
    was_read: bool
    earlier: str = ""
    diff: Diff | None = None

    @property
    def rows(self) -> int:
        """Of all its tables."""
        return sum(table.rows for table in self.content.tables.values())


Known = tuple[Manifest | DumpFacts, Content]
"""What a backup holds: what says so, and each table."""


def overview(stored: StoredBackup, known: Known, earlier: Manifest | None) -> Overview:
    """All that is shown of a backup, beside the one before it."""
    facts, content = known
    return Overview(
        stored,
        facts.server_version,
        facts.pg_dump_version,
        facts.plain_bytes,
        facts.table_count,
        facts.large_objects,
        facts.extensions,
        content,
        was_read=facts is not stored.manifest,
        earlier=earlier.name if earlier is not None else "",
        diff=diff(content_of(earlier), content) if earlier is not None else None,
    )


def has_index(stored: StoredBackup) -> bool:
    """Whether its manifest tells where its tables stand."""
    return stored.manifest is not None and bool(stored.manifest.index)


def known(
    stored: StoredBackup,
    *,
    cancel: Cancel,
    progress: ProgressMaker | None = None,
    new_decoder: Callable[[], Decoder] | None = None,
) -> Known:
    """What a backup holds, by its manifest; a file without an index is read to its end for it, and proven.

    Raises NotProvenError, StoreError.
    """
    if stored.manifest is not None and has_index(stored):
        return stored.manifest, content_of(stored.manifest)
    facts = _read_through(stored, cancel, progress, new_decoder)
    return facts, Content.of(printable_rows(facts.rows), index_of(facts))


def _read_through(
    stored: StoredBackup,
    cancel: Cancel,
    progress: ProgressMaker | None,
    new_decoder: Callable[[], Decoder] | None,
) -> DumpFacts:
    with progress("read", stored.size_bytes) if progress is not None else nullcontext(silent) as shown:
        return check_dump(
            lambda: stored.open_at(0, None),
            stored.manifest,
            (new_decoder or stored.format.decoder)(),
            name=stored.name,
            cancel=cancel,
            progress=shown,
        )


def newest_name(targets: Sequence[Target], zone: ZoneInfo, database: str) -> str:
    """The newest good backup of `database`. Raises NotFoundError, StoreError where no target can be listed."""
    found = scan_each(targets, database).or_raise()
    backup = newest_good(found.stores, zone, database, datetime.now(UTC), listed=found.listed)
    if backup is None:
        where = ", ".join(target.describe() for target in targets)
        raise NotFoundError(
            f"there is no good backup of {database} in {where}", remedy="hubbackup list shows what is"
        )
    return str(backup.name)


def last_before(targets: Sequence[Target], zone: ZoneInfo, stored: StoredBackup) -> Manifest | None:
    """The last backup of the same database that is older, and counts; None where no target can be listed, too."""
    name = BackupName.parse(stored.name)
    if name is None:
        return None
    made_at = stored.manifest.started_at if stored.manifest is not None else name.started_at(zone)
    found = scan_each(targets, name.database)
    near = [one for one in found.listed if one.name.started_at(zone) <= made_at + NAME_DOUBT and one.name != name]
    return _last(newest_first_of(near, found.stores, zone), made_at)


def _last(newest_first: Iterable[Backup], made_at: datetime) -> Manifest | None:
    for backup in newest_first:
        if backup.started_at < made_at and backup.proven and not backup.doubts:
            return backup.manifest
    return None
