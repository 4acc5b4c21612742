"""What a backup was made without, as its manifest says it: whoever restores from it has to know."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from hubbackup.dump.identifiers import readable, unescaped
from hubbackup.dump.table_names import find_table
from hubbackup.errors import UsageError
from hubbackup.shown_text import printable

SHOWN = 5
"""Names in a sentence."""
SHOWN_CHARACTERS = 300


class LeftOut(BaseModel):
    """Tables that are not in the backup at all, and those whose rows alone are not. Named as in `Manifest.rows`.

    Partitions and children of a table are named with it. `foreign_keys` are (table, constraint), as SQL writes them,
    of those that refer to what was left out: a restore makes them where they hold.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    table_patterns: tuple[str, ...] = ()
    """BACKUP_EXCLUDE_TABLES."""
    row_patterns: tuple[str, ...] = ()
    """BACKUP_EXCLUDE_TABLE_DATA."""
    tables: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    foreign_keys: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """Of all whose rows are not there."""
        return frozenset((*self.tables, *self.rows))

    def sentence(self, encoding: str = "") -> str:
        """`2 tables (public.a, public.b) and the rows of 1 (public.c)`, bounded; empty where all is there."""
        parts = []
        if self.tables:
            parts.append(f"{_count(self.tables)} ({_some(self.tables, encoding)})")
        if self.rows:
            parts.append(f"the rows of {_count(self.rows)} ({_some(self.rows, encoding)})")
        return " and ".join(parts)

    def refuse(self, typed: str, backup: str, rows: Iterable[str], encoding: str) -> None:
        """Raise UsageError where `typed` means a table that was left out, and none of those that have `rows`."""
        if _means(typed, rows, encoding):
            return
        for names, setting, what in (
            (self.tables, "BACKUP_EXCLUDE_TABLES", "it has nothing of it"),
            (self.rows, "BACKUP_EXCLUDE_TABLE_DATA", "it has no rows of it"),
        ):
            if found := _means(typed, names, encoding):
                both = self.table_patterns if setting == "BACKUP_EXCLUDE_TABLES" else self.row_patterns
                asked = setting if both else "BACKUP_EXCLUDE_TABLES"  # which other objects kept from being left out
                raise UsageError(
                    f"{found} was left out of {backup} ({asked}): {what}",
                    remedy="hubbackup show NAME says what each backup was made without; an older one may have it",
                )


def shown(table: str, encoding: str) -> str:
    """A table's name in readable letters."""
    return readable(unescaped(table), encoding or "UTF8")


def _means(typed: str, names: Iterable[str], encoding: str) -> str:
    try:
        return find_table(typed, (shown(name, encoding) for name in names), "")
    except UsageError:
        return ""


def _count(names: tuple[str, ...]) -> str:
    return f"{len(names):,} table{'s' if len(names) > 1 else ''}"


def _some(names: tuple[str, ...], encoding: str) -> str:
    told: list[str] = []
    for name in names[:SHOWN]:
        word = printable(shown(name, encoding))
        if told and len(", ".join([*told, word])) > SHOWN_CHARACTERS:
            break
        told.append(word)
    more = len(names) - len(told)
    return ", ".join(told) + (f" and {more:,} more" if more else "")
