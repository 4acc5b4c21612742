"""What is loaded is what was proven: a backup that was read through, and what its file is."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from typing import BinaryIO, cast

from hubbackup.catalog.index import DumpIndex
from hubbackup.dump.census import DumpFacts
from hubbackup.dump.identifiers import readable
from hubbackup.dump.schema_text import SchemaText
from hubbackup.errors import NotProvenError, UnrestorableError
from hubbackup.jobs.run import Run
from hubbackup.load.dump_text import DumpReading
from hubbackup.load.loose_keys import LooseKeys
from hubbackup.load.members import MemberDigests, MemberProof
from hubbackup.load.part import Part
from hubbackup.load.psql_compat import EDGE_BYTES, client_encoding
from hubbackup.streams.codecs import Decoder, Member
from hubbackup.streams.growing_file import CHUNK_BYTES
from hubbackup.verify.kept import KeptSchema
from hubbackup.verify.reader import Expected, check_dump, checked_chunks
from hubbackup.verify.source import Source


@dataclasses.dataclass(frozen=True)
class DumpProof:
    """A backup that was read through: what it holds, and what its file is, so that no other is loaded later."""

    facts: DumpFacts
    expected: Expected
    encoding: str
    """The dump's own, by PostgreSQL's name: names in `facts` that are not UTF-8 are bytes of it."""
    part: Part | None = None
    """What of it is to be loaded, where not all is."""
    leaves_owners_out: bool = False
    """Whether it is loaded `without_owners`."""
    schema: SchemaText | None = None
    """What is to be loaded instead of the whole, where no rows are."""
    reading: DumpReading | None = None
    """Its statements, where rows are."""
    loose: LooseKeys = dataclasses.field(default_factory=LooseKeys)
    """Foreign keys that are not loaded with the rest."""
    members: MemberProof | None = None
    """Its file's, where that can be entered at more than its start."""

    def only(self, part: Part) -> DumpProof:
        """The same, of which a part is to be loaded."""
        return dataclasses.replace(self, facts=part.facts(self.facts), part=part)

    def without_owners(self, named: Set[str]) -> DumpProof:
        """The same, to be loaded without what it gives to other roles; these must be there all the same, and so must
        those that are `named` beside the dump."""
        facts = dataclasses.replace(
            self.facts,
            roles=tuple(sorted({*self.facts.roles, *named})),
            requirements=self.facts.requirements.without_owners(),
        )
        return dataclasses.replace(self, facts=facts, leaves_owners_out=True)


def prove(
    run: Run,
    source: Source,
    schema: SchemaText | None = None,
    reading: DumpReading | None = None,
    on_schema: Callable[[bytes], object] | None = None,
    *,
    by_index: bool = False,
) -> DumpProof:
    """Read the whole backup; keep the text of its `schema` where that is to be loaded alone, else its statements; or
    give the text to `on_schema`, a statement at a time.

    `by_index`: of one of our own with an index, the rows of large tables are read only when they are loaded
    (`indexed_proof`). Raises NotProvenError for one that is not whole, or that pg_dump did not write.
    """
    if source.kept is not None:
        return _of_kept(source, source.kept)
    manifest, decoder = source.manifest, source.decoder()
    expected = Expected.of(manifest) if manifest is not None else _content(run, source)
    index = _index(source) if reading is not None else None
    known: tuple[DumpFacts, MemberProof | None] | None = None
    if by_index and reading is not None and index is not None:
        from hubbackup.load.indexed_proof import prove_by_index  # here: every command's start would wait for it

        known = prove_by_index(run, source, index, reading)
    if known is None:
        members = index.members if index is not None else ()
        known = _read_through(run, source, decoder, members, schema, reading, on_schema)
    facts, digests = known
    encoding = client_encoding(_head(run, source, expected))
    proof = _proof(source, facts, expected, encoding, schema, reading)
    return dataclasses.replace(proof, members=digests)


