"""The proof of a backup of our own by its sha256 and its index, without the rows of its large tables.

Its manifest is signed: a file of this sha256 was read in full when it was made, and these were its rows. So the
stored bytes are compared with that, all of them; the statements are read, and small tables; what is passed over is
compared, table by table, when it is read to be loaded (`copy_blocks.proven_rows`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO, cast

from hubbackup.catalog.index import PLAIN_DIGEST, DumpIndex
from hubbackup.catalog.origin import Origin
from hubbackup.dump.census import Census, DumpFacts
from hubbackup.dump.copy_blocks import ROWS_CUT_BYTES
from hubbackup.jobs.run import Run
from hubbackup.load.dump_text import DumpReading
from hubbackup.load.members import MemberDigests, MemberProof, MemberRanges
from hubbackup.streams.growing_file import CHUNK_BYTES
from hubbackup.streams.read_ahead import ReadAhead
from hubbackup.verify.reader import check_census, naming
from hubbackup.verify.source import Source

PASSED_BYTES = 2 * ROWS_CUT_BYTES
"""Of one table's rows: to go on behind fewer, a member is entered that has most of them."""


def prove_by_index(
    run: Run, source: Source, index: DumpIndex, reading: DumpReading
) -> tuple[DumpFacts, MemberProof] | None:
    """What the dump holds; None where the whole is to be read: nothing was given to `reading` then.

    Raises NotProvenError where the statements are not those that its manifest tells of.
    """
    manifest = source.manifest
    if (
        manifest is None
        or source.origin is not Origin.OURS
        or manifest.verified != "full"
        or index.digest_kind != PLAIN_DIGEST
        or len(index.members) == 1
    ):
        return None
    passed = [block for block in index.tables if block.row_bytes >= PASSED_BYTES]
    proof = _stored(run, source, index, manifest.sha256) if passed else None
    if proof is None:
        return None
    census = Census(on_statement=reading.on_statement)
    ranges = MemberRanges(source.open, proof, source.decoder, source.name, run.cancel)
    position = 0
    for block in passed:
        _feed(census, ranges.read(position, block.rows_offset))
        census.pass_rows(block)
        position = block.rows_end
        if census.is_hopeless:
            break
    else:
        _feed(census, ranges.read(position, manifest.plain_bytes))
    with naming(source.name):
        facts = census.finish()
        check_census(facts, manifest)
    return facts, proof


def _feed(census: Census, pieces: Iterator[bytes]) -> None:
    for piece in pieces:
        census.feed(piece)


def _stored(run: Run, source: Source, index: DumpIndex, sha256: str) -> MemberProof | None:
    """The file's members; None where its bytes are others than those of this sha256."""
    digest = hashlib.sha256()
    done_bytes = 0
    with source.open() as stream, run.progress("prove", source.stored_bytes) as progress:
        members = MemberDigests(stream, index.members)
        reads = iter(partial(cast("BinaryIO", members).read, CHUNK_BYTES), b"")
        with ReadAhead(reads) as chunks:  # digests twice, in two threads
            for chunk in chunks:
                run.cancel.check()
                digest.update(chunk)
                done_bytes += len(chunk)
                progress(done_bytes)
        return members.proof() if digest.hexdigest() == sha256 else None
