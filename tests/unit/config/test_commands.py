"""Commands of the operator's: divided as a shell does it, and nothing else of a shell."""

from __future__ import annotations

import pytest

from hubbackup.config.commands import Command, command


def test_a_command_is_words_and_a_place() -> None:
    """Quotes hold words together, variables and pipes are words like others, `local:` says where."""
    assert command("") == Command()
    assert command("psql -c 'SELECT 1' | $HOME") == Command(("psql", "-c", "SELECT 1", "|", "$HOME"))
    assert command(' local:/bin/x "a b" ') == Command(("/bin/x", "a b"), local=True)
    assert not command("  ")


@pytest.mark.parametrize("wrong", ["local:", "local:  ", "sh -c 'x", '""', "a\0b"])
def test_what_is_no_command_is_refused(wrong: str) -> None:
    """With the end of a sentence."""
    with pytest.raises(ValueError, match=r"has a|names no"):
        command(wrong)
