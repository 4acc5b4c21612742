r"""Rows of COPY's text format as CSV: byte for byte what the server writes for `COPY … TO … (FORMAT csv, HEADER)`.

NULL is nothing, an empty string is `""`; a value is quoted where it holds a comma, a quote or a line end. Lines end
with a newline alone. It holds for each encoding that a database can have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from hubbackup.postgres.copy_text import NULL, value

BATCH_ROWS = 2_000
_SPECIAL = re.compile(rb"[\\\",\r\n]|\A\Z")
"""In a field: it is not written as it stands."""
_SPECIAL_IN_ROW = re.compile(rb"[\\\",\r]|\A(?:\t|\Z)|\t(?:\t|\Z)")
"""In a row: one of its fields is not. An empty one is not, either."""
_QUOTED = re.compile(rb"[\",\r\n]")


def csv_lines(rows: Iterable[bytes], picked: Sequence[int], width: int) -> Iterator[bytes]:
    """Lines of CSV, some thousand at a time, of rows in text format that have `width` fields: the `picked` ones."""
    whole = list(picked) == list(range(width))
    alone = len(picked) == 1
    lines: list[bytes] = []
    for row in rows:
        if not picked:
            lines.append(b"")
        elif whole and not _SPECIAL_IN_ROW.search(row):
            lines.append(row.replace(b"\t", b","))
        else:
            fields = row.split(b"\t")
            chosen = fields if whole else [fields[number] for number in picked]
            lines.append(b",".join([_field(field, alone) if _SPECIAL.search(field) else field for field in chosen]))
        if len(lines) == BATCH_ROWS:
            yield b"\n".join([*lines, b""])
            lines = []
    if lines:
        yield b"\n".join([*lines, b""])


def csv_header(names: Sequence[bytes]) -> bytes:
    """The first line."""
    return b",".join(_written(name, alone=len(names) == 1) for name in names) + b"\n"


def text_lines(rows: Iterable[bytes], picked: Sequence[int]) -> Iterator[bytes]:
    """Rows in text format with the `picked` fields alone, as they stand."""
    lines: list[bytes] = []
    for row in rows:
        fields = row.split(b"\t")
        lines.append(b"\t".join([fields[number] for number in picked]))
        if len(lines) == BATCH_ROWS:
            yield b"\n".join([*lines, b""])
            lines = []
    if lines:
        yield b"\n".join([*lines, b""])


def _field(field: bytes, alone: bool) -> bytes:
    if field == NULL:
        return b""
    meant = value(field)
    assert meant is not None  # noqa: S101 - only NULL is
    return _written(meant, alone)


def _written(meant: bytes, alone: bool) -> bytes:
    if not meant or _QUOTED.search(meant) or (alone and meant == b"\\."):
        return b'"' + meant.replace(b'"', b'""') + b'"'
    return meant
