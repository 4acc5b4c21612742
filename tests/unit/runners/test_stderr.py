"""Which line of a tool's stderr tells what went wrong."""

from __future__ import annotations

import pytest

from hubbackup.runners.stderr import REASON_BYTES, Tail, complaints, failed_statement, reason, sqlstate


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


def test_the_servers_message_detail_and_hint_are_one_sentence() -> None:
    """Not the statement, the place in the server's source, or the SQLSTATE."""
    psql = (
        'ERROR:  23505: could not create unique index "t_pkey"\nDETAIL:  Key (a)=(1) is duplicated.\n'
        "HINT:  Mend it.\nCONTEXT:  parallel worker\nLOCATION:  comparetup, tuplesort.c:1"
    )
    assert reason(psql) == (
        'ERROR:  could not create unique index "t_pkey" DETAIL: Key (a)=(1) is duplicated. HINT: Mend it.'
    )
    assert sqlstate(psql) == "23505"
    pg_dump = (
        'pg_dump: error: Dumping the contents of table "t" failed: PQgetResult() failed.\n'
        "pg_dump: detail: Error message from server: ERROR:  invalid page in block 0 of relation base/5/16384\n"
        "pg_dump: detail: Command was: COPY public.t (a) TO stdout;"
    )
    assert reason(pg_dump) == (
        'pg_dump: error: Dumping the contents of table "t" failed: PQgetResult() failed.'
        " ERROR:  invalid page in block 0 of relation base/5/16384"
    )
    assert sqlstate(pg_dump) == ""


@pytest.mark.parametrize("severity", ["WARNING", "ATTENTION"])
def test_a_warning_is_not_the_reason(severity: str) -> None:
    """A warning with an SQLSTATE, in any language, may stand before the error that psql ended at."""
    psql = (
        f"{severity}:  42809: cast will be ignored because the source data type is a domain\n"
        "LOCATION:  CreateCast, functioncmds.c:1581\n"
        'ERROR:  42P01: relation "test.v" does not exist\nLINE 5:    FROM test.v;\nLOCATION:  parserOpenTable'
    )
    assert reason(psql) == 'ERROR:  relation "test.v" does not exist'
    assert sqlstate(psql) == "42P01"


def test_a_complaint_before_a_long_statement_is_kept_and_short() -> None:
    """pg_dump names all tables that it wanted to lock: of a thousand, the one that matters stands before them."""
    tail = Tail()
    tables = ", ".join(f"public.table_number_{number}" for number in range(1200))
    tail.add(
        f"pg_dump: error: query failed: ERROR:  permission denied for table x\npg_dump: detail: {tables}".encode()
    )
    assert reason(tail.text()) == "pg_dump: error: query failed: ERROR:  permission denied for table x"
    assert len(reason("ERROR:  " + "é" * 9000).encode()) <= REASON_BYTES


STATEMENT = """\
psql:<stdin>:7: ERROR:  42704: type "nope" does not exist
LINE 1: SELECT 'ERROR:  57014: x', nope;
LOCATION:  compute_return_type, functioncmds.c:130
STATEMENT:  CREATE FUNCTION f() RETURNS nope LANGUAGE plpgsql AS $_$
BEGIN
ERROR:  57014: canceling statement due to user request
HINT:  Not this one.
END $_$;
"""


def test_what_a_statement_says_is_not_what_the_server_says() -> None:
    """psql prints the statement behind the complaint, and there may be anything in it: what an unrestorable schema
    has in the body of a function does not make it a failure that passes."""
    assert sqlstate(STATEMENT) == "42704"
    assert reason(STATEMENT) == 'psql:<stdin>:7: ERROR:  type "nope" does not exist'
    assert complaints(STATEMENT).endswith("functioncmds.c:130\n")
    assert failed_statement(STATEMENT) == "CREATE FUNCTION f() RETURNS nope LANGUAGE plpgsql AS"
