"""A psql in the new database that is given a dump, or a part of it, and answers once it has done all of that.

psql by itself takes the end of its input inside COPY for the end of the rows, commits, and exits 0. Therefore it
must answer a nonce that is sent after the last byte.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from hubbackup.errors import (
    HubbackupError,
    NoDataConnectionError,
    NotProvenError,
    StreamError,
    ToolError,
    UnrestorableError,
)
from hubbackup.load.analyze import LOAD_SUFFIX
from hubbackup.load.loader import Load
from hubbackup.postgres.messages import explain
from hubbackup.postgres.session import open_psql
from hubbackup.runners import Exit, Process, tool_error
from hubbackup.runners.stderr import failed_statement, reason, sqlstate
from hubbackup.streams.cancel import TICK_SECONDS, Cancel

RELAXED = b"SET synchronous_commit = off;\n"
"""Thousands of small commits need not each wait for the disk: the swap's commit, which comes after them in the same
log, does (`databases.DURABLE`), and until then nobody knows of the new database."""
TELLING = b"\\set QUIET off\n\\set ECHO errors\n"
"""psql says after each COPY how many rows the server took, and which statement failed. Before the dialect's opening,
which forbids commands."""
PASSING = ("08", "40", "53", "57", "58", "55P03")
"""SQLSTATEs of a server that could not, then: no connection, no memory, no lock. All others refuse what it read."""
MEND = {
    "42": "a name in it is not found when the schema is made anew, as a rule one without its schema in the body of a"
    " function: qualify it there, or ALTER FUNCTION … SET search_path = public; then take a new backup",
}
"""What to do by the class of the SQLSTATE."""
MEND_THE_SCHEMA = "mend what the message names in the live database, then take a new backup"
BULK_BYTES = 32 << 20
"""So many bytes of rows are worth a data connection for each session."""
LINE_BYTES = 4096
"""Of a line that psql prints, so much is looked at."""
COPY_TAG = re.compile(rb"COPY ([0-9]+)")
UNTOUCHED = "the live database is as it was"


class LoadSession:
    """Takes SQL and rows from one thread, while another reads what psql says: neither side may block the other.

    `name` is the backup's, for errors. Each method raises HubbackupError: what psql said, where it has ended.
    """

    def __init__(self, process: Process, name: str, user: str, cancel: Cancel, *, is_trial: bool = False) -> None:
        """`is_trial`: there is no live database that a failure could have touched."""
        self._process = process
        self._name = name
        self._is_trial = is_trial
        self._user = user
        self._cancel = cancel
        self._answers = _Answers(process)
        self._answers.start()

    def write(self, data: bytes) -> None:
        """Some more of what psql reads."""
        try:
            self._process.write(data)
        except StreamError as error:  # psql ended early: what it said of the reason is better than this
            raise self._ended() from error

    def feed(self, chunks: Iterable[bytes]) -> None:
        """All of the chunks."""
        for chunk in chunks:
            self.write(chunk)

    def ask(self) -> list[int]:
        """Demand that psql has done all of what it was given; returns how many rows each COPY since then brought."""
        nonce = self._send_nonce()
        if not self._answers.wait_for(nonce, self._cancel):
            raise self._ended()
        return self._answers.take_brought()

    def finish(self) -> list[int]:
        """As `ask`, for the last time: then psql has ended in peace."""
        nonce = self._send_nonce()
        self._process.close_stdin()
        self._answers.wait_for_end(self._cancel)
        end = self._process.wait()
        if end.code != 0 or not self._answers.has(nonce):
            raise self._told(end)
        return self._answers.take_brought()

    def _send_nonce(self) -> bytes:
        nonce = f"hubbackup-{secrets.token_hex(16)}".encode()
        self.write(b"\nSELECT '%s';\n" % nonce)
        return nonce

    def _ended(self) -> HubbackupError:
        """Why psql has ended before it was told to. Raises what broke the stream."""
        self._answers.wait_for_end(self._cancel)
        return self._told(self._process.wait())

    def _told(self, end: Exit) -> HubbackupError:
        if end.code != 0:
            return self._failed(tool_error("psql", end))
        return NotProvenError(
            f"psql ended without an error before it had read all of {self._name}",
            remedy=f"{UNTOUCHED}; look into the database's log, and try again",
        )

    def _failed(self, error: ToolError) -> HubbackupError:
        failed = self._explained(explain(error, self._user, work="loading"))
        if not self._is_trial:
            failed.remedy += f"; {UNTOUCHED}"
        return failed

    def _explained(self, failed: ToolError) -> HubbackupError:
        """UnrestorableError where the server refused a statement; another one where it could not do it, then."""
        code, statement = sqlstate(failed.stderr), failed_statement(failed.stderr)
        sentence = f"{self._name} could not be loaded: {failed}"
        if not code or code.startswith(PASSING):
            return HubbackupError(sentence, remedy=failed.remedy or "mend what the message names, and try again")
        mend = failed.remedy or MEND.get(code[:2], MEND_THE_SCHEMA)
        said = reason(failed.stderr).removeprefix("ERROR:").strip().rstrip(".")
        if not statement:
            return UnrestorableError(sentence, why=said, remedy=mend, sqlstate=code)
        why = f"{statement}: {said}"
        return UnrestorableError(f"{sentence}, at {statement}", why=why, remedy=mend, sqlstate=code)


@contextmanager
def open_load_session(
    load: Load, cancel: Cancel, opening: bytes, *, buffers_input: bool = False
) -> Iterator[LoadSession]:
    """A session that loads the backup, or a part; `opening` is what it is told first. Leaving ends it, done or not.

    `buffers_input` as `open_psql` has it.
    """
    named = dataclasses.replace(load.connection, run_id=f"{load.connection.run_id}{LOAD_SUFFIX}")
    open_process = partial(open_psql, load.runner.under(cancel), named, load.database, buffers_input=buffers_input)
    with ExitStack() as stack:
        try:
            process = stack.enter_context(open_process(bulk=load.row_bytes >= BULK_BYTES))
        except NoDataConnectionError as error:
            if load.relay_told.acquire(blocking=False):
                message = f"rows go through the Docker engine, which is slower: {error}"
                load.run.log.info("load.relayed", message=message)
            process = stack.enter_context(open_process())
        is_trial = load.proof.schema is not None
        session = LoadSession(process, load.source.name, load.connection.user, cancel, is_trial=is_trial)
        session.write(TELLING + opening + RELAXED)
        yield session


class _Answers(threading.Thread):
    """Reads psql's stdout while the dump is being written."""

    def __init__(self, process: Process) -> None:
        super().__init__(name="psql-answers", daemon=True)
        self._process = process
        self._line = b""
        self._changed = threading.Condition()
        self._brought: list[int] = []
        self._last = b""
        self._ended = False
        self._error: HubbackupError | None = None

    def run(self) -> None:
        try:
            for chunk in self._process.chunks():
                self._take(bytes(chunk))
        except HubbackupError as error:
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _take(self, chunk: bytes) -> None:
        *lines, rest = (self._line + chunk).split(b"\n")
        self._line = rest[:LINE_BYTES]
        if not lines:
            return
        with self._changed:
            self._brought += [int(tag[1]) for line in lines if (tag := COPY_TAG.fullmatch(line))]
            self._last = lines[-1]
            self._changed.notify_all()

    def wait_for(self, nonce: bytes, cancel: Cancel) -> bool:
        """Wait until psql has answered it, or (False) ended. Raises what broke the stream."""
        self._wait(lambda: self._ended or self._last == nonce, cancel)
        return self.has(nonce)

    def wait_for_end(self, cancel: Cancel) -> None:
        """Wait until psql says nothing more. Raises what broke the stream."""
        self._wait(lambda: self._ended, cancel)

    def has(self, nonce: bytes) -> bool:
        """Whether it is the last thing that psql has said."""
        return self._last == nonce

    def _wait(self, is_there: Callable[[], bool], cancel: Cancel) -> None:
        with self._changed:
            while not is_there():
                self._changed.wait(TICK_SECONDS)
                cancel.check()
        if self._error is not None:
            raise self._error

    def take_brought(self) -> list[int]:
        """The rows of each COPY since the last time."""
        with self._changed:
            taken, self._brought = self._brought, []
        return taken
