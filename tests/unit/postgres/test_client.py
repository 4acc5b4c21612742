"""What a database is like: versions."""

from __future__ import annotations

import pytest

from hubbackup.errors import NotProvenError
from hubbackup.postgres.client import check_versions, major_of


@pytest.mark.parametrize(
    ("version", "major"), [("17.6 (Debian 17.6-1)", 17), ("18beta1", 18), ("17devel", 17), ("9.6.24", 9), ("", 0)]
)
def test_majors(version: str, major: int) -> None:
    """The major version is the number that the version starts with."""
    assert major_of(version) == major


def test_an_older_pg_dump_is_refused() -> None:
    """A pg_dump below the server's major could miss what it does not know; a newer one is fine."""
    check_versions(pg_dump_version="18.0", server_version="16.9")
    check_versions(pg_dump_version="17.1", server_version="17.6")
    with pytest.raises(NotProvenError, match=r"pg_dump 16\.9 is older than the server 17\.6"):
        check_versions(pg_dump_version="16.9", server_version="17.6")
