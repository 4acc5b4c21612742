"""Which line of a tool's stderr tells what went wrong."""

from __future__ import annotations

import pytest

from hubbackup.runners.stderr import reason


@pytest.mark.parametrize(
    ("stderr", "line"),
    [
        ("pg_dump: error: query failed: ERROR:  no\npg_dump: detail: Query was: LOCK", "query failed: ERROR:  no"),
        ("NOTICE:  hello\npsql:<stdin>:7: ERROR:  first\npsql:<stdin>:9: ERROR:  second", "ERROR:  first"),
        ("psql:<stdin>:7: server closed the connection unexpectedly\n\tThis probably means", "server closed"),
        ("one\n  two  \n\n", "two"),
        ("", "no message"),
    ],
)
def test_the_first_complaint_is_the_reason(stderr: str, line: str) -> None:
    """What follows it is its consequence; without a complaint it is the last line."""
    assert line in reason(stderr)
    assert "\n" not in reason(stderr)
