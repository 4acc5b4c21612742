"""A dump as a stored file with members cut where a test wants them, and its index."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO

from hubbackup.catalog.index import DumpIndex
from hubbackup.dump.census import Census
from hubbackup.streams.codecs import GZIP, Codec, MemberEncoder
from hubbackup.streams.format import Format
from hubbackup.verify.index import index_of
from hubbackup.verify.ranges import Parts

HEADER = (
    b"--\n-- PostgreSQL database dump\n--\n\n"
    b"-- Dumped from database version 17.6\n-- Dumped by pg_dump version 17.6\n\n"
)
TRAILER = b"--\n-- PostgreSQL database dump complete\n--\n\n"


def dump_of(tables: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A dump with these tables: each name as pg_dump writes it, and its rows in COPY's text format, of one column."""
    blocks = [b"COPY %s (a) FROM stdin;\n%s\\.\n\n\n" % table for table in tables]
    return HEADER + b"SET standard_conforming_strings = on;\n\n" + b"".join(blocks) + TRAILER


@dataclass
class PackedDump:
    """`dump`, compressed with a new member at each of `cuts`. `asked`: the parts of the file that were opened."""

    dump: bytes
    cuts: Iterable[int] = ()
    codec: Codec = GZIP
    asked: list[tuple[int, int | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        encoder = MemberEncoder(partial(self.codec.encoder, 1))
        stored, begin = [], 0
        for cut in sorted({cut for cut in self.cuts if 0 < cut < len(self.dump)}):
            stored += [encoder.encode(self.dump[begin:cut]), encoder.cut()]
            begin = cut
        stored += [encoder.encode(self.dump[begin:]), encoder.finish()]
        self.stored = b"".join(stored)
        census = Census()
        census.feed(self.dump)
        self.facts = census.finish()
        self.index: DumpIndex = index_of(self.facts, encoder.members)

    @contextmanager
    def open_at(self, start: int, end: int | None) -> Iterator[BinaryIO]:
        """Stored bytes, as a store gives them."""
        self.asked.append((start, end))
        yield io.BytesIO(self.stored[start:end])

    @property
    def parts(self) -> Parts:
        """To be read in parts."""
        return Parts("x.sql.gz", self.open_at, Format(self.codec), self.index)
