"""The planner's statistics of a new database, gathered beside its load instead of after it.

A load keeps one of the server's processes busy, so that ANALYZE of the tables that are full already costs no time.
It is only a head start: whatever was not seen whole, or gets something to be analyzed later, is analyzed at the end.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from hubbackup.dump.identifiers import literal
from hubbackup.errors import HubbackupError
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

HEAD_START = """
DECLARE
    tables text[] := {tables};
    wanted float8[] := {rows};
    started timestamptz := clock_timestamp();
    loading boolean;
    was_loading boolean := false;
    full_now boolean;
    number int := 1;
    found regclass;
    name text;
BEGIN
    LOOP
        SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                       AND application_name = current_setting('application_name') || '{suffix}') INTO loading;
        was_loading := was_loading OR loading;
        WHILE number <= cardinality(tables) LOOP
            full_now := true;
            BEGIN
                found := to_regclass(tables[number]);
                name := found;
                SELECT coalesce(pg_relation_size(found), 0) > 0 AND NOT EXISTS (SELECT FROM pg_locks
                    WHERE relation = found AND mode = 'RowExclusiveLock' AND database =
                    (SELECT oid FROM pg_database WHERE datname = current_database())) INTO full_now;
                IF full_now AND EXISTS (SELECT FROM pg_inherits WHERE found IN (inhrelid, inhparent)) THEN
                    PERFORM set_config('{left}', current_setting('{left}') || number || ' ', false);
                ELSIF full_now THEN
                    {own}
                    EXECUTE format('ANALYZE (SKIP_LOCKED) %s', name);
                    {ours}
                    IF (SELECT abs(reltuples - wanted[number]) <= wanted[number] / 10 FROM pg_class WHERE oid = found)
                    THEN
                        PERFORM set_config('{seen}', current_setting('{seen}') || number || ' ', false);
                    END IF;
                END IF;
            EXCEPTION WHEN OTHERS THEN NULL;
            END;
            EXIT WHEN NOT full_now;
            number := number + 1;
            COMMIT;
        END LOOP;
        EXIT WHEN number > cardinality(tables) OR NOT loading AND was_loading
               OR clock_timestamp() > started + CASE WHEN loading THEN interval '60 s' ELSE interval '5 s' END;
        COMMIT;
        PERFORM pg_sleep(0.05);
    END LOOP;
END
"""
"""The tables are filled one after the other, in the dump's order. Nothing here waits for a lock for longer than it
takes PostgreSQL to look for a deadlock, and each table is let go at once: the load is never the one that is ended."""

OF_FULL = """
DECLARE
    tables text[] := {tables};
    name text;
BEGIN
    FOR number IN 1 .. cardinality(tables) LOOP
        BEGIN
            name := to_regclass(tables[number]);
            IF name IS NOT NULL THEN
                {own}
                EXECUTE format('ANALYZE %s', name);
                {ours}
                PERFORM set_config('{seen}', current_setting('{seen}') || number || ' ', false);
            END IF;
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
        COMMIT;
    END LOOP;
END
"""
"""Tables that a parallel load has done with, but for foreign keys: each is locked for a moment only."""

REMAINDER = """
DECLARE
    found regclass;
    name text;
BEGIN
    FOR found IN
        SELECT oid::regclass FROM (
            SELECT c.oid, row_number()
                OVER (ORDER BY pg_relation_size(c.oid) * (c.oid >= {first_oid})::int DESC, c.oid)
            FROM pg_class c WHERE relkind IN ('r', 'm', 'p') AND NOT relispartition
                AND relpersistence <> 't' AND (c.oid NOT IN (SELECT to_regclass(s) FROM unnest({seen}) s)
                    OR EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indexprs IS NOT NULL)
                    OR EXISTS (SELECT FROM pg_statistic_ext WHERE stxrelid = c.oid)
                    OR EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid))) AS each
        WHERE row_number % {sessions} = {session}
    LOOP
        name := found;
        {own}
        EXECUTE format('ANALYZE %s', name);
        {ours}
        COMMIT;
    END LOOP;
END
"""
"""What ANALYZE without a name takes, the catalogs included; a partitioned table brings its partitions along. The
largest tables go to the sessions in turn; what the catalogs' own sizes are changes meanwhile, and does not count."""
FIRST_OID = 16384
"""Of what is not PostgreSQL's own."""


