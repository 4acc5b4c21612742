"""Remedies as whoever reads this process's answer can type them. Light: it is loaded before any command."""

from __future__ import annotations

from collections.abc import Callable

from hubbackup.config.reader import Reader, at_terminal

_find_reader: Callable[[], Reader] = at_terminal


def typable(text: str) -> str:
    """`text` with its commands as they are typed where its reader stands."""
    return _find_reader().typable(text)


def read_by(find_reader: Callable[[], Reader]) -> None:
    """From now on the reader is the one that `find_reader` gives: settings tell more than the environment alone."""
    global _find_reader
    _find_reader = find_reader