def _read_through(
    run: Run,
    source: Source,
    decoder: Decoder,
    members: Sequence[Member],
    schema: SchemaText | None,
    reading: DumpReading | None,
    on_schema: Callable[[bytes], object] | None,
) -> tuple[DumpFacts, MemberProof | None]:
    """What it holds, and its members where it can be entered at several."""
    digests: MemberDigests | None = None

    @contextmanager
    def opened() -> Iterator[BinaryIO]:
        nonlocal digests
        with source.open() as stream:
            digests = MemberDigests(stream, members)
            yield cast("BinaryIO", digests)

    with run.progress("prove", source.stored_bytes) as progress:
        facts = check_dump(
            opened if len(members) > 1 else source.open,
            source.manifest,
            decoder,
            name=source.name,
            cancel=run.cancel,
            progress=progress,
            on_schema=schema.add if schema is not None else on_schema,
            on_statement=reading.on_statement if reading is not None else None,
        )
    return facts, digests.proof() if digests is not None else None


def _of_kept(source: Source, kept: KeptSchema) -> DumpProof:
    """Of the schema alone, as it was kept while the dump was made."""
    return _proof(
        source, kept.facts, Expected.of(kept.manifest), str(kept.manifest.properties["encoding"]), kept.text
    )


def _proof(
    source: Source,
    facts: DumpFacts,
    expected: Expected,
    encoding: str,
    schema: SchemaText | None,
    reading: DumpReading | None = None,
) -> DumpProof:
    """What is proven of a dump that was read through. Raises NotProvenError, UnrestorableError."""
    if facts.meta_commands:
        command = facts.meta_commands[0]
        if command.startswith("\\connect"):
            raise NotProvenError(
                f"{source.name} would connect elsewhere ({command}): pg_dump --create or pg_dumpall made it",
                remedy="restore it by hand on a server of its own; hubbackup restores dumps of one database",
            )
        raise NotProvenError(
            f"{source.name} holds a command for psql itself ({command}): no pg_dump wrote it",
            remedy="do not restore it; find out who made this file",
        )
    _check_loadable(source.name, facts, of_proven_origin=source.ours)
    decoded = dataclasses.replace(
        facts,
        roles=tuple(readable(role, encoding) for role in facts.roles),
        requirements=facts.requirements.readable(lambda name: readable(name, encoding)),
    )
    whole = dataclasses.replace(expected, plain_bytes=facts.plain_bytes)
    return DumpProof(decoded, whole, encoding, schema=schema, reading=reading)


def _index(source: Source) -> DumpIndex | None:
    """Where the file can be entered, as its manifest says; None where only its start is known.

    A sealed one is read from its start: its members are within the seal.
    """
    if source.manifest is None or source.format.sealed:
        return None
    with contextlib.suppress(NotProvenError):
        return source.manifest.dump_index()
    return None


def _check_loadable(name: str, facts: DumpFacts, *, of_proven_origin: bool) -> None:
    """Raises UnrestorableError for a whole dump that psql can't load, NotProvenError for one that it must not get."""
    if facts.psql_stops_at:
        raise UnrestorableError(
            f"psql can't load {name}: to psql the word begin opens a body, and it would wait for the end of"
            f" {facts.psql_stops_at}",
            remedy="ALTER FUNCTION … RENAME TO …, then take a new backup; this one can be restored by hand once its"
            ' text has the name in quotes: "begin"',
        )
    if facts.unknown and not of_proven_origin:
        raise NotProvenError(
            f"{name} is of unproven origin, and holds a statement that is not known of pg_dump: {facts.unknown}",
            remedy="update hubbackup, if it comes from a newer pg_dump; or find out who made this file",
        )


def _content(run: Run, source: Source) -> Expected:
    """What an unproven file is now: should it change before it is loaded, it is refused then."""
    digest = hashlib.sha256()
    stored_bytes = 0
    with source.open() as stream:
        while data := stream.read(CHUNK_BYTES):
            run.cancel.check()
            digest.update(data)
            stored_bytes += len(data)
    return Expected(stored_bytes, digest.hexdigest())


def _head(run: Run, source: Source, expected: Expected) -> bytes:
    head = b""
    with source.open() as stream:
        decoder = source.decoder()
        for chunk in checked_chunks(stream, expected, decoder, name=source.name, cancel=run.cancel):
            head += chunk
            if len(head) >= EDGE_BYTES:
                break
    return head[:EDGE_BYTES]