SESSIONS = 2
"""Analyze what is left after a parallel load."""
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
        self._turn = threading.Event()
        """Set once the load has ended, and once the tables at work are analyzed."""
        self._abandoned = False
        self._error: HubbackupError | None = None

    def full(self, table: str) -> None:
        """That table has its rows and indexes. Only where it `is_told`."""
        if self._rows.get(table, 0) >= WORTH_ROWS:
            self._full.put(table)

    def loaded(self) -> None:
        """All of the dump is there."""
        self._loaded.set()
        self._turn.set()
        self._full.put(NO_TABLE)

    def abandon(self) -> None:
        """The database is to be dropped, which ends the session in it."""
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
            if not self._known_how:
                self._loaded.wait()
                if not self._abandoned:
                    self._sql("ANALYZE;")
            elif self._is_told:
                self._beside_several()
            else:
                self._beside_one()
        except HubbackupError as error:
            self._error = error

    def _beside_one(self) -> None:
        """A head start, as long as one session loads, then the others."""
        seen: list[str] = []
        while self._rows and not self._loaded.is_set():
            seen += self._head_start()
            if self._rows:
                self._loaded.wait(AGAIN_SECONDS)
        self._loaded.wait()
        if not self._abandoned:
            self._remainder(seen)

    def _beside_several(self) -> None:
        """Each table once it is full; then the others, beside those that are still at work when the load ends."""
        seen: list[str] = []
        at_work: list[str] = []
        with ThreadPoolExecutor(1, "statistics") as pool:
            answer: Future[list[str]] = Future()
            while not self._loaded.is_set():
                if at_work := self._full_by_now():
                    answer = pool.submit(self._of_full, at_work)
                    answer.add_done_callback(lambda _: self._turn.set())
                    while not (answer.done() or self._loaded.is_set()):
                        self._turn.wait()
                        self._turn.clear()
                    if answer.done():
                        seen += answer.result()
                        at_work = []
            if self._abandoned:
                return
            self._remainder([*seen, *at_work], 1 if at_work else SESSIONS)
            if at_work and (unseen := set(at_work) - set(answer.result())):
                self._sql("".join(f"ANALYZE {table};\n" for table in sorted(unseen)))

    def _remainder(self, seen: Sequence[str], count: int = 1) -> None:
        """All but what was `seen`, by so many sessions."""
        bodies = [
            REMAINDER.format(
                seen=_array(seen), own=OWN_PATH, ours=OUR_PATH, first_oid=FIRST_OID, sessions=count, session=session
            )
            for session in range(count)
        ]
        with ThreadPoolExecutor(count, "statistics") as pool:
            for answer in [pool.submit(self._sql, f"DO {literal(body)};") for body in bodies]:
                answer.result()

    def _head_start(self) -> list[str]:
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
        seen, left = self._analyzed(tables, body, "100ms")
        for table in (*seen, *left):
            del self._rows[table]
        return seen

    def _full_by_now(self) -> list[str]:
        """Those that are full and not analyzed yet. The first is waited for, or the end of the load."""
        tables = [self._full.get()]
        with contextlib.suppress(queue.Empty):
            while True:
                tables.append(self._full.get_nowait())
        return [table for table in tables if table != NO_TABLE]

    def _of_full(self, tables: Sequence[str]) -> list[str]:
        """Those of the tables that were analyzed whole."""
        body = OF_FULL.format(tables=_array(tables), seen=SEEN, own=OWN_PATH, ours=OUR_PATH)
        return self._analyzed(tables, body)[0]

    def _analyzed(self, tables: Sequence[str], body: str, lock_timeout: str = "10s") -> list[list[str]]:
        """Those that were analyzed whole, and those that are left to the end."""
        settings = f"SET lock_timeout = '{lock_timeout}';\nSET {SEEN} = '';\nSET {LEFT} = '';"
        asked = "\n".join(f"SELECT current_setting('{name}');" for name in (SEEN, LEFT))
        try:
            answer = self._sql(f"{settings}\nDO {literal(body)};\n{asked}")
        except HubbackupError:
            self._loaded.wait()
            return [[], []]
        return [[tables[int(number) - 1] for number in line.split()] for line in answer.splitlines()]

    def _sql(self, text: str) -> str:
        return self._databases.sql(KEEP_PATH + text, self._database, self._encoding, own_settings=True)


def _array(names: Iterable[str]) -> str:
    return f"ARRAY[{', '.join(map(literal, names))}]::text[]"
