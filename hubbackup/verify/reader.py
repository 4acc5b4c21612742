"""Read a stored file through and check it: one reading path for the publish gate, verify, restore and drill.

What was checked when the backup was made is what each later reader demands again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import BinaryIO

from hubbackup.catalog.backup import Manifest, printable_rows
from hubbackup.dump.census import Census, DumpFacts, OnStatement
from hubbackup.dump.file_kinds import kind_of
from hubbackup.errors import NotProvenError
from hubbackup.jobs.progress import Progress, silent
from hubbackup.streams.age import MAGIC, SealedDecoder
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.codecs import CODECS, Decoder
from hubbackup.streams.growing_file import CHUNK_BYTES
from hubbackup.streams.read_ahead import ReadAhead
from hubbackup.verify.index import index_of

REMEDY = "use an older backup, or another copy of this one"


@dataclass(frozen=True)
class Expected:
    """What the file must be: sizes in bytes, sha256 in hex of the stored file. `plain_bytes` None: not known."""

    stored_bytes: int
    sha256: str
    plain_bytes: int | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> Expected:
        """What the manifest says of its file."""
        return cls(manifest.stored_bytes, manifest.sha256, manifest.plain_bytes)


def check_file(
    stream: BinaryIO,
    expected: Expected,
    decoder: Decoder | None = None,
    *,
    name: str,
    cancel: Cancel,
    progress: Progress = silent,
) -> None:
    """Read the file whole; without a `decoder` only its bytes are checked.

    Raises NotProvenError naming `name` and the first thing that is not as expected.
    """
    if decoder is not None:
        for _ in checked_chunks(stream, expected, decoder, name=name, cancel=cancel, progress=progress):
            pass
        return
    digest = hashlib.sha256()
    stored_bytes = 0
    while data := stream.read(CHUNK_BYTES):
        cancel.check()
        digest.update(data)
        stored_bytes += len(data)
        progress(stored_bytes)
    _compare(name, expected, stored_bytes, digest.hexdigest())


def checked_chunks(
    stream: BinaryIO,
    expected: Expected | None,
    decoder: Decoder,
    *,
    name: str,
    cancel: Cancel,
    progress: Progress = silent,
) -> Generator[bytes, None, None]:
    """The plain dump, chunk by chunk; after the last one, and before the end, the whole is compared.

    Caller's duty: do nothing final with the chunks before the iteration ended without an error. Where nothing
    is `expected` (an unproven file), that `decoder` takes it is all that is checked.
    Raises NotProvenError naming `name`.
    """
    digest = hashlib.sha256()
    stored_bytes = plain_bytes = 0
    limit = expected.plain_bytes if expected is not None else None

    def counted(pieces: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal plain_bytes
        for plain in pieces:
            plain_bytes += len(plain)
            if limit is not None and plain_bytes > limit:
                raise NotProvenError(f"it decodes to more than the {limit} bytes expected")
            yield plain

    with naming(name), closing(decoder):
        while data := stream.read(CHUNK_BYTES):
            cancel.check()
            digest.update(data)
            stored_bytes += len(data)
            yield from counted(_decoded(decoder, data, name if stored_bytes == len(data) else ""))
            progress(stored_bytes)
        if expected is not None and stored_bytes != expected.stored_bytes:
            raise NotProvenError(f"it has {stored_bytes} bytes, {expected.stored_bytes} were expected")
        yield from counted(decoder.rest())
        decoder.finish()
        if limit is not None and plain_bytes != limit:
            raise NotProvenError(f"it decodes to {plain_bytes} bytes, {limit} were expected")
    if expected is not None:
        _compare(name, expected, stored_bytes, digest.hexdigest())


def _decoded(decoder: Decoder, data: bytes, begins: str) -> Iterator[bytes]:
    """What `data` decodes to. With it `begins` the file of this name: where that is not as the name says, the error
    says what it is."""
    begun = False
    try:
        for plain in decoder.pieces(data):
            begun = begun or bool(plain)
            yield plain
    except NotProvenError as error:
        kind = kind_of(data) if begins and not begun else ""
        as_named = any(begins.endswith(one.suffix) and data.startswith(one.magic) for one in CODECS.values())
        if not kind or as_named or (isinstance(decoder, SealedDecoder) and data.startswith(MAGIC)):
            raise
        raise NotProvenError(f"{error}; it is {kind}") from error


def check_dump(
    open_stream: Callable[[], AbstractContextManager[BinaryIO]],
    manifest: Manifest | None,
    decoder: Decoder,
    *,
    name: str,
    cancel: Cancel,
    progress: Progress = silent,
    on_schema: Callable[[bytes], object] | None = None,
    on_statement: OnStatement | None = None,
) -> DumpFacts:
    """Read a whole backup: bytes, compression, header, trailer, and the rows that the manifest counted.

    `on_schema` is given the text of its schema, a statement at a time, `on_statement` each statement.
    Raises NotProvenError naming `name` and what is wrong.
    """
    census = Census(on_schema, on_statement=on_statement)
    expected = Expected.of(manifest) if manifest is not None else None
    with open_stream() as stream:
        decoded = checked_chunks(stream, expected, decoder, name=name, cancel=cancel, progress=progress)
        # The reading ahead ends before what it reads is closed.
        with closing(decoded), ReadAhead(decoded) as chunks:
            for chunk in chunks:
                census.feed(chunk)
                if census.is_hopeless:  # no need to read on for hours
                    break
    with naming(name):
        facts = census.finish()
        if manifest is not None:
            check_census(facts, manifest)
    return facts


def check_census(facts: DumpFacts, manifest: Manifest) -> None:
    """Raises NotProvenError where a manifest says something else of its dump than what was read."""
    if printable_rows(facts.rows) != manifest.rows:
        raise NotProvenError("its rows are not those that its manifest counted")
    index = manifest.dump_index()
    if index is None:
        return
    found = index_of(facts, index.members)
    if index.digest_kind != found.digest_kind:  # keyed: only where everything stands can be compared
        index, found = index.without_digests(), found.without_digests()
    if found != index:
        raise NotProvenError("its tables are not where its manifest has them")


def _compare(name: str, expected: Expected, stored_bytes: int, sha256: str) -> None:
    with naming(name):
        if stored_bytes != expected.stored_bytes:
            raise NotProvenError(f"it has {stored_bytes} bytes, {expected.stored_bytes} were expected")
        if sha256 != expected.sha256:
            raise NotProvenError("its sha256 is not the one it was written with")


class naming:
    """Put the file's name in front of what is wrong with it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, NotProvenError):
            raise NotProvenError(f"{self._name} is damaged: {error}", remedy=REMEDY) from error
