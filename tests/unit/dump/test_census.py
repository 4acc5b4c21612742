"""The census counts what psql would load, and proves no dump that psql could not read to its end."""

from __future__ import annotations

import hashlib
import itertools
import re
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubbackup.dump.census import Census, DumpFacts
from hubbackup.errors import NotProvenError

KEY = "d36UNlnvcBPCiwpu0eaqnHvUZ56hBj7VQN3489DgDbcoQmLQhie7NbH6Ak78hax"
VIEW = "CREATE VIEW public.v AS\n SELECT"
TRAILER = "--\n-- PostgreSQL database dump complete\n--\n\n"


def dump(body: str, *, key: str = KEY, end: str | None = None) -> bytes:
    r"""A dump as pg_dump writes it, around `body`; without `\restrict` where `key` is empty."""
    head = "--\n-- PostgreSQL database dump\n--\n\n"
    head += f"\\restrict {key}\n\n" if key else ""
    head += "-- Dumped from database version 17.6 (Debian 17.6-1.pgdg12+1)\n"
    head += "-- Dumped by pg_dump version 18beta1\n\n"
    tail = "\n" + TRAILER + (f"\\unrestrict {key}\n\n" if key else "")
    return (head + body + (tail if end is None else end)).encode()


def facts(data: bytes, cuts: list[int] | None = None) -> DumpFacts:
    """The census of `data`, fed in chunks that end at `cuts`."""
    census = Census()
    edges = [0, *sorted(set(cuts or [])), len(data)]
    for start, end in itertools.pairwise(edges):
        census.feed(data[start:end])
    return census.finish()


def copy(name: str, rows: list[str], columns: str = "(a, b)") -> str:
    """A COPY block with `rows`, each already in COPY's text format."""
    return f"COPY {name} {columns} FROM stdin;\n" + "".join(f"{row}\n" for row in rows) + "\\.\n\n\n"


def quoted(text: str) -> str:
    """A string, as with standard_conforming_strings on."""
    return "'" + text.replace("'", "''") + "'"


# -- what is counted


def test_counts_rows_of_each_block_and_tells_the_versions() -> None:
    """Every COPY block is a table; an empty one counts 0; rows of a table without columns are empty lines."""
    body = copy("public.users", ["1\tx", "2\t\\N"]) + copy("public.empty", []) + copy("public.z", ["", ""], "")
    data = dump(body)
    found = facts(data)
    assert [block.table for block in found.blocks] == ["public.users", "public.empty", "public.z"]
    assert found == DumpFacts(
        plain_bytes=len(data),
        rows={"public.users": 2, "public.empty": 0, "public.z": 2},
        server_version="17.6",
        pg_dump_version="18beta1",
        extensions=(),
        large_objects=0,
        table_count=0,
        meta_commands=(),
        schema_digest=hashlib.sha256().hexdigest(),
        blocks=found.blocks,
        data_start=found.blocks[0].offset,
        data_end=found.blocks[-1].end,
    )


def test_counts_tables_extensions_and_large_objects() -> None:
    """Tables of each kind count, views don't; extensions lose their quotes; a large object counts once."""
    found = facts(
        dump(
            "CREATE TABLE public.a (\n    id integer\n);\nCREATE UNLOGGED TABLE public.b (\n);\n"
            "CREATE FOREIGN TABLE public.c (\n    id integer\n)\nSERVER s;\n"
            "CREATE TABLE public.p (\n    id integer\n)\nPARTITION BY RANGE (id);\n"
            "CREATE VIEW public.v AS\n SELECT 'CREATE TABLE x ();'::text AS y;\n"
            "CREATE MATERIALIZED VIEW public.m AS\n SELECT 1\n  WITH NO DATA;\n"
            'CREATE EXTENSION IF NOT EXISTS "uuid-ossp" WITH SCHEMA public;\n'
            "CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public;\n"
            "SELECT pg_catalog.lo_create('16403');\nSELECT pg_catalog.lo_create('16404');\n"
            "BEGIN;\n\nSELECT pg_catalog.lo_open('16403', 131072);\n"
            "SELECT pg_catalog.lowrite(0, '\\xabab');\nSELECT pg_catalog.lo_close(0);\n\nCOMMIT;\n"
        )
    )
    assert found.table_count == 4
    assert found.extensions == ("uuid-ossp", "pg_trgm")
    assert found.large_objects == 2


def test_meta_commands_are_listed_but_for_restrict() -> None:
    """A backslash outside of quotes is a command to psql wherever it stands, so restore can refuse it."""
    body = f"\\unrestrict {KEY}\n\\connect app\n\\restrict {KEY}\n\n{VIEW} 1 \\! rm -rf /\n;\n"
    assert facts(dump(body)).meta_commands == ("\\connect app", "\\! rm -rf /")


