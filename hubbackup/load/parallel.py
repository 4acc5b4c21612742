"""The parallel loader: several sessions, each at another table or another index, as the plan of the load lets them.

Whatever goes wrong in one of them ends them all, and the caller drops the database: nothing of it is ever used.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from hubbackup.dump.copy_blocks import CopyBlock, proven_rows
from hubbackup.dump.dump_rows import END_OF_ROWS
from hubbackup.dump.identifiers import readable
from hubbackup.dump.schema_text import with_path
from hubbackup.dump.without_owners import without_owners
from hubbackup.errors import NotProvenError, StoppedError
from hubbackup.load.board import Board
from hubbackup.load.dump_ranges import Ranges, ranges_of
from hubbackup.load.dump_text import Text
from hubbackup.load.load_session import LoadSession, open_load_session
from hubbackup.load.loader import Load
from hubbackup.load.plan import Build, Plan, TableLoad, copy_statement
from hubbackup.load.tasks import Alone, Fill, Indexes, Script, Stretch, Task, names_of
from hubbackup.streams.cancel import TICK_SECONDS, PartCancel

SHOWN = 4
"""So many names of what is being worked at."""
FROZEN_BYTES = 64 << 10
"""Of rows: for fewer, a new file for the table costs more than frozen rows spare."""


SORT_BYTES = 64 << 20
"""A btree is sorted, and that goes faster in as much memory as a processor's cache holds some of: 1.75 million texts
took 4.5 s with this, 5.8 s with 512 MB. It is PostgreSQL's own default, too."""
WORKER_BYTES = 32 << 20
"""PostgreSQL starts no worker that would have less."""
OTHER_METHOD = re.compile(rb" USING (?!btree\b|INDEX\b)[a-z]")
"""gin, gist and others hold in memory what they build: there, more is better."""


@dataclass(frozen=True)
class ParallelLoader:
    """A contract of `hubbackup.load.loader.Loader`, by `jobs` sessions.

    `memory_bytes`: of each one's maintenance_work_mem. `buffers_input` as `open_psql` has it.
    """

    plan: Plan
    jobs: int
    memory_bytes: int
    buffers_input: bool = False

    def __call__(self, load: Load) -> list[int]:
        part = PartCancel(load.run.cancel)
        ranges = ranges_of(load.source, load.proof, part)
        work = _Work(load, self, ranges, part)
        try:
            work.run()
        except BaseException:
            ranges.abandon()
            raise
        ranges.close()
        return [work.brought[table] for table in load.proof.facts.rows]

    def build(self, statement: bytes, *, is_alone: bool = False) -> bytes:
        """The statement with as much memory as is best for it; where it `is_alone`, with the processors of the other
        sessions."""
        if OTHER_METHOD.search(statement):
            return statement
        workers = self.jobs - 1 if is_alone else 0
        all_bytes = self.memory_bytes * (workers + 1)
        size_bytes = min(max(SORT_BYTES, WORKER_BYTES * (workers + 1)), all_bytes)
        return settings(size_bytes, workers) + statement + settings(self.memory_bytes)


def settings(memory_bytes: int, workers: int = 0) -> bytes:
    """For the next index: the memory that it may take, and workers of the server's beside its session."""
    return b"SET maintenance_work_mem = '%dkB';\nSET max_parallel_maintenance_workers = %d;\n" % (
        memory_bytes >> 10,
        workers,
    )


