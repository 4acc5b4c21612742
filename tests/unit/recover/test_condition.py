"""What is one condition, and can stand between parentheses."""

from __future__ import annotations

import pytest

from hubbackup.errors import UsageError
from hubbackup.recover.condition import check


@pytest.mark.parametrize(
    "condition",
    [
        "id = 1",
        "nom = ')' AND x = $$;($$ OR \"a;(\" IS NULL",
        "nom = E'it\\'s ;' OR nom = 'a\\'",
        "f(g(1), (2))",
        "a$b$c = 1 AND $x$ $y$ ;)$x$ = ''",
        "'--' = '/*'",
        "x::int = 5 AND y = ANY('{1,2}')",
        "nom = 'l''eau'",
        "é = 1",
    ],
)
def test_one_condition(condition: str) -> None:
    """Whatever stands in strings, quoted names and dollar quotes is theirs."""
    assert check(condition) == condition


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ("1) OR (1", "a parenthesis that it has not opened"),
        ("id = 1;", "a semicolon"),
        ("nom = 'it\\'s'", "a string in it has no end"),
        ("nom = $x$ never", "a string in it has no end"),
        ("a - -1 --", "a comment"),
        ("a /* b", "a comment"),
        ("((a)", "is not closed"),
        ("a = \0", "a NUL"),
        (" \n", "it is empty"),
    ],
)
def test_what_could_leave_the_parentheses(condition: str, why: str) -> None:
    """Is refused, with the reason."""
    with pytest.raises(UsageError, match=why):
        check(condition)
