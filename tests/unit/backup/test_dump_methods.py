"""How pg_dump is asked for its bytes, and which of its refusals is one of the method."""

from __future__ import annotations

import pytest

from hubbackup.backup.dump_methods import DumpMethod, dump_methods, dump_options, refuses_method
from hubbackup.errors import ToolError


@pytest.mark.parametrize("method", dump_methods())
def test_a_dump_is_plain_and_never_waits_forever(method: DumpMethod) -> None:
    """Format, compression and the limit for locks, and nothing that names a database or a role."""
    options = dump_options(method, lock_wait_seconds=1.5)
    assert set(options) == {"--format=plain", "--lock-wait-timeout=1500", f"--compress={method.compress}"}


def test_a_way_of_dumping_is_there_for_every_pg_dump() -> None:
    """Without a data connection, zstd or zlib: the last way asks for nothing, and no way comes twice."""
    ways = dump_methods()
    assert ways[-1] == DumpMethod("0")
    assert len(set(ways)) == len(ways)


@pytest.mark.parametrize(
    ("stderr", "refused"),
    [
        ('pg_dump: error: unrecognized compression algorithm: "zstd"', True),
        ("pg_dump: error: this build does not support compression with zstd", True),
        ('pg_dump: error: invalid value "zstd:1" for option -Z/--compress', True),
        ("pg_dump: error: compression level must be in range 0..9", True),
        ("pg_dump: error: query failed: ERROR:  permission denied for table compression_log", False),
        ('pg_dump: error: FATAL:  password authentication failed for user "hub"', False),
    ],
)
def test_only_a_refused_way_is_tried_again(stderr: str, refused: bool) -> None:
    """The next way of compressing is tried where pg_dump does not know this one, not where it failed."""
    assert refuses_method(ToolError("pg_dump ended", stderr=stderr)) is refused
