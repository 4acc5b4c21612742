"""The rows of one table as a backup holds them: found by name, then read as often as asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import xxhash

from hubbackup.errors import NotProvenError, UsageError
from hubbackup.jobs.run import Run
from hubbackup.postgres.census import DumpFacts
from hubbackup.postgres.copy_blocks import CopyBlock
from hubbackup.postgres.dump_relations import Relations
from hubbackup.postgres.dump_statements import NAME
from hubbackup.postgres.identifiers import plain_name
from hubbackup.postgres.table_names import find_table, parts
from hubbackup.restore.proof import prove
from hubbackup.restore.source import Source
from hubbackup.verify.reader import checked_chunks

_COPY = re.compile(rb"COPY (?:" + NAME + rb"\.)?" + NAME + rb" (?:\((?P<columns>.*)\))? ?FROM stdin;\n", re.DOTALL)
_NAME = re.compile(NAME)
PlainRange = Callable[[int, int], Iterator[bytes]]
"""The bytes [start, end) of the plain dump, asked for in its order. Raises NotProvenError for a damaged file."""


@dataclass(frozen=True)
class StoredTable:
    """A table of a backup, its partitions with it. `name` is as pg_dump writes it, in readable letters."""

    name: str
    schema: str
    table: str
    encoding: str
    """The dump's, by PostgreSQL's name; the rows are written in it."""
    blocks: tuple[CopyBlock, ...]
    open: Callable[[], AbstractContextManager[PlainRange]]

    @property
    def rows(self) -> int:
        """As the census counted them."""
        return sum(block.rows for block in self.blocks)

    @property
    def row_bytes(self) -> int:
        """Of the plain dump."""
        return sum(block.row_bytes for block in self.blocks)

    def each(self) -> Iterator[tuple[tuple[str, ...], Iterator[bytes]]]:
        """The columns and the bytes of the rows of each block, which must be read before the next is asked for.

        Raises NotProvenError, also at the end of rows that are not those of before.
        """
        with self.open() as read:
            for block in self.blocks:
                yield self._columns(block, read), self._rows(block, read)

    def _columns(self, block: CopyBlock, read: PlainRange) -> tuple[str, ...]:
        head = b"".join(read(block.offset, block.offset + block.head_bytes))
        found = _COPY.fullmatch(head)
        if found is None:
            raise NotProvenError(f"the rows of {self.name} are not where they were")
        return tuple(plain_name(name, self.encoding) for name in _NAME.findall(found["columns"] or b""))

    def _rows(self, block: CopyBlock, read: PlainRange) -> Iterator[bytes]:
        start = block.offset + block.head_bytes
        digest = xxhash.xxh3_128()
        for chunk in read(start, start + block.row_bytes):
            digest.update(chunk)
            yield chunk
        if digest.hexdigest() != block.digest:
            raise NotProvenError(f"the rows of {self.name} are not those that were proven")


def find_rows(run: Run, source: Source, typed: str) -> StoredTable:
    """The table that `typed` means. The backup is read through and proven, unless its index says where to look.

    Raises UsageError where it has no such table, or one without rows of its own; NotProvenError.
    """
    relations = Relations()
    proof = prove(run, source, on_schema=relations.add)
    by_name = {_readable(name, proof.encoding): name for name in {**relations.kinds, **proof.facts.rows}}
    shown = find_table(typed, by_name, source.name)
    name = by_name[shown]
    blocks = _blocks_of(name, shown, proof.facts, relations, source.name)
    schema, table = parts(shown) or ("", shown)

    @contextmanager
    def opened() -> Iterator[PlainRange]:
        with source.open() as stream, run.progress("read", source.stored_bytes) as progress:
            decoder = source.decoder()
            yield Forwards(
                checked_chunks(
                    stream, proof.expected, decoder, name=source.name, cancel=run.cancel, progress=progress
                )
            )

    return StoredTable(shown, schema, table, proof.encoding, blocks, opened)


class Forwards:
    """Parts of what comes in chunks, each behind the one before; what no part needs is not read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._position = 0
        """Of the chunk's first byte."""

    def __call__(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes [start, end)."""
        while start < end:
            if start < self._position + len(self._chunk):
                piece = self._chunk[start - self._position : end - self._position]
                start += len(piece)
                yield piece
            else:
                self._position += len(self._chunk)
                self._chunk = next(self._chunks, b"")
                if not self._chunk:
                    return


def _blocks_of(name: str, shown: str, facts: DumpFacts, relations: Relations, backup: str) -> tuple[CopyBlock, ...]:
    kind = relations.kinds.get(name, "table")
    if kind not in ("table", "partitioned table"):
        raise UsageError(f"{shown} is a {kind}: {backup} has no rows of it", remedy="name a table that it reads")
    wanted = set(relations.with_leaves(name))
    blocks = tuple(block for block in facts.blocks if block.table in wanted)
    if not blocks and kind == "table":
        raise UsageError(
            f"{backup} has no rows of {shown}: they were left out when it was made",
            remedy="look at BACKUP_EXCLUDE_TABLE_DATA, or use an older backup",
        )
    return blocks


def _readable(name: str, encoding: str) -> str:
    return plain_name(name.encode("utf-8", "surrogateescape"), encoding, unquoted=False)
