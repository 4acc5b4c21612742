"""BACKUP_DATABASES and BACKUP_EXCLUDE_DATABASES, as an operator writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbackup.config.database_names import NAME_BYTES, DatabaseNames, parse_names, parse_patterns, written


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("hub", ["hub"]),
        (" a , b ", ["a", "b"]),
        ("Hub,hub,Hub", ["Hub", "hub"]),
        ('"a,b","c ""d"""', ["a,b", 'c "d"']),
        ('" a ",été,-x', [" a ", "été", "-x"]),
        ('"*"', ["*"]),
        ("O'Brien", ["O'Brien"]),
        ("é" * 31, ["é" * 31]),
    ],
)
def test_names_are_taken_as_they_are(text: str, names: list[str]) -> None:
    """Commas part them, double quotes hold what would mean something else, and nothing is folded."""
    assert parse_names(text) == DatabaseNames(tuple(names))


NAMES = st.text(min_size=1).filter(lambda name: len(name.encode(errors="surrogateescape")) <= NAME_BYTES)


@given(st.lists(NAMES, min_size=1, unique=True))
def test_names_that_are_written_are_read_again(names: list[str]) -> None:
    """Whatever is in them: a hook splits HUBBACKUP_DATABASE as the setting is split."""
    assert parse_names(written(names)) == DatabaseNames(tuple(names))


def test_a_star_is_every_one() -> None:
    """Alone, and without quotes."""
    assert parse_names(" * ") == DatabaseNames(every=True)


@pytest.mark.parametrize("text", ["a,*", "a?", "a_*", "a,,b", "a,", ",a", '"a', '"a"b', 'a"b', '""', "é" * 32, " "])
def test_what_makes_no_list_is_refused(text: str) -> None:
    """Never guessed at: a database that is not backed up would be found out too late."""
    with pytest.raises(ValueError, match=r"^has "):
        parse_names(text)


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("test_*", "test_", True),
        ("test_*", "test_a\nb", True),
        ("test_*", "a_test_b", False),
        ("a?", "ab", True),
        ("a?", "a", False),
        ("a.b", "axb", False),
        ("[a]", "a", False),
        ('"a*"', "ab", False),
        ('"a*"', "a*", True),
        ("Test", "test", False),
    ],
)
def test_patterns(pattern: str, name: str, matches: bool) -> None:
    """`*` and `?`, over the whole name; everything else, and whatever is quoted, is itself."""
    (found,) = parse_patterns(pattern)
    assert found.matches(name) is matches
