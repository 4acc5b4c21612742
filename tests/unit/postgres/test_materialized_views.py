"""Rows of materialized views, before and after: a difference is said, and nothing that was not counted is."""

from __future__ import annotations

from hubbackup.postgres.materialized_views import counts_of, differences


def test_an_answer_in_the_databases_encoding() -> None:
    """Names are bytes of it."""
    answer = '{"public.été": 3, "public.gone": null}'.encode("latin-1").hex()
    assert counts_of(answer, "LATIN1") == {"public.été": 3, "public.gone": None}


def test_differences() -> None:
    """Only where both were counted."""
    before = {"a": 3, "b": 3, "c": None, "d": 4, "e": 5}
    after = {"a": 3, "b": 2, "c": 1, "d": None}
    (said,) = differences(before, after)
    assert said.startswith("the materialized view b has 2 rows, at the backup it had 3: it was out of date then")
