"""The plan of a load against golden files: a dump's statements give this order, and nothing else is looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbackup.dump.census import Census, DumpFacts
from hubbackup.load.dump_text import DumpReading, DumpText, Text
from hubbackup.load.plan import Build, ForeignKey, Plan, TableLoad, copy_statement, next_foreign_key
from hubbackup.load.schedule import plan_of

PLANS = Path(__file__).parent / "plans"
CASES = sorted(PLANS.glob("*.sql"))
HEAD = b"""--
-- PostgreSQL database dump
--

-- Dumped from database version 18.1
-- Dumped by pg_dump version 18.1

"""
TAIL = b"\n--\n-- PostgreSQL database dump complete\n--\n\n"


def read(dump: bytes, text: DumpText, chunk: int = 1 << 16) -> tuple[DumpReading, DumpFacts]:
    """As the proof reads it."""
    reading = DumpReading(text)
    census = Census(on_statement=reading.on_statement)
    for start in range(0, len(dump), chunk):
        census.feed(dump[start : start + chunk])
    return reading, census.finish()


def rendered(plan: Plan, text: DumpText, dump: bytes) -> str:
    """All of a plan, in words and statements."""
    if plan.whole:
        return f"whole: {plan.whole}\n"

    def said(texts: tuple[Text, ...]) -> str:
        return b"".join(text.chunks(texts)).decode()

    def built(word: str, builds: tuple[Build, ...]) -> Iterator[str]:
        for build in builds:
            yield f"  {word} {build.name} ({build.cost}): " + " ".join(said((build.text,)).split())

    def loaded(word: str, loads: tuple[TableLoad, ...]) -> Iterator[str]:
        for load in loads:
            blocks = " ".join(f"{block.offset}+{block.rows}" for block in load.blocks)
            yield f"{word} {load.table} [{blocks}] {'frozen' if load.freeze else f'not frozen: {load.why_not}'}"
            yield from built("build", load.builds)
            yield from built("then", load.then)

    lines = ["-- opening", plan.opening().decode().rstrip(), "-- pre", said(plan.pre).rstrip(), "-- loads"]
    lines += [*loaded("first", plan.first), *loaded("load", plan.loads), *loaded("last", plan.last), "-- data"]
    lines += [dump[each.start : each.end].decode().rstrip() for each in plan.data]
    lines += ["-- foreign keys"]
    for key in plan.foreign_keys:
        lines.append(f"{key.name} ({key.cost}) {sorted(key.tables)}: " + " ".join(said((key.text,)).split()))
    lines += ["-- rest", said(plan.rest).rstrip(), "-- serial"]
    lines += [f"{each.what}: {each.why}" for each in plan.serial]
    return "\n".join(line for line in lines if line) + "\n"


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_a_plan(case: Path) -> None:
    """What runs when, for one dump; UPDATE_GOLDEN=1 writes it anew, to be read."""
    dump = HEAD + case.read_bytes() + TAIL
    with DumpText() as text:
        reading, facts = read(dump, text)
        told = rendered(plan_of(reading, facts), text, dump)
    golden = case.with_suffix(".plan")
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(told)
    assert told == golden.read_text()


@given(st.integers(1, 200), st.sampled_from(CASES))
def test_chunks_do_not_matter(chunk: int, case: Path) -> None:
    """However the dump comes, the plan is the same."""
    dump = HEAD + case.read_bytes() + TAIL
    with DumpText() as text:
        reading, facts = read(dump, text, chunk)
        assert rendered(plan_of(reading, facts), text, dump) == case.with_suffix(".plan").read_text()


@given(st.lists(st.frozensets(st.sampled_from("abcdef"), min_size=1, max_size=2), max_size=12), st.integers(1, 4))
def test_foreign_keys_at_once_share_no_table(tables: list[frozenset[str]], sessions: int) -> None:
    """Of those that run at any moment no two lock the same table, and each one gets its turn."""
    waiting = [ForeignKey(str(number), Text(0, 0), each, 0) for number, each in enumerate(tables)]
    running: list[ForeignKey] = []
    done = []
    while waiting or running:
        key = next_foreign_key(waiting, running) if len(running) < sessions else None
        if key is None:
            done.append(running.pop(0))  # with nothing running one could always start
            continue
        waiting.remove(key)
        running.append(key)
        locked = [table for each in running for table in each.tables]
        assert len(locked) == len(set(locked))
    assert len(done) == len(tables)


def test_a_frozen_copy() -> None:
    """Only the end of the statement changes, whatever a table's name looks like."""
    head = b'COPY public."a FROM stdin;\n" (i) FROM stdin;\n'
    assert copy_statement(head, freeze=True) == b'COPY public."a FROM stdin;\n" (i) FROM stdin WITH (FREEZE true);\n'
    assert copy_statement(head, freeze=False) == head


