"""Long answers of the command line: one JSON document whatever happens, little held at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbackup.cli.columns import PAGE_ROWS
from hubbackup.cli.output import print_json_items, print_json_with_items
from hubbackup.cli.printer import PRINTER
from hubbackup.errors import StoreError

items = st.lists(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=3), max_size=4)


@given(items)
def test_a_list_is_one_document(found: list[dict[str, Any]]) -> None:
    """Whatever stands in it, also none."""
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr(PRINTER, "write", lambda _stream, text, **_: printed.append(text))
        print_json_items(iter(found))
        assert json.loads("".join(printed)) == found
        printed.clear()
        print_json_with_items({"dry_run": True, "policies": {"local": "7 days"}}, "decisions", iter(found))
        expected = {"dry_run": True, "policies": {"local": "7 days"}, "decisions": found}
        assert json.loads("".join(printed)) == expected


def test_a_list_that_fails_half_way_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """S3 may go away in the middle: stdout is then the error's, and never the half of a document."""

    def failing() -> Iterator[int]:
        yield from range(3 * PAGE_ROWS)
        raise StoreError("gone")

    with pytest.raises(StoreError):
        print_json_items(failing())
    assert capsys.readouterr().out == ""
