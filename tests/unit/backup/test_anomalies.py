"""Plausibility: what has lost more than half is told, what has not is not, whatever the numbers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hubbackup.backup.anomalies import (
    FEWEST_ROWS,
    NAMED,
    Figures,
    last_counting,
    last_normal,
    like_with_like,
    suspicions,
)
from hubbackup.catalog.backup import Backup, BackupName, Mark
from hubbackup.catalog.left_out import LeftOut
from hubbackup.catalog.origin import Origin
from tests.support.backups import manifest_of

NORMAL = Figures(10_000_000, 40, {"public.users": 5000, "public.small": 900}, "7400000000000000000")
counts = st.integers(0, 10**7)
figures = st.builds(
    Figures,
    plain_bytes=counts,
    table_count=counts,
    rows=st.dictionaries(st.sampled_from(["public.a", "public.b", 'public."c d"']), counts),
    system_identifier=st.sampled_from(["1", "2"]),
)


def told(found: Figures) -> list[str]:
    return suspicions(found, NORMAL, "last")


def test_the_same_again_is_plausible() -> None:
    """So is a database that grew, or lost up to half."""
    assert told(NORMAL) == []
    assert told(Figures(5_000_000, 20, {"public.users": 2500}, NORMAL.system_identifier)) == []
    assert told(Figures(90_000_000, 90, {"public.users": 90_000}, NORMAL.system_identifier)) == []


def test_each_loss_has_its_sentence() -> None:
    """Size, tables, the rows of a large table, the server: each with both numbers and what it was compared with."""
    assert told(replace(NORMAL, plain_bytes=4_999_999)) == ["the dump has 4999999 bytes, last had 10000000"]
    assert told(replace(NORMAL, table_count=19)) == ["the dump has 19 tables, last had 40"]
    assert told(replace(NORMAL, rows={"public.users": 2499})) == ["public.users has 2499 rows, last had 5000"]
    assert told(replace(NORMAL, rows={})) == ["public.users has 0 rows, last had 5000"]
    assert "system identifier" in told(replace(NORMAL, system_identifier="2"))[0]


def test_many_tables_are_told_in_few_sentences() -> None:
    """A truncated database of a thousand tables makes no mail of a thousand lines."""
    normal = replace(NORMAL, rows={f"public.t{number:04}": 2000 for number in range(1000)})
    found = suspicions(replace(NORMAL, rows={}), normal, "last")
    assert len(found) == NAMED + 1
    assert found[-1] == f"{1000 - NAMED} more tables have lost more than half of their rows"


@given(figures, figures)
def test_suspicious_means_less_than_half(found: Figures, normal: Figures) -> None:
    """There is a sentence exactly where something has lost more than half, or the server is another."""
    lost = (
        found.plain_bytes < normal.plain_bytes / 2
        or found.table_count < normal.table_count / 2
        or found.system_identifier != normal.system_identifier
        or any(
            before > FEWEST_ROWS and found.rows.get(table, 0) < before / 2 for table, before in normal.rows.items()
        )
    )
    assert bool(suspicions(found, normal, "last")) == lost


@given(figures)
def test_nothing_is_suspicious_beside_itself(found: Figures) -> None:
    """The same database, dumped twice, is normal; so is one that only grew."""
    assert suspicions(found, found, "last") == []
    grown = replace(found, plain_bytes=found.plain_bytes * 2, rows={**found.rows, "public.new": 1})
    assert suspicions(grown, found, "last") == []


def test_the_measure_is_the_newest_normal_one() -> None:
    """Suspicious ones are passed over, accepted ones are not; unproven ones and those from the future say nothing."""
    at = datetime(2026, 2, 8, 3)

    def backup(day: int, *, warnings: tuple[str, ...] = (), accepted: bool = False, proven: bool = True) -> Backup:
        name = BackupName("hub", at.replace(day=day))
        manifest = manifest_of(name, b"x", warnings=warnings) if proven else None
        marks = {Mark.ACCEPTED: frozenset({"s3"})} if accepted else {}
        origin = Origin.OURS if proven else Origin.UNPROVEN
        return Backup(name, at.replace(tzinfo=UTC), manifest, marks=marks, origin=origin)

    normal, odd, unproven = backup(1), backup(2, warnings=("odd",)), backup(4, proven=False)
    assert last_normal([unproven, odd, normal], at.replace(day=9, tzinfo=UTC)) is normal.manifest
    accepted = backup(3, warnings=("odd",), accepted=True)
    assert last_normal([unproven, accepted, normal], at.replace(day=9, tzinfo=UTC)) is accepted.manifest
    assert last_normal([unproven, odd], at.replace(day=9, tzinfo=UTC)) is None
    assert last_normal([normal], at.replace(day=7, tzinfo=UTC)) is None


def test_what_a_backup_is_compared_with_counts() -> None:
    """Nothing is in doubt about it: not suspicious, and no server has refused its schema."""
    at = datetime(2026, 2, 8, 3)

    def backup(day: int, marks: dict[Mark, frozenset[str]], **changes: Any) -> Backup:
        name = BackupName("hub", at.replace(day=day))
        return Backup(
            name, at.replace(tzinfo=UTC), manifest_of(name, b"x", **changes), marks=marks, origin=Origin.OURS
        )

    plain = backup(1, {})
    refused = backup(2, {Mark.UNRESTORABLE: frozenset({"local"})})
    odd = backup(3, {}, warnings=("odd",))
    assert last_counting([odd, refused, plain], at.replace(day=9, tzinfo=UTC)) is plain.manifest
    assert last_normal([odd, refused, plain], at.replace(day=9, tzinfo=UTC)) is refused.manifest
    assert last_counting([odd, refused], at.replace(day=9, tzinfo=UTC)) is None


def test_like_is_compared_with_like() -> None:
    """What either of two backups was made without counts in neither: its rows, its table, its bytes."""
    name = BackupName("hub", datetime(2026, 2, 8, 3))
    whole = manifest_of(name, b"", rows={"public.users": 5000, "public.log": 90_000}, table_count=2)
    left_out = LeftOut(tables=("public.log",))
    without = manifest_of(name, b"", rows={"public.users": 5000}, table_count=1, left_out=left_out)
    for made, normal in ((without, whole), (whole, without), (without, without)):
        found, measure = like_with_like(made, normal)
        assert found.rows == measure.rows == {"public.users": 5000}
        assert found.table_count == measure.table_count == 1
    assert like_with_like(whole, whole) == (Figures.of(whole), Figures.of(whole))
