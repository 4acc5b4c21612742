"""What statements make, by their own words: names may hold anything, a comment decides nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbackup.dump.statement_kinds import Attached, Code, Constraint, Index, Statement, Table, Trigger, read

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=20)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("CREATE UNLOGGED TABLE public.t (\n    i integer\n);", Table("public.t", False, False)),
        ("CREATE FOREIGN TABLE public.t (\n)\nSERVER far;", Table("public.t", True, False)),
        ("CREATE TABLE public.t (\n    i integer\n)\nPARTITION BY RANGE (i);", Table("public.t", False, True)),
        ("CREATE TABLE public.t OF public.k\nPARTITION BY HASH (i);", Table("public.t", False, True)),
        (
            "ALTER TABLE ONLY public.t ATTACH PARTITION a.p FOR VALUES IN (1);",
            Attached("public.t", "a.p", False),
        ),
        ("ALTER INDEX public.i ATTACH PARTITION a.p;", Attached("public.i", "a.p", True)),
        ("CREATE OR REPLACE VIEW public.v AS\n SELECT 1;", Code("VIEW", "public.v")),
        ("CREATE CAST (text AS integer) WITH FUNCTION public.f(text);", Code("CAST", "")),
        ("CREATE CONSTRAINT TRIGGER t AFTER INSERT ON a.b NOT DEFERRABLE;", Trigger("a.b", "t")),
        ('CREATE TRIGGER t BEFORE UPDATE OF a, "x ON c.d" ON a.b FOR EACH ROW;', Trigger("a.b", "t")),
        ("CREATE STATISTICS public.s ON a, b FROM public.t;", None),
        ("CREATE INDEX i ON t USING btree (a);", None),  # pg_dump writes the schema, always
        ("-- CREATE INDEX i ON public.t USING btree (a);", None),
        ("ALTER TABLE public.t CLUSTER ON i;", None),
        ("ALTER TABLE ONLY public.t ALTER COLUMN a SET DEFAULT ' ADD CONSTRAINT x PRIMARY KEY ';", None),
    ],
)
def test_what_is_made(text: str, made: Statement | None) -> None:
    """Each kind by its head; what has another form is no known statement."""
    assert read(text.encode()) == made


@given(NAMES, NAMES, NAMES, NAMES)
def test_names_do_not_mislead(schema: str, table: str, name: str, column: str) -> None:
    """Whatever names hold, each is read whole, and nothing in one is taken for a word of the statement."""
    t, n, c = f"{quoted(schema)}.{quoted(table)}", quoted(name), quoted(column)
    index = read(f"CREATE UNIQUE INDEX {n} ON ONLY {t} USING gist ({c});".encode())
    assert isinstance(index, Index)
    assert (index.table, index.name, index.unique, index.only, index.method) == (t, n, True, True, "gist")
    key = read(
        f"ALTER TABLE ONLY {t}\n    ADD CONSTRAINT {n} FOREIGN KEY ({c}) REFERENCES {t}({c}) NOT VALID;".encode()
    )
    assert isinstance(key, Constraint)
    assert (key.table, key.name, key.kind, key.other, key.valid) == (t, n, "FOREIGN KEY", t, False)
    check = read(f"ALTER TABLE {t}\n    ADD CONSTRAINT {n} CHECK (({c} <> ' NOT VALID;'::text));".encode())
    assert isinstance(check, Constraint)
    assert check.valid
    trigger = f"CREATE TRIGGER {n} AFTER INSERT OR UPDATE OF {c}, {c} ON {t} FOR EACH ROW EXECUTE FUNCTION a.b();"
    assert read(trigger.encode()) == Trigger(t, n)
