"""What a comparison of a backup's rows with the live ones came to: what is shown before anything is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from hubbackup.dump.table_names import columns as listed
from hubbackup.errors import UsageError
from hubbackup.postgres.live_table import Key, KeyColumn, LiveTable
from hubbackup.recover.sql import Comparison
from hubbackup.verify.source import Source

Apply = Literal["", "missing", "changed"]
Values = tuple[str | None, ...]
"""As the server writes them, the first 200 characters; None for NULL."""


@dataclass(frozen=True)
class Difference:
    """One row that is another one in the live table: its key, and by column the backup's value and the live one."""

    key: Values
    columns: dict[str, tuple[str | None, str | None]]


@dataclass(frozen=True)
class RowReport:
    """`chosen` of the backup's `rows` are those that the condition holds for; the samples are the first 20."""

    backup: str
    taken_at: datetime | None
    database: str
    table: str
    key: tuple[str, ...]
    key_title: str
    apply: Apply
    rows: int
    chosen: int
    missing: int
    different: int
    only_live: int
    differing: dict[str, int]
    """In how many rows each column differs, where it does."""
    shown: tuple[str, ...]
    """The columns of the two samples of whole rows."""
    missing_sample: tuple[Values, ...]
    different_sample: tuple[Difference, ...]
    only_live_sample: tuple[Values, ...]
    notes: tuple[str, ...] = ()

    @property
    def to_insert(self) -> int:
        """How many rows will be inserted."""
        return self.missing if self.apply else 0

    @property
    def to_update(self) -> int:
        """How many rows will be set back."""
        return self.different if self.apply == "changed" else 0

    @property
    def equal(self) -> int:
        """How many rows are the same in both."""
        return self.chosen - self.missing - self.different

    def document(self) -> dict[str, object]:
        """The samples, as JSON has them: a row as its values by column."""
        return {
            "key": self.key,
            "differing": self.differing,
            "missing_sample": [dict(zip(self.shown, row, strict=True)) for row in self.missing_sample],
            "different_sample": [
                {
                    "key": dict(zip(self.key, one.key, strict=True)),
                    "columns": {name: {"backup": b, "live": live} for name, (b, live) in one.columns.items()},
                }
                for one in self.different_sample
            ],
            "only_live_sample": [dict(zip(self.shown, row, strict=True)) for row in self.only_live_sample],
            "notes": self.notes,
        }


def choose_key(table: LiveTable, stored: Sequence[str], typed: str) -> Key:
    """The key to compare by: what was typed, else the primary key, else a unique index of columns that are NOT NULL;
    of columns that the backup has, too. Raises UsageError."""
    if typed:
        names = listed(typed)
        for name in names:
            if name not in stored or table.column(name) is None:
                where = "the backup" if name not in stored else "the live table"
                raise UsageError(f"--key {typed}: {where} has no column {name} in {table.name}")
        return Key(tuple(map(KeyColumn, dict.fromkeys(names))), "--key", is_sure=False)
    usable = (key for key in table.keys if all(column.name in stored for column in key.columns))
    found = next(usable, None)
    if found is None:
        why = (
            "has no key that its rows can be compared by: a primary key, or a unique index of columns that are NOT"
            " NULL; with NOT VALID or WITHOUT OVERLAPS it is none"
        )
        raise UsageError(
            f"the table {table.name} {why}" if not table.keys else f"the backup has no column of {table.name}'s keys",
            remedy="say which columns tell its rows apart: --key COLUMNS",
        )
    return found


def backup_notes(source: Source) -> Iterator[str]:
    """Why its rows may not be what they seem."""
    if source.manifest is None:
        yield "this file is unproven, it has no manifest: nothing says that it is what it was when it was made"
    elif source.manifest.warnings:
        yield f"this backup is suspicious: {'; '.join(source.manifest.warnings)}"


def column_notes(comparison: Comparison) -> Iterator[str]:
    """What is to be said of columns that are not the same in the backup and in the live table."""
    live = {column.name: column for column in comparison.table.columns}
    stored = set(comparison.columns)
    if gone := [name for name in comparison.columns if name not in live]:
        yield f"not in the live table any more, and left out: {', '.join(gone)}"
    if new := [name for name, column in live.items() if name not in stored and not column.is_generated]:
        yield (
            f"not in the backup: {', '.join(new)}. An inserted row gets the default there, and a row that is set back"
            " keeps what it has"
        )
    if generated := [name for name in comparison.columns if name in live and live[name].is_generated]:
        yield f"generated from other columns now, and left to the server: {', '.join(generated)}"
    if fixed := [name for name in comparison.inserted if name not in comparison.compared]:
        yield f"always an identity, so inserted as in the backup but never set back: {', '.join(fixed)}"


def differences(answer: str, comparison: Comparison) -> tuple[Difference, ...]:
    """The sample of rows that differ, out of the server's answer: the columns that do."""
    return tuple(
        Difference(
            tuple(key),
            {
                name: (backup, live)
                for name, backup, live, differs in zip(comparison.compared, *values, strict=True)
                if differs
            },
        )
        for key, *values in json.loads(answer)
    )
