"""Questions at a terminal, and nobody there to answer them."""

from __future__ import annotations

import os
import sys

import pytest

from hubbackup.cli.terminal import ask_for_name, ask_for_word
from hubbackup.errors import UsageError
from hubbackup.streams.cancel import Cancel


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch) -> int:
    """What is written there is typed."""
    reading, writing = os.pipe()
    monkeypatch.setattr(sys, "stdin", os.fdopen(reading))
    return writing


def test_a_question_is_not_open_for_ever(typing: int) -> None:
    """A terminal that was left at a question keeps no lock from the night's backup: nothing is done in the end."""
    with pytest.raises(UsageError, match=r"nobody has answered in 0\.005 minutes, nothing was done"):
        ask_for_word(Cancel(), "Go on? ", "yes", minutes=0.005)


@pytest.mark.parametrize("typed", ["hub\n", " hub \n"])
def test_an_answer_in_time(typing: int, typed: str) -> None:
    """The word itself, with or without blanks around it."""
    os.write(typing, typed.encode())
    ask_for_name(Cancel(), "hub")


@pytest.mark.parametrize("typed", ["yes\n", "HUB\n", "\n"])
def test_another_answer(typing: int, typed: str) -> None:
    """Anything else is no."""
    os.write(typing, typed.encode())
    with pytest.raises(UsageError, match="not confirmed, nothing was done"):
        ask_for_name(Cancel(), "hub")
