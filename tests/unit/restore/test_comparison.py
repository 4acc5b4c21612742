"""What a restore decides by itself: whether the rows are all there, and which database an undo takes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from hubbackup.dump.census import DumpFacts
from hubbackup.errors import NotProvenError
from hubbackup.load.proof import DumpProof
from hubbackup.postgres.databases import Databases
from hubbackup.postgres.server import Server, ServerDatabase
from hubbackup.restore.comparison import compare
from hubbackup.restore.undo import kept_aside
from hubbackup.verify.reader import Expected


@dataclass
class Counted:
    """Databases that have been counted."""

    rows: dict[str, tuple[int, bool]]
    large_objects: int = 0
    encodings: list[str] = field(default_factory=list)
    views: dict[str, int] = field(default_factory=dict)

    def count(
        self,
        database: str,
        tables: Mapping[str, int],
        encoding: str = "",
        *,
        with_partitions: frozenset[str],
        then: str = "",
    ) -> tuple[dict[str, tuple[int, bool]], int, str]:
        self.encodings.append(encoding)
        assert list(tables) == list(self.rows)
        return self.rows, self.large_objects, json.dumps(self.views).encode().hex() if then else ""


def proof(rows: dict[str, int], encoding: str = "UTF8") -> DumpProof:
    facts = DumpFacts(1, rows, "17.6", "17.6", (), 2, len(rows), ())
    return DumpProof(facts, Expected(1, "", 1), encoding)


FEWER = DumpFacts(1, {"a": 5}, "17.6", "17.6", (), 0, 1, ())


def check(
    wanted: dict[str, int],
    found: dict[str, tuple[int, bool]],
    large_objects: int = 2,
    brought: Sequence[int] | None = None,
    **more: Any,
) -> list[str]:
    taken = list(wanted.values()) if brought is None else brought
    return compare(cast(Databases, Counted(found, large_objects)), "fresh", proof(wanted, **more), taken, {})


def test_equal_counts_pass() -> None:
    """Each table's rows and the large objects; an extension's table may hold rows of the extension's own beside."""
    assert check({"a": 1, "b": 0}, {"a": (1, False), "b": (0, False)}) == []
    assert check({"a": 1}, {"a": (9, True)}) == []
    assert check({}, {}) == []


@pytest.mark.parametrize(
    ("found", "large_objects", "cause"),
    [
        ({"a": (4, False)}, 2, "a has 4 rows after the restore, the dump held 5"),
        ({"a": (4, True)}, 2, "a has 4 rows after the restore, the dump held 5"),
        ({"a": (5, False)}, 1, "there are 1 large objects after the restore, the dump held 2"),
    ],
)
def test_what_is_missing_is_refused(found: dict[str, tuple[int, bool]], large_objects: int, cause: str) -> None:
    """One row too few is named, with its table."""
    with pytest.raises(NotProvenError, match=cause):
        check({"a": 5}, found, large_objects)


@pytest.mark.parametrize("brought", [[4, 3], [6, 1], [5], [5, 2, 1]])
def test_what_copy_did_not_bring_is_refused(brought: list[int]) -> None:
    """The server says after each COPY how many rows it took: others that are there don't make up for it."""
    with pytest.raises(NotProvenError, match=r"the server took \d rows"):
        check({"a": 5, "b": 2}, {"a": (5, False), "b": (2, False)}, brought=brought)


def test_what_the_database_itself_added_is_a_remark() -> None:
    """An event trigger writes down each statement of the load: no reason to refuse a restore that is whole."""
    remarks = check({"log": 5, "b": 2}, {"log": (9, False), "b": (2, False)}, large_objects=3)
    assert remarks[0].startswith("log has 9 rows, 4 more than the dump held: the database's own code")
    assert remarks[1].startswith("there are 1 more large objects")


def test_a_name_in_another_encoding_is_named_readably() -> None:
    """And it is asked for in its own bytes."""
    table = b"public.\xe9t\xe9".decode("utf-8", "surrogateescape")
    with pytest.raises(NotProvenError, match=r"public\.été has 1 rows"):
        check({table: 5}, {table: (1, False)}, encoding="LATIN1")


def test_a_materialized_view_with_other_rows_is_a_remark() -> None:
    """It was out of date at the backup; what was not counted then is not compared."""
    counted = cast(Databases, Counted({"a": (5, False)}, views={"public.v": 4, "public.w": 2, "public.new": 1}))
    views = {"public.v": 3, "public.w": 2, "public.large": None}
    (remark,) = compare(counted, "fresh", replace(proof({"a": 5}), facts=FEWER), [5], views)
    assert remark.startswith("the materialized view public.v has 4 rows, at the backup it had 3")


def test_an_undo_takes_the_newest_of_its_own() -> None:
    """By the time in the name; never another database's, never one that is half-filled."""
    names = [
        "hub_before_20260208_030000",
        "hub_before_20260207_030000",
        "hub_before_20250101_000000",
        "hub_restore_20260209_030000",
        "hub2_before_20260209_030000",
        "hub",
    ]
    databases = {name: ServerDatabase(name, 1, 0) for name in names}
    server = Server("17.6", 170006, "", databases, frozenset(), frozenset(), True)
    assert list(kept_aside(server, "hub")) == [names[2], names[1], names[0]]
    assert [found.name for found in server.of_kind("restore")] == ["hub_restore_20260209_030000"]
    assert len(server.of_kind("before")) == 4
