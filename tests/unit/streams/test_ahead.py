"""What is asked ahead is there when it is wanted, and troubles nobody who does not want it."""

from __future__ import annotations

import threading

import pytest

from hubbackup.errors import EngineError
from hubbackup.streams.ahead import ahead


def test_the_answer_is_waited_for() -> None:
    """And the question was asked beside whoever wants it."""
    go_on = threading.Event()
    answer = ahead("question", lambda: go_on.wait(10) and threading.current_thread().name)
    assert not answer.done()
    go_on.set()
    assert answer.result(10) == "question"


def test_an_error_is_raised_where_the_answer_is_wanted() -> None:
    """Not where it arose, and as often as it is asked for."""

    def fail() -> None:
        raise EngineError("the engine does not answer")

    answer = ahead("question", fail)
    for _ in range(2):
        with pytest.raises(EngineError, match="does not answer"):
            answer.result(10)
