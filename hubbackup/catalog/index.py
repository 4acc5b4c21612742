"""The index of a backup: where each table's rows stand in the dump, and where the file can be entered to read them.

In the manifest it is one string, base64 of gzip of JSON, so that whoever lists backups need not read it:
`jq -r .index MANIFEST | base64 -d | gunzip`. docs/manifest.md has its fields.
"""

from __future__ import annotations

import base64
import binascii
import bisect
import gzip
import json
import zlib
from dataclasses import dataclass, replace
from typing import Any

from hubbackup.dump.copy_blocks import CopyBlock
from hubbackup.errors import NotProvenError
from hubbackup.streams.codecs import GZIP_WBITS, Member

MAX_BYTES = 256 << 20
"""Of the JSON: a million tables have theirs. Whoever wrote the manifest, no more is unpacked."""
PLAIN_DIGEST = "xxh3-128"
COMPRESSION_LEVEL = 6


@dataclass(frozen=True)
class DumpIndex:
    """Where everything stands in a backup's dump. Offsets are bytes.

    `members`: where the compressed file can be entered; the first is its start. Of a sealed file, these are offsets
    within the seal. `tables` are in the dump's own order, named as in `Manifest.rows`; a table can have several
    blocks. Before `data_start` the dump has only pre-data, from `data_end` on only post-data. `digest_kind` says what
    the digests are: only those of one kind can be compared.
    """

    members: tuple[Member, ...]
    tables: tuple[CopyBlock, ...]
    data_start: int
    data_end: int
    digest_kind: str = PLAIN_DIGEST

    def blocks_of(self, table: str) -> tuple[CopyBlock, ...]:
        """The blocks of one table, named as in `Manifest.rows`; none for one that has no rows of its own."""
        return tuple(block for block in self.tables if block.table == table)

    def entry(self, plain_offset: int) -> Member:
        """The last member that begins at `plain_offset` or before."""
        after = bisect.bisect_right(self.members, plain_offset, key=lambda member: member.plain_offset)
        return self.members[max(0, after - 1)]

    def leaving(self, plain_offset: int) -> Member | None:
        """The first member that begins at `plain_offset` or behind it; None where the file's end comes first."""
        at = bisect.bisect_left(self.members, plain_offset, key=lambda member: member.plain_offset)
        return self.members[at] if at < len(self.members) else None

    def without_digests(self) -> DumpIndex:
        """Only where everything stands."""
        return replace(self, tables=tuple(replace(one, digest="") for one in self.tables), digest_kind="")

    def to_text(self) -> str:
        """As the manifest holds it."""
        document = {
            "data": [self.data_start, self.data_end],
            "digest": self.digest_kind,
            "members": [list(member) for member in self.members],
            "tables": [
                [one.table, one.offset, one.head_bytes, one.row_bytes, one.rows, one.digest] for one in self.tables
            ],
        }
        packed = gzip.compress(json.dumps(document, separators=(",", ":")).encode(), COMPRESSION_LEVEL, mtime=0)
        return base64.b64encode(packed).decode("ascii")

    @classmethod
    def from_text(cls, text: str, name: str) -> DumpIndex:
        """Raises NotProvenError where `text` is not an index of the backup `name`."""
        try:
            return _parsed(_unpacked(text))
        except (ValueError, TypeError, KeyError, binascii.Error, zlib.error, RecursionError) as error:
            raise NotProvenError(f"the index in the manifest of {name} is not valid: {error!s:.120}") from error


def _unpacked(text: str) -> Any:
    unpacker = zlib.decompressobj(GZIP_WBITS)
    data = unpacker.decompress(base64.b64decode(text, validate=True), MAX_BYTES)
    if not unpacker.eof:
        raise ValueError("it is cut, or too large")
    return json.loads(data)


def _parsed(document: Any) -> DumpIndex:
    members = tuple(Member(_count(stored), _count(plain)) for stored, plain in document["members"])
    tables = tuple(_block(*fields) for fields in document["tables"])
    start, end = document["data"]
    index = DumpIndex(members, tables, _count(start), _count(end), _text(document["digest"]))
    if not members or members[0] != Member(0, 0) or list(members) != sorted(members):
        raise ValueError("its members are not in order")
    ends = [0, *(end for one in tables for end in (one.offset, one.rows_end))]
    if ends != sorted(ends):
        raise ValueError("its tables are not in order")
    return index


def _block(table: Any, offset: Any, head_bytes: Any, row_bytes: Any, rows: Any, digest: Any) -> CopyBlock:
    return CopyBlock(_text(table), _count(offset), _count(head_bytes), _count(row_bytes), _count(rows), _text(digest))


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r:.60} is not a count")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.60} is not a text")
    return value
