"""Load a proven dump into an empty database, and demand that every row of it arrived.

psql by itself takes the end of its input inside COPY for the end of the rows, commits, and exits 0. Therefore it
must answer a nonce that is sent after the last verified byte, and the rows are counted again.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
import threading
from collections.abc import Iterator, Sequence

from hubbackup.errors import HubbackupError, NotProvenError, StreamError, ToolError, UnrestorableError
from hubbackup.jobs.run import Run
from hubbackup.postgres.databases import Databases
from hubbackup.postgres.identifiers import readable
from hubbackup.postgres.messages import explain
from hubbackup.postgres.session import Connection, open_psql
from hubbackup.postgres.without_owners import without_owners
from hubbackup.restore.analyze import LOAD_SUFFIX
from hubbackup.restore.proof import DumpProof
from hubbackup.restore.psql_compat import Dialect
from hubbackup.restore.source import Source
from hubbackup.runners import Process, Runner, tool_error
from hubbackup.runners.stderr import failed_statement, reason, sqlstate
from hubbackup.streams.cancel import Cancel
from hubbackup.verify.reader import checked_chunks

ANSWER_BYTES = 64 << 10
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
COPY_TAG = re.compile(rb"COPY ([0-9]+)\n")
OWN_CODE = "the database's own code (an event trigger, say) added them during the load"
UNTOUCHED = "the live database is as it was"


def load(
    run: Run,
    runner: Runner,
    connection: Connection,
    database: str,
    source: Source,
    proof: DumpProof,
    dialect: Dialect,
) -> list[int]:
    """Feed the proven dump to psql, and demand that psql got to its end; returns how many rows each COPY brought.

    Raises HubbackupError.
    """
    nonce = f"hubbackup-{secrets.token_hex(16)}"
    named = dataclasses.replace(connection, run_id=f"{connection.run_id}{LOAD_SUFFIX}")
    with open_psql(runner, named, database) as process:
        answers = _Answers(process)
        answers.start()
        broken: StreamError | None = None
        try:
            dialect = dataclasses.replace(dialect, load_path=connection.load_path)
            process.write(TELLING + dialect.opening() + RELAXED)
            for chunk in _text(run, source, proof, dialect):
                process.write(chunk)
            process.write(f"\nSELECT '{nonce}';\n".encode())
            process.close_stdin()
        except StreamError as error:
            broken = error  # psql ended early: what it said of the reason is better than this
        with run.progress("indexes and constraints", 0):
            text = answers.text(run.cancel)
            end = process.wait()
    if end.code != 0:
        failed = _load_failed(source.name, explain(tool_error("psql", end), connection.user, work="loading"))
        if proof.schema is None:
            failed.remedy += f"; {UNTOUCHED}"
        raise failed
    if broken is not None or nonce not in text.splitlines():
        raise NotProvenError(
            f"psql ended without an error before it had read all of {source.name}",
            remedy=f"{UNTOUCHED}; look into the database's log, and try again",
        )
    return answers.brought


def _text(run: Run, source: Source, proof: DumpProof, dialect: Dialect) -> Iterator[bytes]:
    """What psql is to read: the dump, or its schema alone. Raises HubbackupError where it is not what was proven."""
    chunks = (
        proof.schema.chunks(dialect.load_path) if proof.schema is not None else _dump(run, source, proof, dialect)
    )
    yield from without_owners(chunks) if proof.leaves_owners_out else chunks


def _dump(run: Run, source: Source, proof: DumpProof, dialect: Dialect) -> Iterator[bytes]:
    with source.open() as stream, run.progress("load", source.stored_bytes) as progress:
        decoder = source.format.decoder()
        yield from dialect.adapt(
            checked_chunks(stream, proof.expected, decoder, name=source.name, cancel=run.cancel, progress=progress)
        )


def _load_failed(name: str, failed: ToolError) -> HubbackupError:
    """UnrestorableError where the server refused a statement; another one where it could not do it, then."""
    code, statement = sqlstate(failed.stderr), failed_statement(failed.stderr)
    sentence = f"{name} could not be loaded: {failed}"
    if not code or code.startswith(PASSING):
        return HubbackupError(sentence, remedy=failed.remedy or "mend what the message names, and try again")
    mend = failed.remedy or MEND.get(code[:2], MEND_THE_SCHEMA)
    said = reason(failed.stderr).removeprefix("ERROR:").strip().rstrip(".")
    if not statement:
        return UnrestorableError(sentence, why=said, remedy=mend, sqlstate=code)
    why = f"{statement}: {said}"
    return UnrestorableError(f"{sentence}, at {statement}", why=why, remedy=mend, sqlstate=code)


def compare(databases: Databases, database: str, proof: DumpProof, brought: Sequence[int]) -> list[str]:
    """Demand that COPY `brought` each table the rows that the dump held, and that they are all there.

    Returns remarks on what the database's own code has added to them. Raises NotProvenError.
    """
    facts = proof.facts
    if len(brought) == len(facts.rows):  # one COPY a table, as pg_dump writes them
        for (table, wanted), taken in zip(facts.rows.items(), brought, strict=True):
            if taken != wanted:
                name = readable(table, proof.encoding)
                raise NotProvenError(f"the server took {taken} rows for {name}, the dump held {wanted}")
    elif sum(brought) != sum(facts.rows.values()):  # of a dump of somebody else's the sum has to do
        raise NotProvenError(f"the server took {sum(brought)} rows, the dump held {sum(facts.rows.values())}")
    counts, large_objects = databases.count(database, facts.rows, proof.encoding)
    remarks = []
    for table, wanted in facts.rows.items():
        found, of_extension = counts[table]
        name = readable(table, proof.encoding)
        if found < wanted:
            raise NotProvenError(f"{name} has {found} rows after the restore, the dump held {wanted}")
        if found > wanted and not of_extension:  # an extension fills its own tables first, the dump adds to them
            remarks.append(f"{name} has {found} rows, {found - wanted} more than the dump held: {OWN_CODE}")
    if large_objects < facts.large_objects:
        raise NotProvenError(
            f"there are {large_objects} large objects after the restore, the dump held {facts.large_objects}"
        )
    if more := large_objects - facts.large_objects:
        remarks.append(f"there are {more} more large objects than the dump held: {OWN_CODE}")
    return remarks


class _Answers(threading.Thread):
    """Reads psql's stdout while the dump is being written: neither side may block the other."""

    def __init__(self, process: Process) -> None:
        super().__init__(name="psql-answers", daemon=True)
        self._process = process
        self._tail = bytearray()
        self._line = b""
        self.brought: list[int] = []
        """The rows of each COPY so far."""
        self._error: HubbackupError | None = None

    def run(self) -> None:
        try:
            for chunk in self._process.chunks():
                self._tail += chunk
                del self._tail[:-ANSWER_BYTES]
                *lines, self._line = (self._line + bytes(chunk)).splitlines(keepends=True) or [b""]
                if self._line.endswith(b"\n"):
                    lines, self._line = [*lines, self._line], b""
                self.brought += [int(tag[1]) for line in lines if (tag := COPY_TAG.fullmatch(line))]
        except HubbackupError as error:
            self._error = error

    def text(self, cancel: Cancel) -> str:
        """The last 64 KiB, once stdout ended. Raises what broke the stream."""
        while self.is_alive():
            self.join(0.2)
            cancel.check()
        if self._error is not None:
            raise self._error
        return self._tail.decode("utf-8", "replace")
