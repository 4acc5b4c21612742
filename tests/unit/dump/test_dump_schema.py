"""What of a dump is schema: one digest for one schema, whatever the data, and the text that makes it again."""

from __future__ import annotations

import pytest

from hubbackup.dump.census import Census

SCHEMA = """\
SET standard_conforming_strings = on;
CREATE TABLE public.t (
    id integer NOT NULL, -- a comment of somebody
    name text DEFAULT 'a;b'::text
);
CREATE FUNCTION public.f() RETURNS integer
    LANGUAGE sql
    AS $$ select 1; -- not a comment of the dump's
$$;
GRANT SELECT ON TABLE public.t TO app;
"""
POST = "CREATE INDEX i ON public.t USING btree (name);\n"
ROWS = "COPY public.t (id, name) FROM stdin;\n1\tx\n\\.\n\n\n"


def dump(body: str, *, key: str = "K1", version: str = "17.6") -> bytes:
    """A whole dump of pg_dump `version`."""
    return (
        f"--\n-- PostgreSQL database dump\n--\n\n\\restrict {key}\n\n-- Dumped from database version {version}\n"
        f"-- Dumped by pg_dump version {version}\n\n{body}--\n-- PostgreSQL database dump complete\n--\n\n"
        f"\\unrestrict {key}\n\n"
    ).encode()


def read(data: bytes, step: int = 1 << 20) -> tuple[str, list[str]]:
    """The digest and the statements of its schema."""
    statements: list[bytes] = []
    census = Census(statements.append)
    for start in range(0, len(data), step):
        census.feed(data[start : start + step])
    return census.finish().schema_digest, [statement.decode() for statement in statements]


DATA = {
    "other rows": ROWS.replace("1\tx", "2\ty\n3\tz"),
    "no rows": "",
    "a sequence's position": "SELECT pg_catalog.setval('public.s', 42, true);\n" + ROWS,
    "a large object": "SELECT pg_catalog.lo_create('16391');\nALTER LARGE OBJECT 16391 OWNER TO app;\n"
    "COMMENT ON LARGE OBJECT 16391 IS 'x';\nGRANT ALL ON LARGE OBJECT 16391 TO a;\n"
    "REVOKE ALL ON LARGE OBJECT 16391 FROM app;\nBEGIN;\n\n"
    "SELECT pg_catalog.lo_open('16391', 131072);\nSELECT pg_catalog.lowrite(0, '\\x00');\n"
    "SELECT pg_catalog.lo_close(0);\n\nCOMMIT;\n\n" + ROWS,
    "statistics": "SELECT * FROM pg_catalog.pg_restore_relation_stats('version', '180000'::integer);\n" + ROWS,
    "comments": "\n--\n-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: app\n--\n\n" + ROWS,
}


@pytest.mark.parametrize("data", DATA.values(), ids=DATA.keys())
def test_data_changes_no_digest(data: str) -> None:
    """Nor do keys, versions and comments; and of the data nothing is in the schema's text."""
    digest, statements = read(dump(SCHEMA + ROWS + POST))
    other, others = read(dump(SCHEMA + data + POST, key="K2", version="17.7"))
    assert other == digest
    assert others == statements
    assert statements == [
        "SET standard_conforming_strings = on;\n",
        "CREATE TABLE public.t (\n    id integer NOT NULL, \n    name text DEFAULT 'a;b'::text\n);\n",
        SCHEMA[SCHEMA.index("CREATE FUNCTION") : SCHEMA.index("GRANT")],
        "GRANT SELECT ON TABLE public.t TO app;\n",
        POST,
    ]


CHANGES = {
    "a body": SCHEMA.replace("select 1", "select 2"),
    "a default": SCHEMA.replace("'a;b'", "'a;c'"),
    "a right": SCHEMA.replace("TO app", "TO public"),
    "a statement less": SCHEMA.replace("SET standard_conforming_strings = on;\n", ""),
    "two statements for one": SCHEMA + "GRANT SELECT ON TABLE public.t TO b;\n",
}


@pytest.mark.parametrize("schema", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_of_the_schema_changes_the_digest(schema: str) -> None:
    """Wherever it is, also inside of strings and bodies."""
    assert read(dump(schema + ROWS + POST))[0] != read(dump(SCHEMA + ROWS + POST))[0]


def test_chunks_may_be_cut_anywhere() -> None:
    """The digest and the text are the same."""
    data = dump(SCHEMA + DATA["a large object"] + POST)
    found = {(digest, tuple(text)) for digest, text in (read(data, step) for step in range(1, 80))}
    assert found == {(read(data)[0], tuple(read(data)[1]))}
