"""Which table somebody means, in any spelling that psql takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbackup.dump.identifiers import quoted
from hubbackup.dump.table_names import columns, find_table, parts, qualified
from hubbackup.errors import UsageError

TABLES = ["public.chantiers", "public.devis", "archive.devis", 'public."Odd One"', 'public."a.b"', 'public."q""q"']


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("chantiers", "public.chantiers"),
        ("CHANTIERS", "public.chantiers"),
        ("Public.Chantiers", "public.chantiers"),
        ('"public"."chantiers"', "public.chantiers"),
        (' public . "chantiers" ', "public.chantiers"),
        ("archive.devis", "archive.devis"),
        ('"Odd One"', 'public."Odd One"'),
        ("Odd One", 'public."Odd One"'),
        ("public.Odd One", 'public."Odd One"'),
        ('"a.b"', 'public."a.b"'),
        ("a.b", 'public."a.b"'),
        ('"q""q"', 'public."q""q"'),
        ('q"q', 'public."q""q"'),
    ],
)
def test_spellings(typed: str, meant: str) -> None:
    """Folded, quoted, with a schema or without, and as it stands there where a shell has eaten the quotes."""
    assert find_table(typed, TABLES, "the backup") == meant


@pytest.mark.parametrize(
    ("typed", "cause", "remedy"),
    [
        ("chantier", "there is no table chantier in the backup", "public.chantiers"),
        ("pubic.chantiers", "there is no table pubic.chantiers", "public.chantiers"),
        ('"CHANTIERS"', "there is no table", "public.chantiers"),
        ("devis", "the backup has several tables devis", "archive.devis, public.devis"),
        ("zzzzzz", "there is no table zzzzzz", "hubbackup show"),
        ("", "there is no table ", "hubbackup show"),
    ],
)
def test_what_is_not_one_table(typed: str, cause: str, remedy: str) -> None:
    """The nearest names are told, or all that are meant."""
    with pytest.raises(UsageError, match=cause) as refused:
        find_table(typed, TABLES, "the backup")
    assert remedy in refused.value.remedy


@given(st.tuples(st.text(min_size=1), st.text(min_size=1)).filter(lambda names: not any("\0" in n for n in names)))
def test_any_name(names: tuple[str, str]) -> None:
    """Whatever two names are, quoted they are those names again, and so they are as `qualified` writes them."""
    assert parts(f"{quoted(names[0])}.{quoted(names[1])}") == names
    assert parts(qualified(*names)) == names


def test_columns() -> None:
    """A list as psql takes it; anything else is refused."""
    assert columns('id, "Other, one" ,Third') == ["id", "Other, one", "third"]
    for typed in ("", "id,", "id other", "id)", ", id", 'id, "x'):
        with pytest.raises(UsageError, match="not a list of columns"):
            columns(typed)
