"""Loaders: what brings a proven dump into an empty database. `serial` has one session, `parallel` several."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from hubbackup.jobs.run import Run
from hubbackup.load.proof import DumpProof
from hubbackup.load.psql_compat import Dialect
from hubbackup.postgres.session import Connection
from hubbackup.runners import Runner
from hubbackup.verify.source import Source


def ignore(table: str) -> None:
    """Nobody is told."""


@dataclass(frozen=True)
class Load:
    """What is to be loaded, and where to."""

    run: Run
    runner: Runner
    connection: Connection
    database: str
    source: Source
    proof: DumpProof
    dialect: Dialect
    on_full: Callable[[str], None] = ignore
    """Told of each table that is full and has its indexes, by its name in the dump."""
    relay_told: threading.Lock = field(default_factory=threading.Lock)
    """Taken for good by the session that says for all of them that rows are relayed."""

    @property
    def row_bytes(self) -> int:
        """All tables' rows, as the dump has them."""
        return sum(block.row_bytes for block in self.proof.facts.blocks)


class Loader(Protocol):
    """Loads all of a dump, or raises."""

    def __call__(self, load: Load) -> list[int]:
        """Load it, and demand that psql got to its end; returns how many rows each COPY brought, in the dump's order.

        Caller's duty: drop the database where it raises. Raises HubbackupError.
        """
        ...
