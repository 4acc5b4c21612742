"""The live database as the other side of a comparison: its tables counted in one snapshot, and the rows of one table.

It only reads, in read-only transactions, and waits a minute at most for a lock.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hubbackup.catalog.backup import printable
from hubbackup.catalog.diff import Content, TableContent
from hubbackup.contents.table_rows import Block
from hubbackup.dump.identifiers import encoded, literal, plain_name, quoted
from hubbackup.dump.statement_subjects import parts
from hubbackup.dump.table_names import find_table, qualified
from hubbackup.errors import HubbackupError, UsageError
from hubbackup.postgres import client, pins
from hubbackup.postgres.live_catalog import BEGIN, COUNT_SQL, TABLES_SQL, table_sql
from hubbackup.postgres.messages import explain
from hubbackup.postgres.session import Connection, open_psql, sql
from hubbackup.runners import Runner, tool_error

LIVE = "live"
"""What stands for it where a backup could be named."""
_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}
_COUNTED = re.compile(r"([0-9]+)\|([0-9]+)")


@dataclass(frozen=True)
class LiveDatabase:
    """The database, and how it is reached. `connection` has a run id of its own."""

    runner: Runner
    connection: Connection
    database: str

    @property
    def where(self) -> str:
        """For people."""
        return f"the live database {self.database}"

    def content(self, known: Mapping[str, object]) -> Content:
        """How many rows each table has, all in one snapshot; under the name that a backup knows it by, where it does.

        Raises HubbackupError.
        """
        encoding, names, *counts = self._ask(COUNT_SQL, own_settings=True).splitlines()
        by_parts = {parts(name): name for name in known}
        found = {}
        tables = {oid: (schema, table) for oid, schema, table in _parsed(names, encoding)}
        for line in counts:
            if counted := _COUNTED.fullmatch(line):
                schema, table = tables[int(counted[1])]
                shown = tuple(_as_in_a_manifest(name, encoding) for name in (schema, table))
                name = by_parts.get(shown) or by_parts.get(shown[1:]) or qualified(*shown)
                found[name] = TableContent(int(counted[2]))
        return Content(found)

    def rows(self, typed: str) -> LiveRows:
        """The table that `typed` means. Raises UsageError, HubbackupError."""
        encoding, names = self._ask(TABLES_SQL).splitlines()
        titles = {printable(qualified(schema, table)): oid for oid, schema, table in _parsed(names, encoding)}
        title = find_table(typed, titles, self.where)
        answer = self._ask(table_sql(titles[title]))
        facts = _parsed(answer, encoding)
        if not facts:
            raise UsageError(f"there is no table {title} in {self.where} any more")
        (table,) = facts
        if kind := _KINDS.get(table["kind"]):
            raise UsageError(f"{title} is {kind} in {self.where}: a backup has no rows of it")
        leaves = table["leaves"] if table["kind"] == "p" else [table]
        return LiveRows(self, title, tuple(table["key"]), encoding, tuple(table["columns"]), leaves)

    def _ask(self, text: str, *, own_settings: bool = False) -> str:
        with self._ending():
            return sql(self.runner, self.connection, self.database, text, own_settings=own_settings)

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        """A session that is given up goes on in the server, unless it is ended there."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(HubbackupError):
                client.end_sessions(self.runner.detached(), self.connection, self.database, [self.connection.run_id])
            raise

    def copy(self, schema: str, table: str, columns: tuple[str, ...], encoding: str) -> Iterator[bytes]:
        """COPY's text of these columns of a table alone (ONLY), written as pg_dump has it written."""
        settings = "".join(f"SET {name} = {literal(value)};\n" for name, value in pins.FORMATS.items())
        names = ", ".join(map(quoted, columns))
        whole = f"{quoted(schema)}.{quoted(table)}"
        listed = f" ({names})" if columns else ""
        settings += f"SET client_encoding = {literal(encoding)};\n"
        script = f"{settings}{BEGIN}COPY {whole}{listed} TO STDOUT;\nCOMMIT;\n"
        with self._ending(), open_psql(self.runner, self.connection, self.database) as process:
            process.write(encoded(script, encoding))
            process.close_stdin()
            yield from map(bytes, process.chunks())
            end = process.wait()
            if end.code != 0:
                raise explain(tool_error("psql", end), self.connection.user, self.database)


@dataclass(frozen=True)
class LiveRows:
    """A table of the live database; see `TableRows`."""

    live: LiveDatabase
    title: str
    key: tuple[str, ...]
    encoding: str
    names: tuple[str, ...]
    leaves: list[dict[str, Any]]
    digest: tuple[str, ...] = ()
    row_bytes: int = 0

    @property
    def where(self) -> str:
        """For people."""
        return self.live.where

    def columns(self) -> tuple[str, ...]:
        """All but generated ones."""
        return self.names

    def blocks(self) -> Iterator[Block]:
        """Each partition in a transaction of its own."""
        for leaf in self.leaves:
            columns = tuple(leaf["columns"])
            yield columns, self.live.copy(leaf["schema"], leaf["name"], columns, self.encoding)


def _parsed(answer: str, encoding: str) -> Any:
    return json.loads(plain_name(bytes.fromhex(answer), encoding, unquoted=False))


def _as_in_a_manifest(name: str, encoding: str) -> str:
    return encoded(name, encoding).decode("utf-8", "backslashreplace")
