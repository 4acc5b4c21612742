"""Parts of a dump: the bytes that were asked for and no others, and never rows that the manifest does not know."""

from __future__ import annotations

import gzip
import tracemalloc
from dataclasses import replace

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from hubbackup.catalog.index import DumpIndex
from hubbackup.dump.copy_blocks import CopyBlock
from hubbackup.errors import NotProvenError, StoppedError
from hubbackup.streams import codecs as codecs_module
from hubbackup.streams.cancel import Cancel
from hubbackup.streams.codecs import CODECS, GZIP, ZSTD, Codec, Member
from tests.support.packed import PackedDump, dump_of

TABLES = [
    (b"public.empty", b""),
    (b"public.devis", b"".join(b"%d\n" % number for number in range(4_000))),
    (b'public."odd ""name"', b"\\N\n\n\\\\.\n\\\\N\n"),
    (b"public.last", b"x" * 5_000 + b"\n"),
]
DUMP = dump_of(TABLES)
codecs = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)


def block(packed: PackedDump, table: str) -> CopyBlock:
    (found,) = packed.index.blocks_of(table)
    return found


def rows(packed: PackedDump, table: str) -> bytes:
    return b"".join([*packed.parts.block(block(packed, table))][1:])


@codecs
@settings(max_examples=150, deadline=None)
@given(
    cuts=st.lists(st.integers(0, len(DUMP)), max_size=12),
    start=st.integers(0, len(DUMP)),
    length=st.none() | st.integers(0, 9_000),
)
def test_any_part_of_a_dump_that_is_cut_anywhere(
    codec: Codec, cuts: list[int], start: int, length: int | None
) -> None:
    """Wherever members begin and whatever part is asked for: those bytes, from whole members."""
    packed = PackedDump(DUMP, cuts, codec)
    end = None if length is None else min(len(DUMP), start + length)
    assert b"".join(packed.parts.plain(start, end)) == DUMP[start:end]
    stored = [member.stored_offset for member in packed.index.members]
    for first, behind in packed.asked:
        assert first in stored
        assert behind is None or behind in stored


def test_no_other_member_is_read() -> None:
    """A part costs the members that it lies in: neither the one before it nor the one behind."""
    cuts = range(1_000, len(DUMP), 1_000)
    packed = PackedDump(DUMP, cuts)
    members = packed.index.members
    assert b"".join(packed.parts.plain(2_500, 3_500)) == DUMP[2_500:3_500]
    assert b"".join(packed.parts.plain(2_000, 3_000)) == DUMP[2_000:3_000]
    assert packed.asked == [
        (members[2].stored_offset, members[4].stored_offset),
        (members[2].stored_offset, members[3].stored_offset),
    ]


@codecs
@pytest.mark.parametrize("cuts", [(), range(500, len(DUMP), 700)], ids=["one member", "many members"])
def test_a_block_is_its_statement_and_its_rows(codec: Codec, cuts: range) -> None:
    """Each table of a dump, also an empty one and one whose rows look like the end of rows."""
    packed = PackedDump(DUMP, cuts, codec)
    for (name, data), found in zip(TABLES, packed.index.tables, strict=True):
        statement, *chunks = packed.parts.block(found)
        assert statement == b"COPY %s (a) FROM stdin;\n" % name
        assert b"".join(chunks) == data


@codecs
@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, len(DUMP)), max_size=12), chosen=st.sets(st.integers(0, len(TABLES) - 1)))
def test_several_blocks_are_each_its_own(codec: Codec, cuts: list[int], chosen: set[int]) -> None:
    """Any of them, in order, wherever the file is cut: the same as each read alone."""
    packed = PackedDump(DUMP, cuts, codec)
    wanted = [packed.index.tables[number] for number in sorted(chosen)]
    together = [b"".join(chunks) for chunks in packed.parts.blocks(wanted)]
    assert together == [b"".join(packed.parts.block(one)) for one in wanted]


def test_neighbours_are_read_in_one_go() -> None:
    """A hundred small partitions in one member cost one opening, and what lies far apart is not read through."""
    packed = PackedDump(dump_of((b"p%d" % number, b"row\n") for number in range(100)))
    assert [len(b"".join(chunks)) for chunks in packed.parts.blocks(packed.index.tables)] == [
        one.head_bytes + one.row_bytes for one in packed.index.tables
    ]
    assert len(packed.asked) == 1
    apart = PackedDump(DUMP, range(500, len(DUMP), 700))
    first, _, _, last = apart.index.tables
    assert len([b"".join(chunks) for chunks in apart.parts.blocks([first, last])]) == 2
    assert len(apart.asked) == 2


