"""The regular expressions of the program, as the oldest Python that it runs on reads them."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from re import _constants as opcodes  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

import pytest

import hubbackup
from hubbackup.dump.dump_statements import MANY, MAYBE

NEVER = ("[(FAILURE, ())]", "[(ASSERT_NOT, (1, []))]")
"""`(?!)`, as newer and older Pythons parse it."""


def patterns() -> Iterator[tuple[str, re.Pattern[Any]]]:
    """Each one that a module has, also in its tables."""
    for module in pkgutil.walk_packages(hubbackup.__path__, "hubbackup."):
        if module.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            members = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else [value]
            for member in members:
                if isinstance(member, re.Pattern):
                    yield f"{module.name}.{name}", member


def unsafe(parsed: Any) -> Iterator[str]:
    """The possessive repeats in it whose last try may match in part, and does not end where it began."""
    for code, argument in parsed:
        if code is opcodes.POSSESSIVE_REPEAT and not _ends_safely(argument[2]):
            yield str(argument[2])
        yield from unsafe_within(argument)


def unsafe_within(argument: Any) -> Iterator[str]:
    if isinstance(argument, _parser.SubPattern):
        yield from unsafe(argument)
    elif isinstance(argument, tuple | list):
        for part in argument:
            yield from unsafe_within(part)


def _ends_safely(item: Any) -> bool:
    low, high = item.getwidth()
    if low == high == 1 and len(item) == 1 and item[0][0] in (opcodes.LITERAL, opcodes.NOT_LITERAL, opcodes.IN):
        return True
    code, argument = item[0]
    return len(item) == 1 and code is opcodes.BRANCH and str(argument[1][-1]) in NEVER


@pytest.mark.parametrize(("name", "pattern"), [pytest.param(*found, id=found[0]) for found in patterns()])
def test_no_repeat_goes_on_behind_what_it_gave_up(name: str, pattern: re.Pattern[Any]) -> None:
    """Before 3.11.5 Python did (gh-106052): on Debian 12 a dump with a function was refused as no dump."""
    assert list(unsafe(_parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE))) == []


def test_the_guard_sees_what_is_unsafe() -> None:
    """What the tools of this test find in repeats of either kind."""
    for text, count in ((r"(?:, a)*+", 1), (r"(?:x(?:b|cd)?+)*", 1), (r"[a-z]*+\d++", 0), ("(?:, a|(?!))*+", 0)):
        assert len(list(unsafe(_parser.parse(text)))) == count, text


def test_a_group_is_not_given_back() -> None:
    """Nor what its last try has matched of it."""
    assert re.match(rb"(?:ab" + MANY + rb"a", b"ababa")
    assert not re.match(rb"(?:ab" + MANY + rb"ab", b"abab")
    assert re.match(rb"x(?:ab" + MAYBE + rb"a", b"xaba")
    assert not re.match(rb"x(?:ab" + MAYBE + rb"a\Z", b"xab")
