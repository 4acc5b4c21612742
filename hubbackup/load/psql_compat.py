"""What psql is told before a dump, and the lines that are taken out of it on the way: nothing else is changed.

A psql of August 2025 and later knows `\\restrict KEY`: until the same key comes, it refuses every command of its own
(CVE-2025-8714). Ours opens each load, with a key that nobody knows, and is never taken back: psql itself refuses
what the lexer might have missed. pg_dump's own bracket is taken out, since there can be only one. A psql that does
not know the command gets only what is ours beyond doubt.

pg_dump 17 and later sets `transaction_timeout`, which servers up to 16 don't have.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hubbackup.dump.dump_statements import MANY
from hubbackup.dump.identifiers import literal
from hubbackup.errors import NotProvenError

EDGE_BYTES = 8192
HEADER = re.compile(
    rb"--\n-- PostgreSQL database dump\n--\n\n"
    rb"(?P<restrict>\\restrict [0-9A-Za-z]+\n\n)?"
    rb"(?:-- [^\n]*\n" + MANY + rb"\n"
    rb"(?:SET (?!transaction_timeout|client_encoding)[^\n]*\n"
    + MANY
    + rb"(?P<timeout>SET transaction_timeout = 0;\n)?"
    rb"(?:SET client_encoding = '(?P<encoding>[0-9A-Za-z_]+)';\n)?"
    rb"(?:SET [^\n]*\n" + MANY + rb"(?:SELECT pg_catalog\.set_config\('search_path', (?P<path>''), false\);\n)?"
)
"""pg_dump's own first lines. Whatever looks like them further down is data, and stays."""
TRAILER = re.compile(
    rb"\n--\n-- PostgreSQL database dump complete\n--\n\n(?P<unrestrict>\\unrestrict [0-9A-Za-z]+\n\n)\s*\Z"
)
RESTRICT_SINCE = {13: 22, 14: 19, 15: 14, 16: 10, 17: 6}
"""The first minor of each major whose psql knows the commands."""


def parse_version(said: str) -> tuple[int, int]:
    """(17, 6) of psql's own `17.6 (Debian 17.6-1)`; a development version is the newest of all."""
    found = re.match(r"(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (99, 0)


def client_encoding(head: bytes) -> str:
    """The encoding that a dump's first 8 KiB say it is written in, by PostgreSQL's name; empty where they don't."""
    found = HEADER.match(head)
    return (found["encoding"] or b"").decode("ascii") if found else ""


@dataclass(frozen=True)
class Dialect:
    """Who is going to read the dump."""

    psql: tuple[int, int]
    server_major: int
    load_path: str = ""
    """The search_path that takes the place of pg_dump's empty one."""

    @property
    def knows_restrict(self) -> bool:
        """Whether that psql knows `\\restrict`."""
        major, minor = self.psql
        return major > max(RESTRICT_SINCE) or minor >= RESTRICT_SINCE.get(major, 1 << 30)

    def check_origin(self, name: str, *, of_proven_origin: bool) -> None:
        """Raises NotProvenError for a file of unknown origin where psql itself can't be told to run SQL alone."""
        if of_proven_origin or self.knows_restrict:
            return
        major, minor = self.psql
        since = RESTRICT_SINCE.get(major)
        raise NotProvenError(
            f"{name} is of unproven origin, and this psql {major}.{minor} could run commands that it might hold",
            remedy=f"update PostgreSQL to {major}.{since} or newer, whose psql can be told not to"
            if since
            else "use PostgreSQL 15 or newer, whose psql can be told not to",
        )

    def opening(self) -> bytes:
        """What comes before the dump's first byte."""
        return b"\\restrict %s\n" % secrets.token_hex(32).encode() if self.knows_restrict else b""

    def adapt(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The dump as that psql and server can read it; only pg_dump's own first and last lines are looked at.

        Caller's duty: the dump is proven, so that its end is pg_dump's trailer.
        """
        head: bytes | None = b""
        held = b""
        for chunk in chunks:
            if head is not None:
                head += chunk
                if len(head) < EDGE_BYTES:
                    continue
                chunk, head = self._head(head), None
            held += chunk
            if len(held) > EDGE_BYTES:
                yield held[:-EDGE_BYTES]
                held = held[-EDGE_BYTES:]
        if head is not None:
            held = self._head(head)
        yield _without(held, TRAILER.search(held), ["unrestrict"])

    def _head(self, head: bytes) -> bytes:
        found = HEADER.match(head)
        if self.load_path and found is not None and found["path"]:
            start, end = found.span("path")
            head = head[:start] + literal(self.load_path).encode() + head[end:]
        return _without(head, found, ["restrict"] if self.server_major >= 17 else ["restrict", "timeout"])


def _without(data: bytes, found: re.Match[bytes] | None, groups: Iterable[str]) -> bytes:
    """`data` without the spans of these groups."""
    spans = sorted((found.span(group) for group in groups if found[group] is not None), reverse=True) if found else []
    for start, end in spans:
        data = data[:start] + data[end:]
    return data
