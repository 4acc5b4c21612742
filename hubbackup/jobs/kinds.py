"""The kinds of runs, all of them, in one place: what is said of each kind can forget none."""

from __future__ import annotations

from typing import Literal, get_args

RunKind = Literal[
    "backup",
    "drill",
    "schema_drill",
    "verify",
    "repair",
    "prune",
    "restore",
    "recover",
    "undo",
    "pin",
    "unpin",
    "accept",
    "adopt",
    "lifecycle",
]
"""A job's kind is one of them, which the type checker holds."""
KINDS: tuple[RunKind, ...] = get_args(RunKind)