@pytest.mark.parametrize("rows", [b"1\n\\.\n2\n", b"\\.\n2\n", b"1\n\\.\r\n2\n", b"1\n2"])
@pytest.mark.parametrize("piece", [1, 2, 3, 512])
def test_rows_that_end_before_their_end_are_refused(rows: bytes, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever made file and manifest: what psql would run behind the rows' end never passes for rows."""
    packed = PackedDump(dump_of([(b"a", b"1\n"), (b"b", b"2\n")]))
    packed.dump = packed.dump.replace(b"1\n", rows)
    packed.stored = gzip.compress(packed.dump)
    forged = replace(
        block(packed, "a"), row_bytes=len(rows), rows=rows.count(b"\n"), digest=xxhash.xxh3_128(rows).hexdigest()
    )
    monkeypatch.setattr(codecs_module, "PIECE_BYTES", piece)
    with pytest.raises(NotProvenError, match=r"end before|are not those"):
        list(packed.parts.block(forged))


def test_rows_that_the_manifest_does_not_know_are_damaged() -> None:
    """Another file of the same shape: a changed value, two rows swapped, one more row in the same bytes."""
    packed = PackedDump(DUMP, [1_000])
    for old, new in ((b"\n1234\n", b"\n1235\n"), (b"\n1234\n1235\n", b"\n1235\n1234\n"), (b"\n1234\n", b"\n1\n34\n")):
        other = PackedDump(DUMP.replace(old, new), [1_000])
        assert len(other.dump) == len(DUMP)
        packed.stored = other.stored
        with pytest.raises(NotProvenError, match=r"x\.sql\.gz is damaged: the rows of public\.devis are not those"):
            rows(packed, "public.devis")
        assert rows(packed, "public.last") == TABLES[-1][1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"offset": 400},
        {"head_bytes": 30},
        {"row_bytes": 4},
        {"rows": 3_999},
        {"digest": "0" * 32},
        {"table": "public.last"},
        {"row_bytes": 50_000_000},
        {"head_bytes": 1 << 40},
    ],
    ids=str,
)
def test_an_index_that_says_something_else_is_noticed(wrong: dict[str, int | str]) -> None:
    """Whatever a manifest says of a table, its rows are given only where that is what the file has."""
    packed = PackedDump(DUMP, [1_000])
    with pytest.raises(NotProvenError, match=r"x\.sql\.gz is damaged"):
        list(packed.parts.block(replace(block(packed, "public.devis"), **wrong)))  # type: ignore[arg-type]


def assert_noticed(packed: PackedDump, stored: bytes) -> None:
    packed.stored = stored
    try:
        data = rows(packed, "public.devis")
    except NotProvenError as error:
        said = str(error)
    else:  # a bit of a header that means nothing, such as a member's time, or what follows the last row
        assert data == TABLES[1][1]
        return
    assert "x.sql.gz is damaged" in said


@codecs
def test_a_damaged_file_is_noticed_where_it_is_read(codec: Codec) -> None:
    """A bit that flipped, bytes that are missing, members that are elsewhere: an error that names the file."""
    packed = PackedDump(DUMP, range(700, len(DUMP), 700), codec)
    found = block(packed, "public.devis")
    first, behind = packed.index.entry(found.offset).stored_offset, packed.index.leaving(found.end).stored_offset  # type: ignore[union-attr]
    whole = packed.stored
    for place in range(first, behind, 97):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        assert_noticed(packed, bytes(flipped))
    for cut in range(first, behind, 97):
        assert_noticed(packed, whole[:cut])
    packed.stored = whole
    moved = tuple(Member(one.stored_offset + 1, one.plain_offset) for one in packed.index.members)
    packed.index = replace(packed.index, members=moved)
    with pytest.raises(NotProvenError, match=r"x\.sql\.gz is damaged"):
        rows(packed, "public.devis")


@pytest.mark.parametrize(("start", "end"), [(0, len(DUMP) + 1), (len(DUMP) + 1, None), (len(DUMP), len(DUMP) + 5)])
def test_a_part_beyond_the_dump_is_an_error(start: int, end: int | None) -> None:
    """No short answer that looks like a whole one."""
    with pytest.raises(NotProvenError, match="its dump ends after"):
        list(PackedDump(DUMP, [1_000]).parts.plain(start, end))


def test_digests_of_another_key_prove_nothing() -> None:
    """What can't be compared is known beforehand: with the key it can, with another or none it can't."""
    packed = PackedDump(DUMP)
    assert packed.parts.provable
    keyed = replace(packed.parts, index=index_under(packed, b"k"))
    assert not keyed.provable
    assert not replace(keyed, digest_key=b"other").provable
    ours = replace(keyed, digest_key=b"k")
    assert ours.provable
    assert b"".join([*ours.block(ours.index.tables[1])][1:]) == TABLES[1][1]


def index_under(packed: PackedDump, key: bytes) -> DumpIndex:
    from hubbackup.verify.index import index_of

    return index_of(packed.facts, packed.index.members, key)


def test_a_stop_ends_the_reading() -> None:
    """SIGTERM does not wait for the end of a large table."""
    cancel = Cancel()
    cancel.set()
    with pytest.raises(StoppedError):
        list(replace(PackedDump(DUMP).parts, cancel=cancel).plain(0, None))


@pytest.mark.parametrize("codec", [GZIP, ZSTD], ids=str)
def test_memory_is_flat(codec: Codec) -> None:
    """A large table takes no more memory than a small one, and neither does what is passed over before it."""
    row = b"0123456789abcdef" * 8 + b"\n"
    packed = PackedDump(dump_of([(b"a", row * 200_000), (b"b", row * 200_000)]), (), codec)
    found = block(packed, "b")
    tracemalloc.start()
    try:
        total = sum(map(len, packed.parts.block(found)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == found.head_bytes + found.row_bytes
    assert peak < 6 << 20
