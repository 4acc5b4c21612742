"""The planner's statistics of a new database, gathered beside its load instead of after it.

A load keeps one of the server's processes busy, so that ANALYZE of the tables that are full already costs no time.
It is only a head start: whatever was not seen whole, or gets something to be analyzed later, is analyzed at the end.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

from hubbackup.dump.identifiers import literal
from hubbackup.errors import HubbackupError, InternalError
from hubbackup.load.analyze_sql import HEAD_START, ONE, PORTION, REST_SQL
from hubbackup.postgres.conversation import Conversation
from hubbackup.postgres.databases import Databases
from hubbackup.postgres.pins import KEEP_PATH, OUR_PATH, OWN_PATH
from hubbackup.streams.cancel import TICK_SECONDS, Cancel

LOAD_SUFFIX = "-load"
"""Ends the application name of the session that loads: the head start lasts as long as that session."""
SINCE_MAJOR = 12
"""ANALYZE (SKIP_LOCKED) came with it; a COMMIT inside DO with the one before."""
SEEN, LEFT = "hubbackup.analyzed", "hubbackup.later"
"""The tables that were analyzed whole, and those that are left to the end."""
AGAIN_SECONDS = 1.0
"""Until those are tried again that were locked, by the building of an index as a rule."""
FIRST_OID = 16384
"""Of what is not PostgreSQL's own."""
PORTION_BYTES = 8 << 20
PORTION_TABLES = 100
"""A portion ends with the table that brings it to so many bytes, or tables."""
IN_OWN_PATH = f"DO {literal(f'BEGIN {OWN_PATH} END')};\n"
"""For the statements that follow, the search_path that the database gives its users."""
NO_TABLE = ""
"""Put behind the full ones when the load has ended."""
WORTH_ROWS = 10_000
"""A table of fewer rows is left for the end."""