def test_meta_commands_are_bounded() -> None:
    """A hostile dump can't fill the memory with commands, and none is cut before it is looked at."""
    assert facts(dump("\\! x\n" * 1000)).meta_commands == ("\\! x",) * 100
    assert len(facts(dump("\\" + "y" * 4000 + "\n")).meta_commands[0]) == 4001
    with pytest.raises(NotProvenError, match="a backslash command of more than 4096 bytes"):
        facts(dump("\\" + "y" * 10_000 + "\n"))


@pytest.mark.parametrize(
    "name",
    [
        "public.users",
        '"My Schema"."t""x"',
        '"a\nb"."x FROM stdin;"',
        '"(;\'$$--/*".t$1',
        'public."\\."',
        "ünï.t",
    ],
)
def test_names_stay_as_pg_dump_quotes_them(name: str) -> None:
    """A quoted name may hold anything."""
    assert facts(dump(copy(name, ["1\t2"]))).rows == {name: 1}
    assert facts(dump(copy(name, ["1"], ""))).rows == {name: 1}


def test_names_in_another_encoding_keep_their_bytes() -> None:
    """A LATIN1 dump has names that are not UTF-8."""
    data = dump(copy('public."NAME"', ["1"])).replace(b"NAME", b"\xe9")
    (name,) = facts(data).rows
    assert name.encode("utf-8", "surrogateescape") == b'public."\xe9"'


def test_a_long_column_list_hides_no_copy() -> None:
    """PostgreSQL allows 1600 columns, with names of 63 quotes each."""
    columns = "(" + ", ".join('"' + '""' * 63 + '"' for _ in range(1600)) + ")"
    assert facts(dump(copy("public.wide", ["1"], columns))).rows == {"public.wide": 1}


# -- text that looks like something else

FAKE = f"\nCOPY public.fake (a) FROM stdin;\n1\n\\.\n{TRAILER}CREATE TABLE fake ();\n\\connect fake\n"
FAKE_ESCAPED = FAKE.replace("\\", "\\\\")

DISGUISES = {
    "string": f"COMMENT ON TABLE public.a IS {quoted(FAKE)};\n",
    "string that ends in a backslash": f"{VIEW} 'a\\';\n",
    "escape string": f"{VIEW} E'it\\'s {FAKE_ESCAPED}\\\\';\n",
    "escape string, doubled quote": f"{VIEW} E'a''b\\'{FAKE_ESCAPED}';\n",
    "word that ends in e": f"{VIEW} type'a\\';\n",
    "bits": f"{VIEW} B'101'::\"bit\", X'1F', N'a\\';\n",
    "dollar quote": f"CREATE FUNCTION f() RETURNS int\n    LANGUAGE sql\n    AS $_${FAKE}$$ $x$ $_$;\n",
    "untagged dollar quote": f"CREATE FUNCTION f() RETURNS int AS $$ ' \" -- /* $a {FAKE} $$;\n",
    "dollars in words": f"{VIEW} a$b$c, x$$, $1, $2::int, é$q$;\n",
    "line comment": "-- ' \" $$ /* COPY public.fake FROM stdin;\n",
    "quoted name": f'CREATE SCHEMA "{FAKE}";\n',
    "operators": f"{VIEW} 1 - -2 / 3 * 4 @- 5, '{{}}'::jsonb -> 'a' ->> 'b', 6-7;\n",
    "operator, then comment": f"{VIEW} 1+--'\n2;\n",
    "numbers": f"{VIEW} 1, 1.5, .5, 1e+20, 1.5e-7, 2e10 FROM f($1) a1;\n",
    "colons": f"{VIEW} a[1:n], a[1:2], a[:'x'], b::text, b := 'c', d[1:\"end\"];\n",
    "standard SQL body": (
        "CREATE FUNCTION public.f(x integer) RETURNS integer\n    LANGUAGE sql\n    BEGIN ATOMIC\n SELECT\n"
        '         CASE\n             WHEN (x > 0) THEN 1\n             ELSE 2\n         END AS "case";\n'
        ' SELECT copy FROM stdin;\n SELECT (CASE WHEN true THEN 1 END), "end";\nEND;\n'
    ),
    "function that is named begin": "CREATE FUNCTION public.begin() RETURNS int\n    AS $$select 1$$;\n",
    "rule": "CREATE RULE r AS\n    ON INSERT TO public.a DO ALSO ( COPY x FROM stdin;\n SELECT 2;\n);\n",
}


