"""A part of a backup: whose rows stay, and which foreign keys may not hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hubbackup.dump.copy_blocks import CopyBlock
from hubbackup.load.part import Part, PartReading

SECTIONS = st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=9), st.booleans()), max_size=6)


@given(SECTIONS, st.binary(max_size=5), st.lists(st.integers(1, 7)))
def test_only_rows_of_others_are_left_out(
    sections: list[tuple[bytes, bytes, bool]], end: bytes, cuts: list[int]
) -> None:
    """Whatever chunks the dump comes in: what is no row of another table is there, in its order, and nothing else."""
    blocks, plain, wanted = [], b"", b""
    for number, (before, rows, kept) in enumerate(sections):
        plain += before
        blocks.append(CopyBlock(f"{'kept' if kept else 'other'}{number}", len(plain), 0, len(rows), 1, ""))
        plain += rows
        wanted += before + (rows if kept else b"")
    plain, wanted = plain + end, wanted + end
    chunks, position = [], 0
    for size in [*cuts, len(plain)]:
        chunks.append(plain[position : position + size])
        position += size
    kept_tables = frozenset(block.table for block in blocks if block.table.startswith("kept"))
    part = Part((), kept_tables, tuple(blocks), (), False, "UTF8")
    assert b"".join(part.without_rows(chunk for chunk in chunks if chunk)) == wanted


def test_foreign_keys_that_may_not_hold() -> None:
    """Those of a table whose rows come, to one whose rows don't; its comment goes with it, whatever the names are."""
    reading = PartReading()
    statements = [
        b'ALTER TABLE ONLY public."a b"\n    ADD CONSTRAINT "x FOREIGN KEY (" FOREIGN KEY (i, "(j") REFERENCES'
        b' public."b;"(i, j);\n',
        b'COMMENT ON CONSTRAINT "x FOREIGN KEY (" ON public."a b" IS \'; REFERENCES\';\n',
        b"ALTER TABLE ONLY public.c\n    ADD CONSTRAINT y FOREIGN KEY (i) REFERENCES public.c(i) NOT VALID;\n",
        b"ALTER TABLE ONLY public.c\n    ADD CONSTRAINT z UNIQUE (i);\n",
    ]
    for statement in statements:
        reading.add(statement)
    [key, own] = reading.foreign_keys.values()
    assert key.statements == tuple(statements[:2])
    assert key.references == b'public."b;"'
    part = Part((), frozenset({'public."a b"', "public.c"}), (), (key,), False, "UTF8")
    assert [part.leaves_out(statement, b"") for statement in statements] == [True, True, False, False]
    assert part.leaves_out(b"REFRESH MATERIALIZED VIEW public.v", b"")
    assert own.references == b"public.c"
