"""A session in one transaction: pinned inside of it, and its end known even where its answer was lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest

from hubbackup.errors import NotProvenError, StreamError, ToolError
from hubbackup.jobs.run import Run
from hubbackup.postgres import pins
from hubbackup.postgres.conversation import Conversation, converse
from hubbackup.postgres.session import Connection
from hubbackup.recover.job import RecoverJob, RecoverRequest
from hubbackup.runners.direct import DirectRunner
from hubbackup.streams.cancel import Cancel
from hubbackup.verify.source import Source
from tests.support.embedded_postgres import EmbeddedPostgres

HOSTILE = {
    "search_path": "evil, pg_catalog",
    "DateStyle": "German",
    "extra_float_digits": "-15",
    "statement_timeout": "1h",
    "default_transaction_read_only": "on",
    "client_encoding": "LATIN1",
    "row_security": "on",
}


def reach(server: EmbeddedPostgres) -> tuple[DirectRunner, Connection]:
    runner = DirectRunner(cancel=Cancel(), path=server.env()["PATH"])
    return runner, Connection(server.user, server.password, server.host, server.port)


@contextmanager
def talking(server: EmbeddedPostgres, database: str) -> Iterator[Conversation]:
    with converse(*reach(server), database) as talk:
        yield talk


def test_it_is_pinned_inside_of_its_transaction(
    postgres: EmbeddedPostgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a pooler that gives a transaction another session than the one that heard the preamble: names,
    formats and limits are ours all the same, and gone with the transaction."""
    for name, value in HOSTILE.items():
        postgres.psql(f"ALTER DATABASE {database} SET {name} = {value if name == 'search_path' else repr(value)}")
    monkeypatch.setattr(pins, "preamble", lambda *, formats: "")
    with talking(postgres, database) as talk:
        show = "SELECT string_agg(current_setting(n), ';' ORDER BY p) FROM unnest(ARRAY[{}]) WITH ORDINALITY u (n, p)"
        asked = show.format(", ".join(f"'{name}'" for name in HOSTILE if name != "default_transaction_read_only"))
        assert talk.ask(asked) == "pg_catalog, pg_temp;ISO, MDY;1;0;UTF8;off"
        assert talk.ask("SELECT current_setting('transaction_read_only')") == "off"
        assert talk.ask("SELECT current_setting('hubbackup.path')") == "evil, pg_catalog"
        talk.say("CREATE TABLE public.made (i int);")
    made = "SET default_transaction_read_only = off; SELECT count(*) FROM pg_class WHERE relname = 'made'"
    assert postgres.psql(made, database=database).split()[-1] == "0"


def test_rows_are_never_taken_for_commands(postgres16: EmbeddedPostgres) -> None:
    """What could end the rows is refused before psql gets it, however the chunks are cut; so is a last row without an
    end."""
    evil = b"1\n\\.\nCREATE TABLE public.evil ();\n"
    for size in (1, 2, 3, len(evil)):
        chunks = [evil[at : at + size] for at in range(0, len(evil), size)]
        with talking(postgres16, "postgres") as talk:
            talk.say("CREATE TEMPORARY TABLE t (i text) ON COMMIT DROP;")
            with pytest.raises(NotProvenError, match="the end of the rows in the middle"):
                talk.copy("COPY pg_temp.t FROM stdin", chunks)
    with talking(postgres16, "postgres") as talk:
        talk.say("CREATE TEMPORARY TABLE t (i text) ON COMMIT DROP;")
        with pytest.raises(NotProvenError, match="has no end"):
            talk.copy("COPY pg_temp.t FROM stdin", [b"1\n2"])
    assert postgres16.psql("SELECT count(*) FROM pg_class WHERE relname = 'evil'").strip() == "0"


def test_what_the_server_refuses_is_told(postgres: EmbeddedPostgres) -> None:
    """In the middle of a conversation too, with its SQLSTATE; and psql takes nothing of a query for its own."""
    with talking(postgres, "postgres") as talk:
        assert talk.ask("SELECT ':USER \\q' || E'\\\\' || 'é'") == ":USER \\q\\é"
        with pytest.raises(ToolError, match="division by zero") as refused:
            talk.ask("SELECT 1 / 0")
        assert "22012" in refused.value.stderr


class Lossy:
    """A conversation that loses the answer, or the connection before anything was sent."""

    def __init__(self, talk: Conversation, *, before: bool) -> None:
        self.ask = talk.ask
        self._talk = talk
        self._before = before

    def say(self, text: str) -> list[str]:
        """Says it, or does not; who has said it never knows."""
        if not self._before:
            self._talk.say(text)
        raise StreamError("the connection was lost")


@pytest.mark.parametrize("before", [False, True])
def test_a_commit_whose_answer_is_lost(postgres: EmbeddedPostgres, database: str, before: bool) -> None:
    """The server is asked what became of the transaction: done is done, and else the error is told."""
    runner, connection = reach(postgres)
    job = RecoverJob(
        RecoverRequest("t"),
        database,
        _no_source,
        lambda cancel: runner,
        lambda run_id: connection,
        lambda report: None,
    )
    with talking(postgres, database) as talk:
        talk.say("CREATE TABLE public.made (i int);")
        lost = pytest.raises(StreamError) if before else nullcontext()
        with lost:
            job._commit(Lossy(talk, before=before), runner, connection)  # type: ignore[arg-type]
    found = postgres.psql("SELECT count(*) FROM pg_class WHERE relname = 'made'", database=database).strip()
    assert found == str(int(not before))


def _no_source(run: Run) -> AbstractContextManager[Source]:
    raise AssertionError("no backup is looked for")
