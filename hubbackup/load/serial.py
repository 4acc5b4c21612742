"""The serial loader: the proven dump as it is, to one psql."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from hubbackup.dump.without_owners import without, without_owners
from hubbackup.load.load_session import open_load_session
from hubbackup.load.loader import Load
from hubbackup.load.psql_compat import Dialect
from hubbackup.verify.reader import checked_chunks


def load_serially(load: Load) -> list[int]:
    """A contract of `hubbackup.load.loader.Loader`."""
    dialect = dataclasses.replace(load.dialect, load_path=load.connection.load_path)
    with open_load_session(load, load.run.cancel, dialect.opening()) as session:
        session.feed(_text(load, dialect))
        with load.run.progress("indexes and constraints", 0):
            return session.finish()


def _text(load: Load, dialect: Dialect) -> Iterator[bytes]:
    """What psql is to read: the dump, or its schema alone. Raises HubbackupError where it is not what was proven."""
    schema = load.proof.schema
    chunks = schema.chunks(dialect.load_path) if schema is not None else _dump(load, dialect)
    if load.proof.part is not None:
        chunks = without(chunks, load.proof.part.leaves_out)
    if load.proof.loose.owned:
        chunks = without(chunks, load.proof.loose.leaves_out)
    yield from without_owners(chunks) if load.proof.leaves_owners_out else chunks


def _dump(load: Load, dialect: Dialect) -> Iterator[bytes]:
    run, source = load.run, load.source
    with source.open() as stream, run.progress("load", source.stored_bytes) as progress:
        decoder = source.decoder()
        part = load.proof.part
        plain = checked_chunks(
            stream, load.proof.expected, decoder, name=source.name, cancel=run.cancel, progress=progress
        )
        yield from dialect.adapt(plain if part is None else part.without_rows(plain))