@pytest.mark.parametrize("text", DISGUISES.values(), ids=DISGUISES.keys())
def test_disguises_change_no_count(text: str) -> None:
    """Nothing inside of a string, name, comment or body is taken for a statement, wherever chunks are cut."""
    data = dump(text + copy("public.real", ["1", "2"]))
    expected = facts(data)
    assert (expected.rows, expected.table_count, expected.meta_commands) == ({"public.real": 2}, 0, ())
    assert facts(data, list(range(len(data)))) == expected
    for cut in range(len(data)):
        assert facts(data, [cut]) == expected


def test_strings_follow_standard_conforming_strings() -> None:
    """With the setting off, as a database may have it, a backslash escapes the quote in any string."""
    body = "SET standard_conforming_strings = off;\nCOMMENT ON TABLE a IS 'x\\\\';\n"
    body += f"{VIEW} 'it\\'s';\n"
    bits = f"{VIEW} B'1\\', X'\\';\n"
    assert facts(dump(body + bits + copy("a", ["1"]))).rows == {"a": 1}
    assert facts(dump(body + copy("a", ["1"]))).rows == {"a": 1}
    with pytest.raises(NotProvenError, match="ends inside a string"):
        facts(dump(body.replace("= off", "= on")))


@pytest.mark.parametrize("row", ["\\\\.", "x\\.", "\\.\\.", " \\.", "\\. ", "\\\\N\t\\.", "a\\\\"])
@pytest.mark.parametrize("filler", ["1", "x" * 120], ids=["narrow", "wide"])
def test_look_alikes_of_the_end_of_rows_are_rows(row: str, filler: str) -> None:
    r"""Only a line that is exactly `\.` ends a block, wherever chunks are cut, in narrow and in wide rows."""
    data = dump(copy("t", [row, filler, row] + [filler] * 100 + [row]) + copy("u", [filler]))
    expected = facts(data)
    assert expected.rows == {"t": 104, "u": 1}
    assert facts(data, list(range(len(data)))) == expected


# -- what is not proven


def test_every_cut_raises() -> None:
    """No proper prefix of a dump is proven, however often the trailer's words stand in it."""
    rows = ["1\t" + TRAILER.replace("\n", "\\n"), "2\t\\N"]
    data = dump("".join(DISGUISES.values()) + copy("public.a", rows))
    facts(data)
    for cut in range(len(data)):
        with pytest.raises(NotProvenError):
            facts(data[:cut])


