"""The plan of a load against golden files: a dump's statements give this order, and nothing else is looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbackup.postgres.census import Census, DumpFacts
from hubbackup.restore.dump_text import DumpReading, DumpText, Text
from hubbackup.restore.plan import Build, ForeignKey, Plan, TableLoad, copy_statement, next_foreign_key
from hubbackup.restore.schedule import plan_of

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
