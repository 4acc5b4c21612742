"""How many sessions load, and with how much memory: never more than the server bears."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hubbackup.load.sessions import AUTO, are_worth_it, sessions_for
from hubbackup.postgres.server import Server
from hubbackup.runners.resources import Resources, parse

SERVER = Server("17.6", 170006, "/data", {}, frozenset(), {}, may_create=True, free_connections=97)
GIB = 1 << 30


@pytest.mark.parametrize(
    ("asked", "processors", "free", "count"),
    [
        (0, 2, 97, 2),
        (0, 1, 97, 1),
        (0, 64, 97, 4),
        (0, 0, 97, 2),  # nothing known of a server elsewhere
        (8, 2, 97, 8),  # who asks for it gets it
        (8, 2, 7, 3),
        (0, 4, 5, 1),
        (0, 4, 0, 1),
        (0, 4, -3, 1),
    ],
)
def test_as_many_as_the_server_bears(asked: int, processors: int, free: int, count: int) -> None:
    """One for each processor, four at most, or as many as were asked for; and connections stay free."""
    found = sessions_for(asked, Resources(processors, 8 * GIB), replace(SERVER, free_connections=free))
    assert found.count == count
    assert bool(found.why) == (count < (asked or min(4, processors or 2)))


@pytest.mark.parametrize(
    ("asked", "row_bytes", "worth_it"),
    [(AUTO, 32 << 20, True), (AUTO, (32 << 20) - 1, False), (AUTO, 0, False), (2, 0, True), (1, 1 << 40, False)],
)
def test_a_small_dump_takes_one_session(asked: int, row_bytes: int, worth_it: bool) -> None:
    """Unless somebody asks for several."""
    assert are_worth_it(asked, row_bytes) == worth_it


@pytest.mark.parametrize(
    ("memory", "asked", "megabytes"),
    [(8 * GIB, 2, 512), (8 * GIB, 4, 256), (2 * GIB, 4, 64), (256 << 20, 4, 16), (0, 2, 64)],
)
def test_all_sessions_together_take_an_eighth_of_the_memory(memory: int, asked: int, megabytes: int) -> None:
    """maintenance_work_mem is each session's share, within bounds."""
    assert sessions_for(asked, Resources(4, memory), SERVER).memory_bytes == megabytes << 20


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("processors 8\nquota max 100000\nmemory max\nMemTotal: 16384 kB", Resources(8, 16 << 20)),
        ("processors 8\nquota 250000 100000\nmemory 1048576\nMemTotal: 16384 kB", Resources(2, 1 << 20)),
        ("processors 8\nquota 50000 100000\nmemory 1048576\nMemTotal: 16384 kB", Resources(1, 1 << 20)),
        ("processors 2\nquota -1 100000\nmemory 9223372036854771712\nMemTotal: 16384 kB", Resources(2, 16 << 20)),
        ("processors 2\nMemTotal: 16384 kB\nbuffered", Resources(2, 16 << 20, buffers_input=True)),
        ("processors\n\nsh: nproc: not found", Resources()),
        ("", Resources()),
    ],
)
def test_a_containers_limits_count(said: str, found: Resources) -> None:
    """Both versions of cgroups, and tools that are not there."""
    assert parse(said) == found
