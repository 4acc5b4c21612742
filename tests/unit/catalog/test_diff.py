"""What changed between two backups, from what their manifests tell."""

from __future__ import annotations

from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from hubbackup.catalog.backup import BackupName
from hubbackup.catalog.diff import Content, State, TableContent, content_of, diff, summary
from hubbackup.catalog.index import DumpIndex
from hubbackup.dump.copy_blocks import CopyBlock
from hubbackup.streams.codecs import Member
from tests.support.backups import manifest_of

NAME = BackupName("hub", datetime(2026, 2, 8, 3))
TABLES = st.dictionaries(
    st.sampled_from(["public.a", "public.b", "s.a", 'public."x y"']),
    st.builds(TableContent, st.integers(0, 3), st.none(), st.sampled_from([(), ("1",), ("2",), ("1", "2")])),
)
CONTENTS = st.builds(Content, TABLES, st.sampled_from(["", "xxh3-128", "hmac-1"]))


def content(kind: str = "xxh3-128", /, **tables: tuple[int, str]) -> Content:
    """Tables of the schema public, each with its rows and digest."""
    found = {f"public.{name}": TableContent(rows, 9, (digest,)) for name, (rows, digest) in tables.items()}
    return Content(found, kind)


def test_the_sentence_of_a_night() -> None:
    """The largest changes first, then what only moved, then what is certainly unchanged."""
    before = content(pointages=(1000, "a"), devis=(10, "b"), clients=(5, "c"), photos=(7, "d"), vide=(0, ""))
    after = content(pointages=(1412, "x"), devis=(7, "y"), clients=(5, "z"), photos=(7, "d"), vide=(0, ""))
    assert diff(before, after).sentence() == (
        "pointages +412, devis -3, 1 table changed or moved, 2 tables unchanged"
    )


def test_tables_come_and_go() -> None:
    """With their rows, and said to be new or gone; an empty one too."""
    before, after = content(a=(3, "1"), old=(9, "2")), content(a=(3, "1"), new=(1200, "3"), empty=(0, ""))
    assert diff(before, after).sentence() == "new +1,200 (new), old -9 (gone), empty (new), 1 table unchanged"


def test_nothing_is_certain_without_digests_of_one_kind() -> None:
    """Of sealed files under two keys, or manifests of before the index, only rows are compared."""
    one, other = content(a=(3, "1"), b=(2, "2")), content("hmac-0123", a=(3, "1"), b=(4, "2"))
    assert diff(one, other).sentence() == "b +2, 1 table with as many rows"
    bare = Content.of({"public.a": 3, "public.b": 2})
    assert diff(bare, bare).sentence() == "2 tables with as many rows"


@given(CONTENTS)
def test_a_backup_beside_itself(found: Content) -> None:
    """No difference, whatever is in it."""
    assert diff(found, found).differing == ()


@given(CONTENTS, CONTENTS)
def test_every_table_is_in_one_state(before: Content, after: Content) -> None:
    """None is left out; unchanged only where rows and digests say so; both ways round the same but for the sign."""
    forth, back = diff(before, after), diff(after, before)
    assert {one.table for one in forth.tables} == before.tables.keys() | after.tables.keys()
    assert sum(forth.count(state) for state in State) == len(forth.tables)
    turned = {State.NEW: State.GONE, State.GONE: State.NEW}
    for one, other in zip(forth.tables, back.tables, strict=True):
        assert (one.more, turned.get(one.state, one.state)) == (-other.more, other.state)
        if one.state is State.UNCHANGED and one.after:
            assert before.tables[one.table] == after.tables[one.table]
            assert before.digest_kind == after.digest_kind != ""


def test_ten_thousand_tables_have_a_short_sentence() -> None:
    """However many change, and however long their names are; what a terminal obeys in a name is only shown."""
    names = [f'public."{"q" * 58}{number:05}\n\x1b[2J"' for number in range(10_000)]
    before = Content({name: TableContent(0) for name in names})
    after = Content({name: TableContent(number) for number, name in enumerate(names)})
    text = diff(before, after).sentence()
    assert len(text) < 1000
    assert text.isprintable()
    assert text.endswith("more, 1 table unchanged")
    assert text.startswith(f'"{"q" * 58}09999\\n\\x1b[2J" +9,999, ')


def test_a_manifest_tells_the_blocks_of_a_table_together() -> None:
    """A table may have several; an index that is not valid tells nothing."""
    blocks = (CopyBlock("public.a", 10, 5, 4, 2, "11"), CopyBlock("public.a", 30, 5, 4, 1, "22"))
    index = DumpIndex((Member(0, 0),), blocks, 10, 42)
    manifest = manifest_of(NAME, b"x", rows={"public.a": 3}, index=index.to_text())
    assert content_of(manifest) == Content({"public.a": TableContent(3, 24, ("11", "22"))}, "xxh3-128")
    assert summary(manifest, manifest) == "1 table unchanged"
    spoiled = manifest.model_copy(update={"index": "spoiled"})
    assert summary(spoiled, manifest) == "1 table with as many rows"
