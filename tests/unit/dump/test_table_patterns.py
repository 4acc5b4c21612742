"""pg_dump's patterns: the regular expressions that pg_dump makes of them, and the pattern of one table alone."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbackup.config.patterns import table_patterns
from hubbackup.dump.table_patterns import pattern_of, table_pattern

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=63)


@pytest.mark.parametrize(
    ("text", "schema", "name"),
    [
        ("Logs", None, "^(logs)$"),
        ("log_*", None, "^(log_.*)$"),
        ("archive.*", "^(archive)$", "^(.*)$"),
        ('"Arch.ive".l?g', "^(Arch\\.ive)$", "^(l.g)$"),
        ('"a""b*"', None, '^(a"b\\*)$'),
        ("(a|b)[0-9]+", None, "^((a|b)[0-9]+)$"),
        ("cost$", None, "^(cost\\$)$"),
        ("É", None, "^(É)$"),
    ],
)
def test_a_pattern_means_what_it_means_to_pg_dump(text: str, schema: str | None, name: str) -> None:
    """As its documentation has it: letters are folded, * ? and . are special, and nothing is in double quotes."""
    found = table_pattern(text)
    assert (found.schema, found.name) == (schema, name)


@given(NAMES, NAMES)
def test_the_pattern_of_a_table_matches_that_table(schema: str, table: str) -> None:
    """Whatever is in a name: quotes, dots, letters of regular expressions."""
    written = pattern_of(schema.encode(), table.encode(), "UTF8")
    found = table_pattern(written)
    assert found.schema is not None
    assert re.fullmatch(found.schema, schema, re.DOTALL)
    assert re.fullmatch(found.name, table, re.DOTALL)
    if written.isprintable():
        assert table_patterns(written) == (written,)


def test_a_name_in_another_encoding_is_written_in_ascii() -> None:
    """Each letter by its number, so that no other table matches; of an unknown encoding each byte."""
    assert pattern_of(b"public", b"\xe9t\xe9", "LATIN1") == '"public".""[\\xe9]"t"[\\xe9]""'
    assert pattern_of(b"public", b'a"\xc6\xfc', "EUC_JP") == '"public"."a"""[\\xc6fc]""'
    assert pattern_of(b"public", "é".encode(), "SQL_ASCII") == '"public".""[\\xc3]""[\\xa9]""'


def test_a_list_is_divided_at_its_commas() -> None:
    """But for those in quotes, in brackets, and in a repetition."""
    assert table_patterns(' log_*, "a, ""b", t[0,9]{1,2} ,,') == ("log_*", '"a, ""b"', "t[0,9]{1,2}")
    assert table_patterns("") == ()
    for wrong in ('"a', "a.b.c", ".a", "a.", "a\0"):
        with pytest.raises(ValueError, match="has a"):
            table_patterns(wrong)
