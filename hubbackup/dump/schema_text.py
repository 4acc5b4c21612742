"""The schema of a dump as psql is given it without rows: kept while the dump is read, loaded afterwards."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Self

from hubbackup.dump.identifiers import literal
from hubbackup.streams.growing_file import CHUNK_BYTES

HELD_BYTES = 16 << 20
"""In memory; a larger schema goes to a temporary file."""
OF_NEWER_SERVERS = b"SET transaction_timeout = 0;\n"
"""Our sessions are pinned to it where it is known."""
EMPTY_PATH = b"SELECT pg_catalog.set_config('search_path', '', false);\n"
REFRESH = b"REFRESH MATERIALIZED VIEW "
ATTEMPT = b"""\
DO $hubbackup_%(tag)s$ BEGIN
    EXECUTE $hubbackup_text_%(tag)s$%(statement)s$hubbackup_text_%(tag)s$;
EXCEPTION WHEN OTHERS THEN
    IF left(SQLSTATE, 2) IN ('42', '3F', '0A') THEN RAISE; END IF;
END $hubbackup_%(tag)s$;
"""
"""A view over empty tables may divide by zero, or miss the row that it is made of: that says nothing of a restore. A
name that is not found does."""


class SchemaText:
    """Takes statements, and gives them back as often as asked; closed, it is gone."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(HELD_BYTES)  # noqa: SIM115 - closed with us

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, statement: bytes) -> None:
        """One statement of the schema, with its semicolon and line end."""
        if statement == OF_NEWER_SERVERS:
            return
        if statement.startswith(REFRESH):
            tag = secrets.token_hex(8).encode()
            statement = ATTEMPT % {b"tag": tag, b"statement": statement.rstrip(b";\n")}
        self._file.write(statement)

    def chunks(self, load_path: str = "") -> Iterator[bytes]:
        """All of it, in order, with `load_path` in the place of pg_dump's empty search_path."""
        self._file.seek(0)
        yield from with_path(iter(lambda: self._file.read(CHUNK_BYTES), b""), load_path)


def with_path(chunks: Iterable[bytes], load_path: str) -> Iterator[bytes]:
    """The beginning of a schema, with `load_path` in the place of pg_dump's empty search_path."""
    path = EMPTY_PATH.replace(b"''", literal(load_path).encode())
    for data in chunks:
        yield data.replace(EMPTY_PATH, path, 1)
        path = EMPTY_PATH