def test_the_path_that_functions_need() -> None:
    """Each session begins with the settings in force, and the search_path that takes the place of pg_dump's."""
    with DumpText() as text:
        reading, facts = read(HEAD + (PLANS / "application.sql").read_bytes() + TAIL, text)
        opening = plan_of(reading, facts).opening("public, 'x'")
    assert b"SELECT pg_catalog.set_config('search_path', 'public, ''x''', false);\n" in opening
    assert b"transaction_timeout" not in opening


TABLES = ("plain", "other", "parted", "part", "abroad", "of_extension")
PRE = b"""\
SET default_tablespace = '';
CREATE FUNCTION public.looks(integer) RETURNS integer
    LANGUAGE sql IMMUTABLE
    AS $$ SELECT id FROM public.plain; $$;
CREATE TABLE public.plain (
    id integer
);
CREATE TABLE public.other (
    id integer
);
CREATE TABLE public.parted (
    id integer
)
PARTITION BY RANGE (id);
CREATE TABLE public.part (
    id integer
);
CREATE FOREIGN TABLE public.abroad (
    id integer
)
SERVER far;
ALTER TABLE ONLY public.parted ATTACH PARTITION public.part FOR VALUES FROM ('1') TO ('5');
COPY public.other (id) FROM stdin;
1
\\.
COPY public.part (id) FROM stdin;
1
2
\\.
COPY public.plain (id) FROM stdin;
\\.
"""
FORMS = (
    'CREATE INDEX "{0}" ON public.{1} USING btree (id);',
    'CREATE INDEX "{0}" ON ONLY public.{1} USING gin (id);',
    'CREATE UNIQUE INDEX "{0}" ON public.{1} USING btree (id) WHERE (id > 3);',
    'CREATE INDEX "{0}" ON public.{1} USING btree (public.looks(id));',
    'ALTER TABLE ONLY public.{1}\n    ADD CONSTRAINT "{0}" PRIMARY KEY (id);',
    'ALTER TABLE ONLY public.{1}\n    ADD CONSTRAINT "{0}" UNIQUE (id) DEFERRABLE;',
    'ALTER TABLE ONLY public.{1}\n    ADD CONSTRAINT "{0}" EXCLUDE USING gist (id WITH =);',
    'ALTER TABLE ONLY public.{1}\n    ADD CONSTRAINT "{0}" FOREIGN KEY (id) REFERENCES public.{2}(id);',
    'ALTER TABLE public.{1}\n    ADD CONSTRAINT "{0}" CHECK ((id > 0)) NOT VALID;',
    'CREATE TRIGGER "{0}" BEFORE INSERT ON public.{1} FOR EACH ROW EXECUTE FUNCTION public.f();',
    "COMMENT ON TABLE public.{1} IS 'CREATE INDEX \"{0}\" ON public.{1} USING btree (id);';",
    "SET default_tablespace = 'fast';",
    "CREATE VIEW public.v{0} AS\n SELECT 1;",
)


@st.composite
def post_data(draw: st.DrawFn) -> list[str]:
    names = [f'"{name}"' if "'" in name else name for name in TABLES]
    made = draw(
        st.lists(st.tuples(st.sampled_from(FORMS), st.sampled_from(names), st.sampled_from(names)), max_size=15)
    )
    return [form.format(number, table, other) for number, (form, table, other) in enumerate(made)]


@given(post_data())
def test_every_statement_once_and_where_it_may_be(statements: list[str]) -> None:
    """Each statement of the post-data is carried out exactly once; what is not safe by itself keeps the dump's order,
    and no foreign key runs before what it refers to."""
    dump = HEAD + PRE + "".join(f"{each}\n" for each in statements).encode() + TAIL
    with DumpText() as text:
        reading, facts = read(dump, text)
        plan = plan_of(reading, facts)
        built = [(load.table, build.name) for load in plan.tables for build in (*load.builds, *load.then)]
        keys = [key.name for key in plan.foreign_keys]
        rest = b"".join(text.chunks(plan.rest)).decode()
    names = {name for _, name in built} | set(keys)
    assert len(keys) == len(set(keys))
    expected = [each for each in statements if not any(f' "{name[1:-1]}" ' in each for name in names)]
    expected += [each for each in statements if each.startswith("COMMENT") and each not in expected]
    kept = [each for each in statements if each in expected]
    assert rest == "".join(f"{each}\n" for each in kept)
    assert all(table.removeprefix("public.") in ("plain", "other", "part") for table, _ in built)
    late = {each.split("public.")[1].split()[0] for each in kept if "PRIMARY" in each or "UNIQUE" in each}
    at_once = [each for each in statements if "FOREIGN KEY" in each and each not in kept]
    assert all(each.split("REFERENCES public.")[1].split("(")[0] not in late for each in at_once)
