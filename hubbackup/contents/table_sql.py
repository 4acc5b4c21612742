"""A table as SQL that psql loads into an empty database: what it needs, its DDL, its rows, then indexes and keys.

What would need other tables or roles is left out, and named in comments at the top.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from hubbackup.contents.needed import Needed, needed_by
from hubbackup.contents.tables import Table, Tables
from hubbackup.dump.dump_rows import END_OF_ROWS
from hubbackup.dump.dump_statements import NAME
from hubbackup.dump.statement_subjects import Kind, Name, parts, shown, subject_of
from hubbackup.dump.table_ddl import Piece, ddl_of_several

_SETTING = re.compile(
    rb"SET (?:client_encoding|standard_conforming_strings|check_function_bodies|xmloption|client_min_messages"
    rb"|row_security) = |SELECT pg_catalog\.set_config\("
)
"""Others are timeouts, or not known to every server."""
_OF_ROLES: frozenset[Kind] = frozenset({"owner", "grant", "publication", "label"})
_OF_OTHERS: frozenset[Kind] = frozenset({"trigger", "rule", "policy"})
_COMMENT_ON_OTHER = re.compile(rb"COMMENT ON (?:TRIGGER|RULE|POLICY) ")
_COMMENT_ON_CONSTRAINT = re.compile(rb"COMMENT ON CONSTRAINT (" + NAME + rb") ON ")
_REFERENCES = re.compile(rb" REFERENCES (" + NAME + rb"\." + NAME + rb")")
_TABLESPACE = b"SET default_tablespace "
_SETVAL_START = b"SELECT pg_catalog.setval("
_SETVAL = re.compile(rb"SELECT pg_catalog\.setval\('((?:[^']|'')*)', -?[0-9]+, (?:true|false)\);", re.DOTALL)


def table_sql(tables: Tables, table: Table) -> Iterator[bytes]:
    """The SQL, in chunks. Raises NotProvenError, at the end of rows that are not those of the index."""
    own = _with_parents(tables.pre_data, {parts(name) for name in table.members})
    script = _Script(own)
    for piece in ddl_of_several(tables.pre_data, own, tables.post_data()):
        script.take(piece)
    needed = needed_by(script.before + script.behind, tables.pre_data, own | script.makes)
    yield b"".join(_top(tables, table, script, needed))
    yield _statements([*_settings(tables.pre_data), *needed.statements, *script.before])
    for pieces in tables.parts.blocks(table.blocks):
        yield from pieces
        yield END_OF_ROWS + b"\n"
    yield _statements([*_sequence_values(tables, script.sequences | needed.makes), *script.behind])


@dataclass
class _Script:
    """The statements of some tables, in the order of their use. `left_out`: those that can't be."""

    own: set[Name]
    before: list[bytes] = field(default_factory=list)
    behind: list[bytes] = field(default_factory=list)
    left_out: list[bytes] = field(default_factory=list)
    makes: set[Name] = field(default_factory=set)
    sequences: set[Name] = field(default_factory=set)
    with_roles: bool = False
    """Something about roles was left out."""
    _left_out_keys: set[bytes] = field(default_factory=set)

    def take(self, piece: Piece) -> None:
        """The next piece, in the dump's order."""
        if piece.kind in _OF_ROLES:
            self.with_roles = True
        elif piece.text.startswith(_TABLESPACE) or self._is_about_what_is_left_out(piece):
            return
        elif self._is_of_others(piece):
            self.left_out.append(piece.text)
        else:
            (self.behind if piece.after_data else self.before).append(piece.text)
            if piece.subject is not None and piece.subject.makes:
                self.makes.add(piece.subject.makes)
                if piece.kind in ("sequence", "identity"):
                    self.sequences.add(piece.subject.makes)

    def _is_about_what_is_left_out(self, piece: Piece) -> bool:
        if piece.kind != "comment":
            return False
        constraint = _COMMENT_ON_CONSTRAINT.match(piece.text)
        return bool(_COMMENT_ON_OTHER.match(piece.text)) or (
            constraint is not None and constraint[1] in self._left_out_keys
        )

    def _is_of_others(self, piece: Piece) -> bool:
        """Whether it can't be without another table, or could not be run without knowing what it does."""
        if piece.kind in ("partition", "inherit"):
            of = piece.subject.of if piece.subject is not None else ()
            return not set(of) <= self.own | self.makes
        if piece.kind == "foreign key":
            referenced = _REFERENCES.search(piece.text)
            if referenced is not None and parts(shown(referenced[1])) in self.own:
                return False
            self._left_out_keys.update(re.findall(rb"ADD CONSTRAINT (" + NAME + rb") ", piece.text)[:1])
            return True
        return piece.kind in _OF_OTHERS


def _with_parents(pre_data: Sequence[bytes], tables: set[Name]) -> set[Name]:
    """The tables, and those that they inherit from: what is inherited is written there alone."""
    above: dict[Name, tuple[Name, ...]] = {}
    for statement in pre_data:
        subject = subject_of(statement) if b"\nINHERITS (" in statement else None
        if subject is not None and subject.kind == "table":
            above[subject.of[0]] = subject.of[1:]
    found, waiting = set(tables), list(tables)
    while waiting:
        new = [name for name in above.get(waiting.pop(), ()) if name not in found]
        found.update(new)
        waiting += new
    return found


def _settings(pre_data: Sequence[bytes]) -> Iterator[bytes]:
    for statement in pre_data:
        if statement.startswith(b"CREATE "):
            return
        if _SETTING.match(statement):
            yield statement


def _top(tables: Tables, table: Table, script: _Script, needed: Needed) -> Iterator[bytes]:
    yield _comment(f"{table.title} as it was in {tables.parts.name}, for an empty database: psql -f FILE")
    for name in sorted(script.own - {parts(member) for member in table.members}):
        yield _comment(f"Made too, without its rows: {'.'.join(name)}, which it inherits from")
    for remark in needed.remarks:
        yield _comment(remark)
    if script.with_roles:
        yield _comment("Left out: owners, rights, publications and security labels")
    for statement in script.left_out:
        yield b"-- Left out: " + b" ".join(statement.split()) + b"\n"
    yield b"\n"


def _comment(text: str) -> bytes:
    return b"-- " + " ".join(text.split()).encode("utf-8", "backslashreplace") + b"\n"


def _statements(texts: Iterable[bytes]) -> bytes:
    return b"".join(text + b"\n\n" for text in texts)


def _sequence_values(tables: Tables, sequences: set[Name]) -> Iterator[bytes]:
    """Where these sequences stood: pg_dump says so behind the last table's rows."""
    index, wanted = tables.parts.index, set(sequences)
    if not wanted:
        return
    for statement in _setvals(tables.parts.plain(index.tables[-1].end if index.tables else index.data_start, None)):
        found = _SETVAL.fullmatch(statement)
        name = parts(shown(found[1].replace(b"''", b"'"))) if found else ()
        if name in wanted:
            wanted.discard(name)
            yield statement
        if not wanted:
            return


def _setvals(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The statements that set sequences, as long as there is nothing else but comments."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        statement = b""
        for number, line in enumerate(lines):
            statement += line
            if statement.startswith(_SETVAL_START) and not statement.endswith(b");"):
                statement += b"\n"  # a name that has several lines
                if number == len(lines) - 1:
                    rest = statement + rest
                continue
            if statement.startswith(_SETVAL_START):
                yield statement
            elif statement and not statement.startswith(b"--"):
                return
            statement = b""