class _Work:
    """One load: its sessions, and what they have done so far."""

    def __init__(self, load: Load, loader: ParallelLoader, ranges: Ranges, part: PartCancel) -> None:
        self.brought: dict[str, int] = defaultdict(int)
        self._load = load
        self._loader = loader
        self._plan = loader.plan
        self._ranges = ranges
        self._part = part
        self._board = Board(loader.plan, in_order=ranges.in_order)
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._fed_bytes = 0
        self._at_work = loader.jobs
        """So many sessions have not ended yet."""

    def run(self) -> None:
        """Do all of it. Raises HubbackupError, the first one of any session."""
        load = self._load
        threads = [
            threading.Thread(target=self._session, name=f"load-{number}", daemon=True)
            for number in range(self._loader.jobs)
        ]
        with load.run.progress("load", load.proof.facts.plain_bytes) as progress:
            for thread in threads:
                thread.start()
            try:
                while self._at_work:
                    progress(self._fed_bytes, self._now())
                    with self._changed:
                        self._changed.wait_for(lambda: not self._at_work, TICK_SECONDS)
                    load.run.cancel.check()
            except BaseException:
                self._part.set()
                raise
            finally:
                for thread in threads:
                    thread.join()
        if self._error is not None:
            raise self._error

    # in each session's thread

    def _session(self) -> None:
        load = self._load
        dialect = replace(load.dialect, load_path=load.connection.load_path)
        try:
            opening = dialect.opening() + settings(self._loader.memory_bytes)
            with open_load_session(load, self._part, opening, buffers_input=self._loader.buffers_input) as session:
                is_open = False
                while tasks := self._take():
                    if not is_open and not self._is_schema(tasks[0]):
                        session.write(self._plan.opening(load.connection.load_path))
                        is_open = True
                    self._do(session, tasks)
                session.finish()
        except BaseException as error:  # noqa: BLE001 - raised by `run`
            self._fail(error)
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()

    def _is_schema(self, task: Task) -> bool:
        """Whether it sets for itself what all others find set."""
        return isinstance(task, Script) and task.texts is self._plan.pre

    def _take(self) -> list[Task]:
        """Some tasks, waited for; none at the end."""
        with self._changed:
            while not self._board.is_over:
                self._part.check()
                if tasks := self._board.take():
                    return tasks
                self._changed.wait(TICK_SECONDS)
        return []

    def _do(self, session: LoadSession, tasks: Sequence[Task]) -> None:
        blocks: list[CopyBlock] = []
        with self._changed:
            is_alone = self._board.leaves_others_idle(tasks)
        for task in tasks:
            blocks += self._feed(session, task, is_alone=is_alone)
        counts = session.ask()
        if len(counts) != len(blocks):
            raise NotProvenError(f"psql has answered for {len(counts)} COPYs, it was given {len(blocks)}")
        with self._changed:
            for block, count in zip(blocks, counts, strict=True):
                self.brought[block.table] += count
            for task in tasks:
                self._board.done(task)
            full = self._board.take_full()
            self._changed.notify_all()
        for table in full:
            self._load.on_full(table)

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            if self._error is None or isinstance(self._error, StoppedError):
                self._error = error
            self._part.set()
            self._changed.notify_all()

    # what psql is given

    def _feed(self, session: LoadSession, task: Task, *, is_alone: bool) -> list[CopyBlock]:
        """Give it to psql; returns the COPYs whose counts are to come."""
        if isinstance(task, Script):
            session.write(b"RESET max_parallel_maintenance_workers;\n")
            session.feed(self._script(task.texts))
            session.write(settings(self._loader.memory_bytes))
        elif isinstance(task, Stretch):
            for each in task.ranges:
                session.feed(self._kept(self._ranges.read(each.start, each.end)))
        elif isinstance(task, Fill):
            return self._feed_rows(session, task.table)
        elif isinstance(task, Alone):
            blocks = self._feed_rows(session, task.table)
            self._feed_builds(session, (*task.table.builds, *task.table.then), is_alone=is_alone)
            return blocks
        elif isinstance(task, Indexes):
            self._feed_builds(session, task.builds, is_alone=is_alone)
        else:
            session.feed(self._texts([task.text]))
        return []

    def _feed_builds(self, session: LoadSession, builds: Sequence[Build], *, is_alone: bool) -> None:
        for build in builds:
            session.write(self._loader.build(b"".join(self._texts([build.text])), is_alone=is_alone))

    def _feed_rows(self, session: LoadSession, table: TableLoad) -> list[CopyBlock]:
        """A table's rows, and no COMMIT or end of rows before all bytes of them were seen to be what was proven."""
        blocks = [block for block in table.blocks if block.rows]
        freeze = table.freeze and table.row_bytes >= FROZEN_BYTES
        if freeze and blocks:
            session.write(b"BEGIN;\nTRUNCATE ONLY %s;\n" % table.table.encode("utf-8", "surrogateescape"))
        for block in blocks:
            head = b"".join(self._ranges.read(block.offset, block.rows_offset))
            session.write(copy_statement(head, freeze=freeze))
            for piece in self._checked(block):
                session.write(piece)
                self._fed_bytes += len(piece)
            session.write(END_OF_ROWS)
        if freeze and blocks:
            session.write(b"COMMIT;\n")
        return blocks

    def _checked(self, block: CopyBlock) -> Iterator[bytes]:
        """The rows of a block. Raises NotProvenError where they are not those that the proof has read."""
        name = readable(block.table, self._load.proof.encoding)
        rows = self._ranges.read(block.rows_offset, block.rows_end)
        return proven_rows(rows, block, f"{name} in {self._load.source.name}")

    def _script(self, texts: Sequence[Text]) -> Iterator[bytes]:
        """Statements in order, with the load's search_path in the place of pg_dump's empty one."""
        path = self._load.connection.load_path
        chunks = self._texts(texts)
        return self._kept(with_path(chunks, path) if path else chunks)

    def _texts(self, texts: Sequence[Text]) -> Iterator[bytes]:
        reading = self._load.proof.reading
        assert reading is not None  # noqa: S101 - the plan was made of it
        return reading.text.chunks(texts)

    def _kept(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        return without_owners(chunks) if self._load.proof.leaves_owners_out else chunks

    # how far it is

    def _now(self) -> str:
        """What is done of how much, and what is being built now."""
        with self._changed:
            board = self._board
            named = [name for task in board.at_work for name in names_of(task)]
        encoding = self._load.proof.encoding
        shown = ", ".join(readable(name, encoding) for name in named[:SHOWN])
        more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
        done = f"{board.tables_done} of {board.tables} tables, {board.indexes_done} of {board.indexes} indexes"
        return f"{done}; now {shown}{more}" if named else done
