r"""Rows of COPY's text format as CSV: byte for byte what the server writes for `COPY … TO … (FORMAT csv, HEADER)`.

NULL is nothing, an empty string is `""`; a value is quoted where it holds a comma, a quote or a line end. Lines end
with a newline alone. It holds for each encoding that a database can have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from hubbackup.dump.copy_text import NULL, value

LINES_BYTES = 8 << 10
"""Of lines that are looked at together: where nothing in them is special, they are not taken apart."""
BATCH_BYTES = 256 << 10
_QUOTED = re.compile(rb"[\",\r\n]")


def csv_lines(chunks: Iterable[bytes], picked: Sequence[int], width: int) -> Iterator[bytes]:
    """CSV, many lines at a time, of rows in text format that have `width` fields: the `picked` ones."""
    whole = list(picked) == list(range(width))
    alone = len(picked) == 1

    def line(row: bytes) -> bytes:
        if not picked:
            return b""
        fields = row.split(b"\t")
        chosen = fields if whole else [fields[number] for number in picked]
        return b",".join([field if field.isalnum() else _field(field, alone) for field in chosen])

    def written(lines: bytes) -> bytes:
        easy = _easy(lines) if whole else None
        return easy if easy is not None else _each(line, lines)

    return _batched(map(written, _whole_lines(chunks)))


def csv_header(names: Sequence[bytes]) -> bytes:
    """The first line."""
    return b",".join(_written(name, alone=len(names) == 1) for name in names) + b"\n"


def text_lines(chunks: Iterable[bytes], picked: Sequence[int]) -> Iterator[bytes]:
    """Rows in text format with the `picked` fields alone, as they stand."""

    def line(row: bytes) -> bytes:
        fields = row.split(b"\t")
        return b"\t".join([fields[number] for number in picked])

    return _batched(_each(line, lines) for lines in _whole_lines(chunks))


def _easy(lines: bytes) -> bytes | None:
    """The lines as CSV where all their values are NULL or written as they stand; else None. Much faster than a row
    at a time: what looks for a byte or two does a gigabyte a second."""
    if b"," in lines or b'"' in lines or b"\r" in lines:
        return None
    lines = b"\n" + lines
    if any(empty in lines for empty in (b"\t\t", b"\t\n", b"\n\t", b"\n\n")):
        return None
    if b"\\" in lines:
        lines = lines.replace(b"\t\\N", b"\t").replace(b"\n\\N\t", b"\n\t")
        if b"\\" in lines:
            return None
    return lines[1:].replace(b"\t", b",")


def _each(line: Callable[[bytes], bytes], lines: bytes) -> bytes:
    return b"\n".join([*map(line, lines[:-1].split(b"\n")), b""])


def _whole_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Some lines at a time, with their ends."""
    begun: list[bytes] = []  # of a line that goes on: joined once, since a row may have a gigabyte
    for chunk in chunks:
        position = 0
        while position < len(chunk):
            end = chunk.rfind(b"\n", position, position + LINES_BYTES) + 1 or chunk.find(b"\n", position) + 1
            begun.append(chunk[position : end or len(chunk)])
            position = end or len(chunk)
            if end:
                yield b"".join(begun)
                begun = []
    if begun:
        yield b"".join([*begun, b"\n"])


def _batched(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """As many together as make one good write."""
    batch: list[bytes] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size >= BATCH_BYTES:
            yield b"".join(batch)
            batch, size = [], 0
    if batch:
        yield b"".join(batch)


def _field(field: bytes, alone: bool) -> bytes:
    if b"\\" not in field:
        return _written(field, alone)
    if field == NULL:
        return b""
    meant = value(field)
    assert meant is not None  # noqa: S101 - only NULL is
    return _written(meant, alone)


def _written(meant: bytes, alone: bool) -> bytes:
    if not meant or _QUOTED.search(meant) or (alone and meant == b"\\."):
        return b'"' + meant.replace(b'"', b'""') + b'"'
    return meant
