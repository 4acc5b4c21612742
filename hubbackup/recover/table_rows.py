"""The rows of one table as a backup holds them: found by name, then read as often as asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from hubbackup.catalog.backup import printable
from hubbackup.dump.copy_blocks import CopyBlock, proven_rows
from hubbackup.dump.dump_relations import Relations
from hubbackup.dump.dump_statements import NAME
from hubbackup.dump.identifiers import plain_name
from hubbackup.dump.schema_statements import schema_statements
from hubbackup.dump.table_names import find_table
from hubbackup.dump.table_names import parts as parts_of
from hubbackup.errors import NotProvenError, UsageError
from hubbackup.jobs.run import Run
from hubbackup.load.proof import prove
from hubbackup.load.psql_compat import EDGE_BYTES, client_encoding
from hubbackup.verify.ranges import Parts
from hubbackup.verify.reader import Expected, check_file, checked_chunks
from hubbackup.verify.source import Source

_COPY = re.compile(rb"COPY (?:" + NAME + rb"\.)?" + NAME + rb" (?:\((?P<columns>.*)\))? ?FROM stdin;\n", re.DOTALL)
_NAME = re.compile(NAME)
Blocks = Callable[[], Iterator[tuple[bytes, Iterator[bytes]]]]
"""The COPY statement of each block, and the bytes of its rows. Raises NotProvenError for a damaged file."""


@dataclass(frozen=True)
class StoredTable:
    """A table of a backup, its partitions with it. `name` is as pg_dump writes it, in readable letters."""

    name: str
    schema: str
    table: str
    encoding: str
    """The dump's, by PostgreSQL's name; the rows are written in it."""
    rows: int
    """As the census counted them."""
    read: Blocks

    def each(self) -> Iterator[tuple[tuple[str, ...], Iterator[bytes]]]:
        """The columns and the bytes of the rows of each block, which must be read before the next is asked for.

        Raises NotProvenError, also at the end of rows that are not those of before.
        """
        for head, rows in self.read():
            found = _COPY.fullmatch(head)
            if found is None:
                raise NotProvenError(f"the rows of {self.name} are not where they were")
            yield tuple(plain_name(name, self.encoding) for name in _NAME.findall(found["columns"] or b"")), rows


def find_rows(run: Run, source: Source, typed: str) -> StoredTable:
    """The table that `typed` means. Where the backup has an index only its schema and these rows are read, else it is
    read through and proven.

    Raises UsageError where it has no such table, or one without rows of its own; NotProvenError.
    """
    if source.manifest is not None:
        source.manifest.demand(typed)
    parts = _parts(run, source)
    if parts is None:
        return _read_through(run, source, typed)
    relations = Relations()
    for statement in schema_statements(parts.plain(0, parts.index.data_start)):
        relations.add(statement)
    encoding = client_encoding(b"".join(parts.plain(0, min(EDGE_BYTES, parts.index.data_start))))
    in_index = {printable(name): name for name in relations.kinds}
    names = {*relations.kinds, *(in_index.get(block.table, block.table) for block in parts.index.tables)}

    def blocks(tables: set[str]) -> tuple[CopyBlock, ...]:
        wanted = set(map(printable, tables))
        return tuple(block for block in parts.index.tables if block.table in wanted)

    def read_of(found: tuple[CopyBlock, ...]) -> Blocks:
        def read() -> Iterator[tuple[bytes, Iterator[bytes]]]:
            for block in found:
                pieces = parts.block(block)
                yield next(pieces, b""), pieces

        return read

    return _chosen(typed, names, relations, encoding, source.name, blocks, read_of)


def _parts(run: Run, source: Source) -> Parts | None:
    """The file to be read in parts; None where it has to be read through. Raises NotProvenError.

    What was downloaded is compared as a whole: whoever can write to a bucket could make other rows of one digest.
    """
    manifest = source.manifest
    index = manifest.dump_index() if manifest is not None and source.ours and not source.format.sealed else None
    if manifest is None or index is None:
        return None

    @contextmanager
    def open_at(start: int, end: int | None) -> Iterator[BinaryIO]:
        with source.open() as stream:
            stream.seek(start)
            yield stream

    parts = Parts(source.name, open_at, source.format, index, run.cancel)
    if not parts.provable:
        return None
    if source.fetched:
        with source.open() as stream, run.progress("prove", source.stored_bytes) as progress:
            check_file(stream, Expected.of(manifest), name=source.name, cancel=run.cancel, progress=progress)
    return parts


def _read_through(run: Run, source: Source, typed: str) -> StoredTable:
    relations = Relations()
    proof = prove(run, source, on_schema=relations.add)

    def blocks(tables: set[str]) -> tuple[CopyBlock, ...]:
        return tuple(block for block in proof.facts.blocks if block.table in tables)

    def read_of(found: tuple[CopyBlock, ...]) -> Blocks:
        def read() -> Iterator[tuple[bytes, Iterator[bytes]]]:
            with source.open() as stream, run.progress("read", source.stored_bytes) as progress:
                plain = Forwards(
                    checked_chunks(
                        stream,
                        proof.expected,
                        source.decoder(),
                        name=source.name,
                        cancel=run.cancel,
                        progress=progress,
                    )
                )
                for block in found:
                    yield (
                        b"".join(plain(block.offset, block.rows_offset)),
                        proven_rows(plain(block.rows_offset, block.rows_end), block, block.table),
                    )

        return read

    names = {*relations.kinds, *proof.facts.rows}
    return _chosen(typed, names, relations, proof.encoding, source.name, blocks, read_of)


def _chosen(
    typed: str,
    names: Iterable[str],
    relations: Relations,
    encoding: str,
    backup: str,
    blocks: Callable[[set[str]], tuple[CopyBlock, ...]],
    read_of: Callable[[tuple[CopyBlock, ...]], Blocks],
) -> StoredTable:
    """The table that is meant. Raises UsageError where it has no rows of its own."""
    by_name = {_readable(name, encoding): name for name in names}
    shown = find_table(typed, by_name, backup)
    kind = relations.kinds.get(by_name[shown], "table")
    if kind not in ("table", "partitioned table"):
        raise UsageError(f"{shown} is a {kind}: {backup} has no rows of it", remedy="name a table that it reads")
    found = blocks(set(relations.with_leaves(by_name[shown])))
    if not found and kind == "table":
        raise UsageError(
            f"{backup} has no rows of {shown}: they were left out when it was made",
            remedy="look at BACKUP_EXCLUDE_TABLE_DATA, or use an older backup",
        )
    schema, table = parts_of(shown) or ("", shown)
    return StoredTable(shown, schema, table, encoding, sum(block.rows for block in found), read_of(found))


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


def _readable(name: str, encoding: str) -> str:
    return plain_name(name.encode("utf-8", "surrogateescape"), encoding, unquoted=False)
