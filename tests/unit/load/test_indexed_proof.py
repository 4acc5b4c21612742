"""A signed backup is proven by its sha256 and its index: what a full reading says, without its large tables' rows."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from hubbackup.catalog.backup import BackupName
from hubbackup.catalog.index import DumpIndex
from hubbackup.catalog.origin import Origin
from hubbackup.dump.census import Census, DumpFacts
from hubbackup.errors import NotProvenError
from hubbackup.jobs.progress import bar
from hubbackup.jobs.run import Run
from hubbackup.load import indexed_proof
from hubbackup.load.dump_text import DumpReading, DumpText
from hubbackup.load.indexed_proof import prove_by_index
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.codecs import Member
from hubbackup.verify.index import index_of
from hubbackup.verify.source import Source
from tests.support.backups import manifest_of

ROW = b"1\tword 1\n"
ROWS = b"".join(b"%d\tword %d\n" % (number, number) for number in range(400))
DUMP = (
    b"--\n-- PostgreSQL database dump\n--\n\n"
    b"-- Dumped from database version 18.1\n-- Dumped by pg_dump version 18.1\n\n"
    b"CREATE TABLE public.large (a integer, b text);\nCREATE TABLE public.small (a integer);\n\n"
    b"COPY public.large (a, b) FROM stdin;\n" + ROWS + b"\\.\n\n\n"
    b"COPY public.small (a) FROM stdin;\n1\n\\.\n\n\n"
    b'COPY public."large too" (a, b) FROM stdin;\n' + ROW * 300 + b"\\.\n\n\n"
    b"SELECT pg_catalog.setval('public.s', 7, true);\n\n"
    b"CREATE INDEX i ON public.large USING btree (a);\n"
    b"\n--\n-- PostgreSQL database dump complete\n--\n\n"
)


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexed_proof, "PASSED_BYTES", 1000)


@pytest.fixture
def reading() -> Iterator[DumpReading]:
    with DumpText() as text:
        yield DumpReading(text)


def read(dump: bytes, reading: DumpReading) -> DumpFacts:
    """As the proof reads it."""
    census = Census(on_statement=reading.on_statement)
    census.feed(dump)
    return census.finish()


def stored(size: int) -> tuple[bytes, list[Member]]:
    """The dump, in a member for each so many bytes."""
    data, members = b"", []
    for start in range(0, len(DUMP), size):
        members.append(Member(len(data), start))
        data += gzip.compress(DUMP[start : start + size])
    return data, members


def run() -> Run:
    return Run("restore", "20260208T020000-1a2b3c", Cancel(), structlog.stdlib.get_logger(), bar)


def source_of(data: bytes, index: DumpIndex, **changes: Any) -> Source:
    name = BackupName("hub", datetime(2026, 2, 8, 2))
    rows = {"public.large": 400, "public.small": 1, 'public."large too"': 300}
    facts = {"plain_bytes": len(DUMP), "rows": rows, "index": index.to_text(), "table_count": 2}
    manifest = manifest_of(name, data, **facts | changes)
    at = datetime.now(UTC)
    return Source(str(name), "here", len(data), at, manifest, lambda: io.BytesIO(data), origin=Origin.OURS)


@pytest.mark.parametrize("size", [10, 100, 1000, 5000])
def test_it_says_what_a_full_reading_says(reading: DumpReading, size: int) -> None:
    """The same facts, statements and places, wherever the file can be entered."""
    data, members = stored(size)
    with DumpText() as text:
        whole = DumpReading(text)
        facts = read(DUMP, whole)
        index = index_of(facts, members)
        found = prove_by_index(run(), source_of(data, index), index, reading)
        assert found is not None
        assert found[0] == facts
        assert found[1].members == tuple(members)
        for name in ("settings", "pre", "tables", "data", "post", "codes", "parents", "whole"):
            assert getattr(reading, name) == getattr(whole, name)
        assert reading.text.read(reading.pre) == whole.text.read(whole.pre)


def test_large_rows_are_not_decoded(reading: DumpReading, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of their members, only those with a statement are."""
    data, members = stored(100)
    index = index_of(read(DUMP, DumpReading(reading.text)), members)
    source, opened = source_of(data, index), 0

    def counting(self: Source) -> Any:
        nonlocal opened
        opened += 1
        return source.format.decoder(source.identities)

    monkeypatch.setattr(Source, "decoder", counting)
    assert prove_by_index(run(), source, index, reading) is not None
    assert opened < len(members) / 4


@pytest.mark.parametrize(
    "changed",
    [
        lambda source: replace(source, origin=Origin.EARLIER),
        lambda source: replace(source, origin=Origin.FOREIGN),
        lambda source: replace(source, manifest=source.manifest.model_copy(update={"verified": "hash"})),
        lambda source: replace(source, manifest=source.manifest.model_copy(update={"sha256": "0" * 64})),
        lambda source: replace(source, manifest=None),
    ],
    ids=["not signed", "foreign", "never read in full", "other bytes", "no manifest"],
)
def test_of_any_other_all_is_read(reading: DumpReading, changed: Callable[[Source], Source]) -> None:
    """The manifest's word is taken for the bytes that it is about, and only where nobody else can have written it."""
    data, members = stored(500)
    index = index_of(read(DUMP, DumpReading(reading.text)), members)
    assert prove_by_index(run(), changed(source_of(data, index)), index, reading) is None
    assert not reading.tables


def test_a_file_of_one_member_is_read(reading: DumpReading) -> None:
    """It can't be entered behind the rows."""
    data, members = stored(len(DUMP))
    index = index_of(read(DUMP, DumpReading(reading.text)), members)
    assert prove_by_index(run(), source_of(data, index), index, reading) is None


@pytest.mark.parametrize("moved", [-1, 1, 400])
def test_an_index_that_does_not_fit_is_refused(reading: DumpReading, moved: int) -> None:
    """Rows are passed over only where they begin."""
    data, members = stored(500)
    index = index_of(read(DUMP, DumpReading(reading.text)), members)
    first, *others = index.tables
    wrong = replace(index, tables=(replace(first, offset=first.offset + moved), *others))
    with pytest.raises(NotProvenError, match="is damaged"):
        prove_by_index(run(), source_of(data, wrong), wrong, reading)
