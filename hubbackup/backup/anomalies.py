"""Whether a dump that passed every hard check looks like the last good one, or like a database half lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from hubbackup.catalog.backup import Backup, Manifest

FEWEST_ROWS = 1000
"""Smaller tables come and go."""
NAMED = 5
"""Tables that are named; the others are only counted."""


@dataclass(frozen=True)
class Figures:
    """What is compared: the plain dump's size, its tables, the rows of each, and the server it came from."""

    plain_bytes: int
    table_count: int
    rows: Mapping[str, int]
    system_identifier: str

    @classmethod
    def of(cls, manifest: Manifest) -> Figures:
        """The figures in a manifest."""
        return cls(manifest.plain_bytes, manifest.table_count, manifest.rows, manifest.system_identifier)


def suspicions(found: Figures, normal: Figures, name: str) -> list[str]:
    """Why `found` is suspicious beside `normal`, the figures of the backup `name`: a sentence each, or none."""
    sentences = []
    if found.plain_bytes * 2 < normal.plain_bytes:
        sentences.append(f"the dump has {found.plain_bytes} bytes, {name} had {normal.plain_bytes}")
    if found.table_count * 2 < normal.table_count:
        sentences.append(f"the dump has {found.table_count} tables, {name} had {normal.table_count}")
    fallen = [
        (table, before, found.rows.get(table, 0))
        for table, before in sorted(normal.rows.items())
        if before > FEWEST_ROWS and found.rows.get(table, 0) * 2 < before
    ]
    sentences += [f"{table} has {after} rows, {name} had {before}" for table, before, after in fallen[:NAMED]]
    if len(fallen) > NAMED:
        sentences.append(f"{len(fallen) - NAMED} more tables have lost more than half of their rows")
    if found.system_identifier != normal.system_identifier:
        sentences.append(f"the server is not the one that {name} came from: its system identifier differs")
    return sentences


def last_counting(newest_first: Iterable[Backup], now: datetime) -> Manifest | None:
    """The newest manifest that the next backup is compared with: ours, nothing in doubt about it, not from ahead."""
    for backup in newest_first:
        if backup.proven and not backup.doubts and not backup.from_future(now):
            return backup.manifest
    return None


def last_normal(newest_first: Iterable[Backup], now: datetime) -> Manifest | None:
    """The newest manifest that the next backup is measured by: ours, not suspicious (or accepted), not from ahead."""
    for backup in newest_first:
        if backup.proven and not backup.suspicious and not backup.from_future(now):
            return backup.manifest
    return None
