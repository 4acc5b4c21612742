"""What each session of a parallel load is told about memory."""

from __future__ import annotations

import pytest

from hubbackup.load.parallel import ParallelLoader, settings
from hubbackup.load.plan import Plan

MEGABYTE = 1 << 20
BTREES = [
    b"CREATE INDEX i ON public.t USING btree (a, b);\n",
    b"ALTER TABLE ONLY public.t ADD CONSTRAINT t_pkey PRIMARY KEY USING INDEX t_pkey;\n",
    b"ALTER TABLE ONLY public.t ADD CONSTRAINT t_key UNIQUE (a) DEFERRABLE;\n",
]
OTHERS = [
    b"CREATE INDEX i ON public.t USING gin (a);\n",
    b"CREATE INDEX i ON public.t USING hnsw (a public.vector_l2_ops);\n",
    b"ALTER TABLE ONLY public.t ADD CONSTRAINT x EXCLUDE USING gist (a WITH &&);\n",
]


@pytest.mark.parametrize("statement", BTREES)
def test_a_btree_is_sorted_in_little_memory(statement: bytes) -> None:
    """And what comes after it has again as much as there is."""
    told = ParallelLoader(Plan(), 2, 256 * MEGABYTE).build(statement)
    assert told == settings(64 * MEGABYTE) + statement + settings(256 * MEGABYTE)


@pytest.mark.parametrize("statement", OTHERS)
def test_other_indexes_have_all_of_it(statement: bytes) -> None:
    """gin, gist and hnsw build in memory."""
    assert ParallelLoader(Plan(), 2, 256 * MEGABYTE).build(statement) == statement


def test_no_session_has_more_than_its_share() -> None:
    """On a small server a btree has less than its 64 MB, too; and nobody starts workers beside the sessions."""
    loader = ParallelLoader(Plan(), 2, 16 * MEGABYTE)
    assert loader.build(BTREES[0]).startswith(b"SET maintenance_work_mem = '16384kB';\n")
    assert loader.build(BTREES[0], is_alone=True).startswith(b"SET maintenance_work_mem = '32768kB';\n")
    assert settings(MEGABYTE) == b"SET maintenance_work_mem = '1024kB';\nSET max_parallel_maintenance_workers = 0;\n"


def test_an_index_that_is_built_alone_has_all_processors() -> None:
    """Workers of the server's take the places of the sessions that have nothing to do, and go with it."""
    told = ParallelLoader(Plan(), 4, 256 * MEGABYTE).build(BTREES[0], is_alone=True)
    assert told == settings(128 * MEGABYTE, 3) + BTREES[0] + settings(256 * MEGABYTE)
