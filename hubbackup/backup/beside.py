"""What is read from the server while the dump streams, so that it costs a backup no time: roles, materialized views.

The Docker engine starts one command after another in a container, 50 ms each: the dump's comes first.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

from hubbackup.errors import HubbackupError
from hubbackup.postgres.client import DatabaseProperties
from hubbackup.postgres.materialized_views import COUNT_SQL, counts_of
from hubbackup.postgres.session import Connection, dump_globals, sql
from hubbackup.runners import Runner

WithGlobals = Literal["true", "false", "with-passwords"]


@dataclass
class SharedGlobals:
    """What the first database of a run has read of the server's roles, for the others; empty until then."""

    text: str = ""


@dataclass
class Beside:
    """Two readings, one after the other in a thread of their own, from `start` on. Leaving waits for them."""

    runner: Runner
    connection: Connection
    properties: DatabaseProperties
    with_globals: WithGlobals
    shared: SharedGlobals | None = None
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="beside"))
    _globals: Future[tuple[str, HubbackupError | None]] | None = None
    _views: Future[dict[str, int | None]] | None = None

    def start(self) -> None:
        """Begin; a second call, of a dump that was begun again, changes nothing."""
        if self._globals is None:
            self._globals = self._pool.submit(self._read_globals)
            self._views = self._pool.submit(self._count_views)

    def globals(self) -> tuple[str, HubbackupError | None]:
        """The server's roles and memberships, or why they are lacking: the backup is good without, and says so."""
        return self._globals.result() if self._globals is not None else ("", None)

    def materialized_views(self) -> dict[str, int | None]:
        """What they hold; the backup is good without."""
        return self._views.result() if self._views is not None else {}

    def _read_globals(self) -> tuple[str, HubbackupError | None]:
        if self.with_globals == "false":
            return "", None
        if self.shared is not None and self.shared.text:
            return self.shared.text, None
        options = [] if self.with_globals == "with-passwords" else ["--no-role-passwords"]
        try:
            text = dump_globals(self.runner, self.connection, self.properties.database, options)
        except HubbackupError as error:
            return "", error
        if self.shared is not None:
            self.shared.text = text
        return text, None

    def _count_views(self) -> dict[str, int | None]:
        if not self.properties.has_materialized_views:
            return {}
        try:
            answer = sql(self.runner, self.connection, self.properties.database, COUNT_SQL, own_settings=True)
            return counts_of(answer, self.properties.encoding)
        except (HubbackupError, ValueError):
            return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()
