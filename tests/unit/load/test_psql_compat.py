"""Our own key opens the load, pg_dump's own lines that are in the way are taken out, and nothing else is changed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubbackup.errors import NotProvenError
from hubbackup.load.psql_compat import EDGE_BYTES, Dialect, client_encoding, parse_version

HEAD = b"--\n-- PostgreSQL database dump\n--\n\n"
RESTRICT = b"\\restrict aZ09\n\n"
VERSIONS = b"-- Dumped from database version 18.1\n-- Dumped by pg_dump version 18.1\n\n"
SETS = b"SET statement_timeout = 0;\nSET lock_timeout = 0;\nSET idle_in_transaction_session_timeout = 0;\n"
TIMEOUT = b"SET transaction_timeout = 0;\n"
ENCODING = b"SET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\n"
END = b"\n--\n-- PostgreSQL database dump complete\n--\n\n"
UNRESTRICT = b"\\unrestrict aZ09\n\n"
ALIKE = [TIMEOUT, RESTRICT, UNRESTRICT, END, HEAD, b"x\n", b"\n", b"\\.\n", b"COPY t FROM stdin;\n"]
"""What a row, a comment or a function's body may hold."""

bodies = st.tuples(st.lists(st.sampled_from(ALIKE), max_size=12), st.sampled_from([0, 1, 100, 9000, 30000])).map(
    lambda drawn: (
        b"\nCREATE TABLE t ();\n" + b"".join(drawn[0]) + b"y" * drawn[1] + b"\n" + b"".join(drawn[0]) + b";\n"
    )
)


def chunked(data: bytes, sizes: list[int]) -> list[bytes]:
    chunks, position = [], 0
    for size in sizes * (len(data) // max(1, sum(sizes)) + 1):
        chunks.append(data[position : position + size])
        position += size
    return [*chunks, data[position:]]


@settings(max_examples=300, deadline=None)
@given(
    body=bodies,
    sizes=st.lists(st.integers(0, 2 * EDGE_BYTES), min_size=1, max_size=6),
    restrict=st.booleans(),
    timeout=st.booleans(),
    psql=st.sampled_from([(15, 13), (15, 14), (16, 9), (16, 10), (17, 5), (17, 6), (18, 0), (99, 0)]),
    server_major=st.sampled_from([15, 16, 17, 18]),
)
def test_only_those_lines_vanish(
    body: bytes, sizes: list[int], restrict: bool, timeout: bool, psql: tuple[int, int], server_major: int
) -> None:
    """Whatever the chunking and the data: pg_dump's own bracket, since ours is there, and the SET for old servers."""

    def dump(*, restrict: bool, timeout: bool) -> bytes:
        head = HEAD + (RESTRICT if restrict else b"") + VERSIONS + SETS + (TIMEOUT if timeout else b"") + ENCODING
        return head + body + END + (UNRESTRICT if restrict else b"")

    dialect = Dialect(psql, server_major)
    knows = psql >= (18, 0) or psql in ((15, 14), (16, 10), (17, 6))
    assert dialect.knows_restrict is knows
    adapted = b"".join(dialect.adapt(chunked(dump(restrict=restrict, timeout=timeout), sizes)))
    assert adapted == dump(restrict=False, timeout=timeout and server_major >= 17)


def test_our_own_key_opens_the_load() -> None:
    """A line with a key that nobody can guess, another one each time; nothing for a psql that would stop at it."""
    lines = {Dialect((16, 10), 16).opening() for _ in range(20)}
    assert len(lines) == 20
    assert all(re.fullmatch(rb"\\restrict [0-9a-f]{64}\n", line) for line in lines)
    assert Dialect((16, 9), 16).opening() == b""


@pytest.mark.parametrize(
    ("psql", "update"),
    [((15, 13), "15.14"), ((16, 9), "16.10"), ((17, 5), "17.6"), ((13, 0), "13.22"), ((12, 22), "PostgreSQL 15")],
)
def test_an_old_psql_gets_no_file_of_unproven_origin(psql: tuple[int, int], update: str) -> None:
    """One sentence with the version, and what to update to; a backup of proven origin passes."""
    with pytest.raises(NotProvenError, match=r"x\.sql\.gz is of unproven origin") as caught:
        Dialect(psql, psql[0]).check_origin("x.sql.gz", of_proven_origin=False)
    assert f"{psql[0]}.{psql[1]}" in str(caught.value)
    assert update in caught.value.remedy
    Dialect(psql, psql[0]).check_origin("x.sql.gz", of_proven_origin=True)
    Dialect((18, 0), 18).check_origin("x.sql.gz", of_proven_origin=False)


def test_a_dump_that_is_none_passes_unchanged() -> None:
    """What does not begin like a dump is not edited."""
    data = b"SET transaction_timeout = 0;\n" * 1000
    assert b"".join(Dialect((15, 0), 15).adapt([data])) == data


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("17.6 (Debian 17.6-1.pgdg13+1)", (17, 6)),
        ("15.18", (15, 18)),
        ("18beta1 (Debian 18~beta1-1.1)", (99, 0)),
        ("19devel", (99, 0)),
        ("", (99, 0)),
    ],
)
def test_versions(said: str, version: tuple[int, int]) -> None:
    """As releases, distributions and development versions write them."""
    assert parse_version(said) == version


@pytest.mark.parametrize("timeout", [b"", TIMEOUT])
def test_the_encoding(timeout: bytes) -> None:
    """Read from the header alone; empty where it is not said there."""
    head = HEAD + RESTRICT + VERSIONS + SETS + timeout
    assert client_encoding(head + b"SET client_encoding = 'LATIN1';\n") == "LATIN1"
    assert client_encoding(head + b"CREATE TABLE t ();\nSET client_encoding = 'LATIN1';\n") == ""
    assert client_encoding(b"") == ""
