"""Where a dump's rows stand, and where its file is cut."""

from __future__ import annotations

import itertools

import xxhash
from hypothesis import given
from hypothesis import strategies as st

from hubbackup.dump.census import Census, DumpFacts
from hubbackup.dump.copy_blocks import Cuts

HEAD = (
    b"--\n-- PostgreSQL database dump\n--\n\n"
    b"-- Dumped from database version 17.6\n-- Dumped by pg_dump version 17.6\n\n"
    b"SET client_encoding = 'UTF8';\n\n-- COPY public.not (a) FROM stdin;\n"
    b"CREATE TABLE public.a (\n    a text\n);\n\n"
)
TAIL = (
    b"\n\nSELECT pg_catalog.setval('public.s', 7, true);\n\n\nALTER TABLE ONLY public.a\n"
    b"    ADD CONSTRAINT a_pkey PRIMARY KEY (a);\n\n--\n-- PostgreSQL database dump complete\n--\n\n"
)
ROWS = st.lists(st.sampled_from([b"", b"1\tx", b"\\\\.", b"COPY public.b (a) FROM stdin;", b"x" * 300]), max_size=30)
TABLES = st.lists(st.tuples(st.sampled_from([b"public.a", b'public."b c"', b"s.\xe9"]), ROWS), max_size=5)


def dump_of(tables: list[tuple[bytes, list[bytes]]]) -> bytes:
    blocks = (
        b"--\n-- Data\n--\n\nCOPY %s (a) FROM stdin;\n%s\\.\n\n\n" % (name, b"".join(row + b"\n" for row in rows))
        for name, rows in tables
    )
    return HEAD + b"".join(blocks) + TAIL


def read(data: bytes, edges: list[int], cuts: Cuts | None = None) -> tuple[DumpFacts, list[int]]:
    """The facts of `data`, fed in portions that end at `edges`; and where it was to be cut, portion by portion."""
    census, due, fed = Census(cuts=cuts), [], 0
    for start, end in itertools.pairwise([0, *sorted({edge % len(data) for edge in edges} - {0}), len(data)]):
        census.feed(data[start:end])
        if cuts is not None:
            found = cuts.take(end)
            assert all(fed <= cut <= end for cut in found)
            due += found
        fed = end
    return census.finish(), due


@given(TABLES, st.lists(st.integers(min_value=0), max_size=40))
def test_each_block_is_found_where_it_stands(tables: list[tuple[bytes, list[bytes]]], edges: list[int]) -> None:
    """However the dump comes in portions: statement, rows, their number and their digest are those of these bytes;
    all before the first is pre-data, and all behind the last data is post-data."""
    data = dump_of(tables)
    facts, _ = read(data, edges)
    assert [block.table.encode("utf-8", "surrogateescape") for block in facts.blocks] == [name for name, _ in tables]
    for block, (name, rows) in zip(facts.blocks, tables, strict=True):
        text = b"".join(row + b"\n" for row in rows)
        assert data[block.offset : block.rows_offset] == b"COPY %s (a) FROM stdin;\n" % name
        assert data[block.rows_offset : block.rows_end] == text
        assert data[block.rows_end : block.end] == b"\\.\n"
        assert block.rows == len(rows)
        assert block.digest == xxhash.xxh3_128(text).hexdigest()
    assert data[: facts.data_start].startswith(HEAD)
    assert b"COPY" not in data[len(HEAD) : facts.data_start]
    assert data[facts.data_end :].lstrip().startswith(b"ALTER TABLE ONLY public.a\n")


def test_a_dump_without_rows_has_its_data_behind_everything() -> None:
    """Pre-data is all of it."""
    data = HEAD + b"\n--\n-- PostgreSQL database dump complete\n--\n\n"
    facts, _ = read(data, [])
    assert (facts.blocks, facts.data_start, facts.data_end) == ((), len(data), len(data))


@given(TABLES, st.lists(st.integers(min_value=0), max_size=40), st.integers(1, 400), st.integers(1, 4000))
def test_a_file_is_cut_at_statements_and_at_rows_ends(
    tables: list[tuple[bytes, list[bytes]]], edges: list[int], statement_bytes: int, rows_bytes: int
) -> None:
    """Only within the portion that is to be stored next, at a line's start, and never sooner than after so much."""
    data = dump_of(tables)
    facts, due = read(data, edges, Cuts(statement_bytes, rows_bytes))
    assert due == sorted(set(due))
    starts = {data.find(b"SET"), data.find(b"CREATE"), data.find(b"SELECT pg"), data.find(b"ALTER")}
    starts |= {block.offset for block in facts.blocks}
    for before, cut in itertools.pairwise([0, *due]):
        inside = any(block.rows_offset < cut <= block.rows_end for block in facts.blocks)
        assert inside or cut in starts
        assert data[cut - 1 : cut] == b"\n"
        assert cut - before >= min(statement_bytes, rows_bytes if inside else statement_bytes)


def test_a_table_of_many_rows_is_cut_within() -> None:
    """Read in one go, each statement that comes late enough gets its member; within rows so many bytes make one."""
    data = dump_of([(b"public.a", [b"x" * 99] * 100), (b"public.b", [b"y"]), (b"public.c", [b"z" * 999])])
    facts, due = read(data, list(range(0, len(data), 500)), Cuts(900, 3000))
    first, _, third = facts.blocks
    within = [cut for cut in due if first.rows_offset < cut <= first.rows_end]
    assert len(within) == 3
    assert all(cut - before < 3000 + 500 + 100 for before, cut in itertools.pairwise([0, *within]))
    assert not any(third.rows_offset < cut <= third.rows_end for cut in due)
