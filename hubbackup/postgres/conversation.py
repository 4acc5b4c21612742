"""A psql that is asked one thing after the other, in one session, which ends with it.

In one of `converse` nothing is committed but by `COMMIT`: however it ends before that, the server takes everything
back.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from hubbackup.dump.identifiers import literal
from hubbackup.errors import HubbackupError, NotProvenError, StreamError, ToolError
from hubbackup.postgres import pins, session
from hubbackup.postgres.messages import Work, explain
from hubbackup.postgres.session import Connection
from hubbackup.runners import Process, Runner, tool_error

END_OF_ROWS = b"\\."
OWN_PATH = "hubbackup.path"
"""The session's setting that keeps the search_path which the database gives its users."""


class Conversation:
    """Its text is UTF-8, with surrogate escapes for bytes that are not, in both directions."""

    def __init__(self, process: Process, user: str, work: Work = "recovering") -> None:
        """`work`: for which its errors are explained."""
        self._process = process
        self._work = work
        self._chunks = process.chunks()
        self._user = user
        self._rest = b""

    def say(self, text: str) -> list[str]:
        """Send statements; returns the lines that they answer. Raises ToolError, explained, where one fails."""
        nonce = f"hubbackup-{secrets.token_hex(16)}"
        self._write(f"{text}\nSELECT '{nonce}';\n".encode("utf-8", "surrogateescape"))
        return list(self._until(nonce))

    def ask(self, query: str) -> str:
        """The one line that a query answers. psql looks for nothing of its own (`:name`, a backslash) in it."""
        lines = self.say(f"SELECT {literal(query)} \\gexec")
        return lines[0] if lines else ""

    def copy(self, statement: str, rows: Iterable[bytes]) -> None:
        r"""Send `COPY … FROM stdin` and its rows, bytes in chunks of any size.

        Raises NotProvenError before psql could take anything of them for the end of the rows, and then for SQL.
        """
        self._write(f"{statement};\n".encode("utf-8", "surrogateescape"))
        last = b"\n"
        for chunk in rows:
            if b"\n" + END_OF_ROWS in last + chunk:
                raise NotProvenError("there is the end of the rows in the middle of them")
            self._write(chunk)
            last = (last + chunk)[-len(END_OF_ROWS) :]
        if not last.endswith(b"\n"):
            raise NotProvenError("the last of the rows has no end")
        self._write(END_OF_ROWS + b"\n")

    def end(self) -> None:
        """Wait until psql has ended, and with it its session. Raises ToolError where it could not."""
        self._process.close_stdin()
        for _ in self._chunks:
            pass
        if self._process.wait().code != 0:
            raise self._ended()

    def _write(self, data: bytes) -> None:
        try:
            self._process.write(data)
        except StreamError as error:
            for _ in self._chunks:  # psql ended: what it said of the reason is better than this
                pass
            raise self._ended() from error

    def _until(self, nonce: str) -> Iterator[str]:
        for chunk in self._chunks:
            *lines, self._rest = (self._rest + bytes(chunk)).split(b"\n")
            for number, line in enumerate(lines):
                text = line.decode("utf-8", "surrogateescape")
                if text == nonce:
                    self._rest = b"\n".join([*lines[number + 1 :], self._rest])
                    return
                yield text
        raise self._ended()

    def _ended(self) -> HubbackupError:
        end = self._process.wait()
        if end.code == 0:
            return NotProvenError("psql ended without an error before it had answered")
        error = tool_error("psql", end)
        explained = explain(error, self._user, work=self._work)
        return ToolError(
            str(explained), remedy=explained.remedy, exit_code_of_tool=error.exit_code_of_tool, stderr=error.stderr
        )


@contextmanager
def converse(runner: Runner, connection: Connection, database: str) -> Iterator[Conversation]:
    """A conversation in one transaction; all in it is rolled back at the end, but for what was committed.

    Its names, formats and search_path are pinned inside of the transaction: a pooler may give it another session
    than the one that heard the preamble.
    """
    session.sql(
        runner, connection, database, "SELECT;"
    )  # finds out how this role may connect, and tells what is wrong
    with session.open_psql(runner, connection, database) as process:
        talk = Conversation(process, connection.user)
        talk.say(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;\n"
            f"SELECT pg_catalog.set_config('{OWN_PATH}', pg_catalog.current_setting('search_path'), true);\n"
            + pins.in_transaction()
            + "SET LOCAL row_security = off;"  # rows that are hidden from the role are an error, not missing
        )
        yield talk
