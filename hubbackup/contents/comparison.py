"""The rows of one table, compared between two backups, or between a backup and the live database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hubbackup.contents.row_comparison import Difference, Row, RowComparison
from hubbackup.contents.table_rows import Sides, TableRows, rows, sides_of
from hubbackup.dump.copy_text import value
from hubbackup.dump.identifiers import plain_name

FEWEST_FILES, MOST_FILES = 16, 512
PART_BYTES = 32 << 20
"""Of rows that may have to be held at once, where all of them differ."""


@dataclass
class Comparison:
    """The comparison of a table's rows. The figures are right once all `differences` were taken.

    `certain`: the digests say that the rows are the same; none was read.
    """

    before: TableRows
    after: TableRows
    sides: Sides
    certain: bool
    rows_before: int = 0
    rows_after: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """How many were added, removed, changed and (`same`) neither."""

    def differences(self, scratch: Path, check: Callable[[], None]) -> Iterator[Difference]:
        """Each row that differs, in no certain order. Raises HubbackupError; what came before is then not certain."""
        if self.certain:
            return
        convert = self.before.encoding != self.after.encoding
        all_bytes = 2 * max(self.before.row_bytes, self.after.row_bytes)
        files = min(MOST_FILES, max(FEWEST_FILES, all_bytes // PART_BYTES))
        compared = RowComparison(self.sides.key_places, scratch, check, files=files)
        old, new = (rows(side, self.sides.columns, convert=convert) for side in (self.before, self.after))
        for one in compared.differences(old, new):
            self.counts[one.change] += 1
            yield one
        self.rows_before, self.rows_after = compared.tally.before, compared.tally.after
        self.counts["same"] = compared.tally.same

    def shown(self, row: Row | None, side: TableRows) -> dict[str, str | None]:
        """A row's values by column, as people read them."""
        fields = row.split(b"\t") if row is not None else []
        encoding = side.encoding if self.before.encoding == self.after.encoding else "UTF8"
        return {
            column: None if (raw := value(field)) is None else plain_name(raw, encoding, unquoted=False)
            for column, field in zip(self.sides.columns, fields, strict=False)
        }

    def key_of(self, one: Difference) -> dict[str, str | None]:
        """What tells the row from the others: its key, or all of it."""
        added = one.after is not None
        shown = self.shown(one.after if added else one.before, self.after if added else self.before)
        return {column: shown[column] for column in self.sides.key or self.sides.columns}

    def changed(self, one: Difference) -> dict[str, tuple[str | None, str | None]]:
        """The columns that differ, with both values."""
        old, new = self.shown(one.before, self.before), self.shown(one.after, self.after)
        return {column: (old[column], new[column]) for column in self.sides.columns if old[column] != new[column]}


def compare(before: TableRows, after: TableRows) -> Comparison:
    """Raises HubbackupError."""
    sides = sides_of(before, after)
    same_columns = before.columns() == after.columns()
    certain = same_columns and len(before.digest) > 1 and before.digest == after.digest
    return Comparison(before, after, sides, certain)


def order(one: Difference) -> tuple[tuple[int, bytes], ...]:
    """Of what is shown first: numbers by their size, texts by their length."""
    row = one.before if one.after is None else one.after
    return tuple((len(field), field) for field in (row or b"").split(b"\t"))
