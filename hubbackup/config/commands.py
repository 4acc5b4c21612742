"""Commands of the operator's, as the settings have them: words as a shell divides them, and where they run."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

LOCAL = "local:"


@dataclass(frozen=True)
class Command:
    """`argv`; `local`: in hubbackup's own container, not in the database's."""

    argv: tuple[str, ...] = ()
    local: bool = False

    def __bool__(self) -> bool:
        return bool(self.argv)


def command(value: str) -> Command:
    """`local:/path/of/a/program "an argument"`; no shell reads it. Raises ValueError, as the end of a sentence."""
    text = value.strip()
    local = text.startswith(LOCAL)
    try:
        argv = tuple(shlex.split(text.removeprefix(LOCAL)))
    except ValueError as error:
        raise ValueError("has a quote without its other one") from error
    if text and not (argv and argv[0]):
        raise ValueError("names no program")
    if "\0" in text:
        raise ValueError("has a zero byte")
    return Command(argv, local)
