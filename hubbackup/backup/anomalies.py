"""Whether a dump that passed every hard check looks like the last good one, or like a database half lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from datetime import datetime

from hubbackup.catalog.backup import Backup, Manifest
from hubbackup.catalog.diff import content_of

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


def like_with_like(made: Manifest, normal: Manifest) -> tuple[Figures, Figures]:
    """The figures of both without what either was made without: a change of the patterns is not a loss."""
    left_out = [one.left_out for one in (made, normal) if one.left_out is not None]
    if not left_out:
        return Figures.of(made), Figures.of(normal)
    names = frozenset().union(*(one.names for one in left_out))
    tables = frozenset().union(*(one.tables for one in left_out))
    return _without(made, names, tables), _without(normal, names, tables)


def _without(manifest: Manifest, names: Set[str], tables: Set[str]) -> Figures:
    """The figures without the rows of `names`, and without `tables`."""
    own = frozenset(manifest.left_out.tables if manifest.left_out is not None else ())
    known = content_of(manifest).tables
    less_bytes = sum(known[name].size_bytes or 0 for name in names & known.keys())
    return Figures(
        manifest.plain_bytes - less_bytes,
        max(0, manifest.table_count - len(tables - own)),
        {table: rows for table, rows in manifest.rows.items() if table not in names},
        manifest.system_identifier,
    )


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