@pytest.mark.parametrize("key", ["", KEY])
@pytest.mark.parametrize(
    ("opening", "closing", "where"),
    [
        (f"{VIEW} '", "';", "a string"),
        (f"{VIEW} E'", "';", "a string"),
        ("CREATE FUNCTION f() RETURNS int AS $a$", "$a$;", "a dollar-quoted string"),
        (f'{VIEW} "', '";', "a quoted name"),
        ("COPY public.a (b) FROM stdin;\n", "\n\\.\n", "the rows of public.a"),
        (f"{VIEW} ", ";", "a statement"),
        ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1;", "END;", "a statement"),
        ("CREATE RULE r AS ON INSERT TO a DO (SELECT 1;", ");", "a statement"),
    ],
)
def test_the_trailer_inside_of_something_proves_nothing(opening: str, closing: str, where: str, key: str) -> None:
    """A dump whose last bytes equal the trailer, but stand inside of something, says what it ends in."""
    with pytest.raises(NotProvenError, match=f"ends inside {where}"):
        facts(dump(opening, key=key))
    facts(dump(f"{opening}{closing}\n", key=key))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b"\n" + dump(""), "does not start with"),
        (dump("").replace(b"-- Dumped by", b"-- "), "does not start with"),
        (dump("", end=""), "before pg_dump's last words"),
        (dump("") + b"COMMIT;\n", "before pg_dump's last words"),
        (dump("") + b"-- x\n", "before pg_dump's last words"),
        (dump("", end="\n" + TRAILER), "do not pair up"),
        (dump("", end="\n" + TRAILER + "\\unrestrict other\n\n"), "do not pair up"),
        (dump("", key="", end="\n" + TRAILER + "\\unrestrict other\n\n"), "do not pair up"),
        (dump("\\restrict other\n"), "do not pair up"),
        (dump(f"\\unrestrict {KEY}\n"), "do not pair up"),
        (dump("\\restrict other\n", key=""), "do not pair up"),
        (dump("COPY public.a FROM '/etc/passwd';\n"), "COPY statement"),
        (dump("COPY public.a FROM stdin WITH (FORMAT csv);\n1\n\\.\n"), "COPY statement"),
        (dump("COPY public.a FROM stdin; SELECT 1;\n1\n\\.\n"), "does not end its line"),
        (dump("x" * 3_000_000 + ";\n"), "a word of more than 1 MiB"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_whole_dump_raises(data: bytes, why: str) -> None:
    """Each failing names its reason, and the next step."""
    with pytest.raises(NotProvenError, match=re.escape(why)) as raised:
        facts(data, list(range(0, len(data), 65536)))
    assert raised.value.remedy


def test_blank_space_after_the_end_is_no_matter() -> None:
    """What an editor may have added."""
    assert facts(dump(copy("a", ["1"])) + b" \n\n").rows == {"a": 1}


def test_memory_is_bounded() -> None:
    """A literal, a comment, a name or a row of many megabytes passes by; a memoryview is as good as bytes."""
    big = b"ab" * (1 << 19)
    start, end = dump("@").split(b"@")
    bodies = [
        (b"SELECT pg_catalog.lowrite(0, '\\x", b"');\n"),
        (b"CREATE VIEW v AS SELECT E'", b"';\n"),
        (b"CREATE FUNCTION f() RETURNS int AS $$", b"$$;\n"),
        (b"-- ", b"\n"),
        (b'CREATE VIEW v AS SELECT "', b'";\n'),
        (b"COPY t FROM stdin;\n", b"\n\\.\n"),
    ]
    census = Census()
    tracemalloc.start()
    try:
        census.feed(start)
        for opening, closing in bodies:
            census.feed(memoryview(opening))
            for _ in range(12):
                census.feed(memoryview(big))
            census.feed(memoryview(closing))
        census.feed(end)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert census.finish().rows == {"t": 1}
    assert peak < 4 * len(big)


# -- a model: statements as pg_dump would write them, with the counts that they should give

NASTY = st.lists(
    st.sampled_from([*"aE1_ \n\r\t'\"\\$.;()-/*é", TRAILER, "\\.\n", "COPY x FROM stdin;\n", "$$", "$a$", "END"]),
    max_size=12,
).map("".join)


def copy_value(text: str) -> str:
    """A value as COPY's text format writes it."""
    for raw, escaped in (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = text.replace(raw, escaped)
    return text


def quoted_name(text: str) -> str:
    """A name between double quotes."""
    return '"' + text.replace('"', '""') + '"'


def dollar_quoted(text: str) -> str:
    """As pg_dump has it: a tag that does not occur in the text."""
    tag = "$"
    while tag in text:
        tag += "_x"
    return f"{tag}${text}{tag}$"


def comment(text: str) -> str:
    """A comment of pg_dump's, which replaces line ends in names."""
    return "\n--\n-- Name: " + re.sub(r"[\r\n]", " ", text) + "; Type: TABLE\n--\n\n"


def copy_block(name: str, rows: list[list[str | None]]) -> tuple[str, int, str]:
    """A table with its rows, None being NULL."""
    full = f"public.{quoted_name(name)}"
    lines = ["\t".join("\\N" if v is None else copy_value(v) for v in row) for row in rows]
    return full, len(rows), copy(full, lines, f"({quoted_name(name)})")


SQL = st.one_of(
    NASTY.map(lambda text: f"COMMENT ON TABLE public.a IS {quoted(text)};\n"),
    NASTY.map(lambda text: f"{VIEW} E" + quoted(text.replace("\\", "\\\\")) + ";\n"),
    NASTY.map(lambda text: f"CREATE FUNCTION public.f() RETURNS int\n    AS {dollar_quoted(text)};\n"),
    NASTY.map(lambda text: f"GRANT SELECT ON TABLE x$y$z TO {quoted_name(text)}, a$b$;\n"),
    NASTY.map(comment),
)
TABLES = st.builds(copy_block, NASTY, st.lists(st.lists(st.none() | NASTY, min_size=1, max_size=3), max_size=6))


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(SQL.map(lambda sql: ("", 0, sql)) | TABLES, max_size=8), data=st.data())
def test_agrees_with_the_model_at_any_cut(parts: list[tuple[str, int, str]], data: st.DataObject) -> None:
    """Whatever statements and rows hold: the model's counts, however chunks are cut, and no prefix proven."""
    expected: dict[str, int] = {}
    for name, rows, _ in parts:
        if name:
            expected[name] = expected.get(name, 0) + rows
    whole = dump("".join(text for _, _, text in parts), key=data.draw(st.sampled_from(["", KEY])))
    found = facts(whole, data.draw(st.lists(st.integers(0, len(whole)), max_size=20)))
    assert found.rows == expected
    assert found == facts(whole) == facts(whole, list(range(len(whole))))
    with pytest.raises(NotProvenError):
        facts(whole[: data.draw(st.integers(0, len(whole) - 1))])