class Statistics(threading.Thread):
    """Start it when the load starts, tell it when the load has ended, and ask what came of it.

    It finds out by itself which tables are full, one after the other in the dump's order; or it `is_told`.
    """

    def __init__(
        self,
        databases: Databases,
        database: str,
        rows: Mapping[str, int],
        encoding: str,
        server_major: int,
        *,
        is_told: bool = False,
    ) -> None:
        """`rows` by table in the dump's order, names in `encoding`, as `DumpFacts` has them."""
        super().__init__(name="statistics", daemon=True)
        self._databases = databases
        self._database = database
        self._rows = {table: count for table, count in rows.items() if count}
        self._encoding = encoding
        self._known_how = server_major >= SINCE_MAJOR
        self._is_told = is_told
        self._full: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._loaded = threading.Event()
        self._abandoned = False
        self._error: HubbackupError | None = None

    def full(self, table: str) -> None:
        """That table has its rows and indexes. Only where it `is_told`."""
        if self._rows.get(table, 0) >= WORTH_ROWS:
            self._full.put(table)

    def loaded(self) -> None:
        """All of the dump is there."""
        self._loaded.set()
        self._full.put(NO_TABLE)

    def abandon(self) -> None:
        """The database is of no use: what is not analyzed yet stays so. Its drop, if any, ends the sessions in it."""
        self._abandoned = True
        self.loaded()

    def wait(self, cancel: Cancel) -> None:
        """Wait for the last table; raises what stopped the gathering."""
        while self.is_alive():
            cancel.check()
            self.join(TICK_SECONDS)
        if self._error is not None:
            raise self._error

    def run(self) -> None:
        try:
            with contextlib.closing(_Session(self._talk)) as session:
                if not self._known_how:
                    self._loaded.wait()
                    if not self._abandoned:
                        session.afresh()
                        session.say(f"{IN_OWN_PATH}ANALYZE;")
                elif self._is_told:
                    self._beside_several(session)
                else:
                    self._beside_one(session)
        except Exception as error:  # noqa: BLE001 - raised by `wait`
            self._error = error if isinstance(error, HubbackupError) else InternalError(error)

    def _talk(self) -> AbstractContextManager[Conversation]:
        return self._databases.talk(self._database, self._encoding)

    def _beside_one(self, session: _Session) -> None:
        """A head start, as long as one session loads, then the others."""
        seen: list[str] = []
        while self._rows and not self._loaded.is_set():
            seen += self._head_start(session)
            if self._rows:
                self._loaded.wait(AGAIN_SECONDS)
        self._loaded.wait()
        if not self._abandoned:
            self._analyze(session, self._rest(session, seen))

    def _beside_several(self, first: _Session) -> None:
        """Each table once it is full, in the first session; what is left when the load has ended, in a second one,
        too, for which what is at work then is not waited for."""
        begun: list[str] = []
        with ThreadPoolExecutor(1, "statistics") as pool, contextlib.closing(_Session(self._talk)) as second:
            answer = pool.submit(self._of_full, first, begun)
            self._loaded.wait()
            if self._abandoned:
                return
            taken = list(begun)
            try:
                portions = self._rest(second, taken)
            except HubbackupError:  # there is no room for a second one
                answer.result()
                portions = self._rest(first, taken)
            other = pool.submit(self._analyze, first, portions)
            failed: BaseException | None = None
            try:
                self._analyze(second, portions)
            except HubbackupError as error:
                failed = error
            failed = other.exception() or failed
            if failed is not None and not portions.empty():  # else the other one has done it all
                raise failed
            if unseen := set(taken) - set(answer.result()):
                second.say(IN_OWN_PATH + "".join(f"ANALYZE {table};\n" for table in sorted(unseen)))

    def _head_start(self, session: _Session) -> list[str]:
        """The tables that were analyzed whole, which the next call leaves out. One that fails has seen none."""
        tables = list(self._rows)
        body = HEAD_START.format(
            tables=_array(tables),
            rows=f"ARRAY[{', '.join(map(str, self._rows.values()))}]::float8[]",
            suffix=LOAD_SUFFIX,
            seen=SEEN,
            left=LEFT,
            own=OWN_PATH,
            ours=OUR_PATH,
        )
        try:
            answer = self._tried(session, body, "100ms")
        except HubbackupError:
            self._loaded.wait()
            return []
        seen, left = ([tables[int(number) - 1] for number in line.split()] for line in answer)
        for table in (*seen, *left):
            del self._rows[table]
        return seen

    def _of_full(self, session: _Session, begun: list[str]) -> list[str]:
        """Analyze those that are full, until the load ends; adds each to `begun`, and returns what it has seen."""
        seen = []
        while (table := self._full.get()) != NO_TABLE and not self._loaded.is_set():
            begun.append(table)
            body = ONE.format(table=literal(table), seen=SEEN, own=OWN_PATH, ours=OUR_PATH)
            try:
                answer = self._tried(session, body, "10s")
            except HubbackupError:  # what is not seen is analyzed in the end, and tells then what is wrong
                continue
            if "yes" in answer:
                seen.append(table)
        return seen

    def _rest(self, session: _Session, seen: Sequence[str]) -> queue.SimpleQueue[Sequence[int]]:
        """All tables but what was `seen`, the largest first: in portions, by their oids."""
        session.afresh()
        (answer,) = session.say(REST_SQL.format(seen=_array(seen), first_oid=FIRST_OID))
        portions: queue.SimpleQueue[Sequence[int]] = queue.SimpleQueue()
        portion: list[int] = []
        portion_bytes = 0
        for number, table_bytes in json.loads(answer):
            portion.append(number)
            portion_bytes += table_bytes
            if portion_bytes >= PORTION_BYTES or len(portion) == PORTION_TABLES:
                portions.put(portion)
                portion, portion_bytes = [], 0
        portions.put(portion)
        return portions

    def _analyze(self, session: _Session, portions: queue.SimpleQueue[Sequence[int]]) -> None:
        """Take portions, beside whoever else does, until there is none; one that fails is put back."""
        session.afresh()
        with contextlib.suppress(queue.Empty):
            while True:
                portion = portions.get_nowait()
                body = PORTION.format(numbers=", ".join(map(str, portion)), own=OWN_PATH, ours=OUR_PATH)
                try:
                    session.say(f"DO {literal(body)};")
                except BaseException:
                    portions.put(portion)
                    raise

    def _tried(self, session: _Session, body: str, lock_timeout: str) -> list[str]:
        """What it says of the tables that it has seen whole, and of those that it leaves, a line each."""
        settings = f"SET lock_timeout = '{lock_timeout}';\nSET {SEEN} = '';\nSET {LEFT} = '';"
        asked = "\n".join(f"SELECT current_setting('{name}');" for name in (SEEN, LEFT))
        return session.say(f"{settings}\nDO {literal(body)};\n{asked}")


class _Session:
    """One that analyzes: opened once there is something to say, and anew after it was lost."""

    def __init__(self, talk: Callable[[], AbstractContextManager[Conversation]]) -> None:
        self._talk = talk
        self._open = contextlib.ExitStack()
        self._conversation: Conversation | None = None

    def say(self, text: str) -> list[str]:
        """As `Conversation.say`."""
        try:
            if self._conversation is None:
                self._conversation = self._open.enter_context(self._talk())
                self._conversation.say(KEEP_PATH)
            return self._conversation.say(text)
        except BaseException as error:
            self._conversation = None
            self._open.__exit__(type(error), error, error.__traceback__)
            raise

    def afresh(self) -> None:
        """Wait for locks from here on; where the session was ended meanwhile, the next words open another one."""
        with contextlib.suppress(HubbackupError):
            self.say("SET lock_timeout = 0;")

    def close(self) -> None:
        """End it."""
        self._conversation = None
        self._open.close()


def _array(names: Iterable[str]) -> str:
    return f"ARRAY[{', '.join(map(literal, names))}]::text[]"
