"""Lines that newer pg_dumps write and older psqls or servers don't know: taken out on the way, and nothing else.

pg_dump of August 2025 and later brackets the dump with `\\restrict KEY` and `\\unrestrict KEY` (CVE-2025-8714),
which an older psql stops at; the dump has been read whole before and holds no other psql command, so the bracket
is not needed. pg_dump 17 and later sets `transaction_timeout`, which servers up to 16 don't have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hubbackup.runners import Runner, run

EDGE_BYTES = 8192
RESTRICT = re.compile(rb"^\\restrict [0-9A-Za-z]+\n", re.MULTILINE)
UNRESTRICT = re.compile(rb"^\\unrestrict [0-9A-Za-z]+\n", re.MULTILINE)
TIMEOUT = re.compile(rb"^SET transaction_timeout = 0;\n", re.MULTILINE)
RESTRICT_SINCE = {13: 22, 14: 19, 15: 14, 16: 10, 17: 6}
"""The first minor of each major whose psql knows the commands."""


def psql_version(runner: Runner) -> tuple[int, int]:
    """(major, minor) of the psql there. Raises RunnerError's kinds."""
    answer = run(runner, ["psql", "--version"], {"LC_ALL": "C"}).decode("utf-8", "replace")
    found = re.search(r"(\d+)\.(\d+)", answer)
    return (int(found[1]), int(found[2])) if found else (99, 0)  # a development version: the newest of all


@dataclass(frozen=True)
class Dialect:
    """Who is going to read the dump."""

    psql: tuple[int, int]
    server_major: int

    @property
    def knows_restrict(self) -> bool:
        """Whether that psql knows `\\restrict`."""
        major, minor = self.psql
        return major > max(RESTRICT_SINCE) or minor >= RESTRICT_SINCE.get(major, 1 << 30)

    def adapt(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The dump as that psql and server can read it. Only its first and last 8 KiB are looked at.

        Caller's duty: the dump is proven, so that those edges hold what pg_dump wrote there, and no data.
        """
        first_edits = [TIMEOUT] if self.server_major < 17 else []
        first_edits += [] if self.knows_restrict else [RESTRICT]
        if not first_edits:
            yield from chunks
            return
        head = b""
        held = b""
        started = False
        for chunk in chunks:
            if not started:
                head += chunk
                if len(head) < EDGE_BYTES:
                    continue
                chunk, started = _without(head[:EDGE_BYTES], first_edits) + head[EDGE_BYTES:], True
            held += chunk
            if len(held) > EDGE_BYTES:
                yield held[:-EDGE_BYTES]
                held = held[-EDGE_BYTES:]
        if not started:
            held = _without(head, first_edits)
        if not self.knows_restrict:
            cut = held.rfind(b"\n-- PostgreSQL database dump complete\n")
            held = held[:cut] + _without(held[cut:], [UNRESTRICT]) if cut >= 0 else held
        yield held


def _without(data: bytes, patterns: Iterable[re.Pattern[bytes]]) -> bytes:
    """Each pattern's first line taken out."""
    for pattern in patterns:
        data = pattern.sub(b"", data, count=1)
    return data
